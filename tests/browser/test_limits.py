"""More pages open than one may have at once: the others poll, and are right all the same."""

import pytest

from tests.browser.conftest import Arrive
from tests.browser.people import HELD, POLL, Sender, Tab
from tests.browser.timings import Timings

TAB_CAP = {"MICROBLOG_TABS_PER_USER": "1"}


@pytest.mark.parametrize("environ", [TAB_CAP], ids=["one tab a user"])
async def test_a_page_over_the_cap_polls(arrive: Arrive, sender: Sender, timings: Timings) -> None:
    bob = await arrive("bob")
    first = bob.tabs[0]
    await first.listens()
    page = await bob.context.new_page()
    second = Tab(page)
    async with page.expect_response(HELD) as refused, page.expect_response(POLL) as polled:
        await page.goto("/")
    assert (await refused.value).status == 429
    assert (await polled.value).status == 200
    sent = await sender.send("bob", "to both")
    timings.check("the page with the socket", sent, await first.shows(1), 1)
    timings.check("the page over the cap, that polls", sent, await second.shows(1), 7)
