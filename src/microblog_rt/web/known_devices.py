"""The device cookie: marks of the accounts that this browser has signed in to before.

See also: ``accounts/devices.py``.
"""

import re
from typing import Any

from quart import Quart, Response, current_app, g, request

from microblog_rt.accounts import Device
from microblog_rt.models import User
from microblog_rt.web.context import services
from microblog_rt.web.forms import BROWSER_LIFETIME, browser_id, renew_browser_cookie

ACCOUNTS = 5  # of one browser; the longest unused is forgotten
FORMAT = re.compile(rf"[\w-]{{22}}(?:\.[\w-]{{22}}){{0,{ACCOUNTS - 1}}}", re.ASCII)


def init(app: Quart, cookie_name: str, attributes: dict[str, Any]) -> None:
    """Send the cookie that ``remember`` has set."""
    app.config["DEVICE_COOKIE_NAME"] = cookie_name

    @app.after_request
    async def send_cookie(response: Response) -> Response:
        if "device_marks" in g:
            marks, age = ".".join(g.device_marks), BROWSER_LIFETIME
            response.set_cookie(cookie_name, marks, max_age=age, **attributes)
        return response


def device() -> Device:
    """This browser, with the marks in its cookie."""
    sent = request.cookies.get(current_app.config["DEVICE_COOKIE_NAME"], "")
    return Device(browser_id(), tuple(sent.split(".")) if FORMAT.fullmatch(sent) else ())


def remember(user: User) -> None:
    """Make this browser a known device of ``user``, who has just signed in."""
    known = device()
    mark = services().accounts.device_mark(known.id, user)
    g.device_marks = [mark, *(each for each in known.marks if each != mark)][:ACCOUNTS]
    renew_browser_cookie()
