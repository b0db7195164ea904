"""Pages over the limit of connections poll, and still show the right badge."""

import pytest

from tests.browser.browser_users import HELD_POLL, POLL, Sender, Tab
from tests.browser.conftest import OpenBrowser
from tests.browser.durations import Durations

TAB_LIMIT = {"MICROBLOG_TABS_PER_USER": "1"}


@pytest.mark.parametrize("environ", [TAB_LIMIT], ids=["one tab per user"])
async def test_page_over_tab_limit_polls(open_browser: OpenBrowser, sender: Sender, durations: Durations) -> None:
    bob = await open_browser("bob")
    first = bob.tabs[0]
    await first.wait_for_frame()
    elsewhere = await open_browser(storage_state=await bob.context.storage_state())  # shares no connection with bob
    page = await elsewhere.context.new_page()
    second = Tab(page)
    async with page.expect_response(HELD_POLL) as refused, page.expect_response(POLL) as polled:
        await page.goto("/")
    assert (await refused.value).status == 429
    assert (await polled.value).status == 200
    sent = await sender.send("bob", "to both")
    durations.check("the page with the socket", sent, await first.wait_for_badge(1), 1)
    durations.check("the page over the limit, which polls", sent, await second.wait_for_badge(1), 7)
