"""What somebody is signed in with, in words, out of what the browser calls itself.

As much as its owner needs to know it again: no versions. Browsers call themselves by the names of others as well,
so the first word of a table that is found decides.
"""

import re
from collections.abc import Callable

BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "Opera": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Vivaldi/": "Vivaldi",
    "YaBrowser/": "Yandex Browser",
    "FxiOS/": "Firefox",
    "Firefox/": "Firefox",
    "CriOS/": "Chrome",
    "Chromium/": "Chromium",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
    "Trident/": "Internet Explorer",
    "MSIE ": "Internet Explorer",
}
SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "CrOS": "ChromeOS",
    "Windows": "Windows",
    "Macintosh": "macOS",
    "Linux": "Linux",
    "BSD": "BSD",
}
PROGRAM = re.compile(r"(?!Mozilla\b)[A-Za-z][\w.+-]{1,30}(?=[/ ]|$)", re.ASCII)


def in_words(user_agent: str, gettext: Callable[..., str]) -> str:
    """“Firefox on Linux”, or what of it can be told; of a program its name; as ``gettext`` puts it."""
    program = PROGRAM.match(user_agent)
    browser = _first(BROWSERS, user_agent) or (program[0] if program else "")
    system = _first(SYSTEMS, user_agent)
    if browser and system:
        return gettext("%(browser)s on %(system)s", browser=browser, system=system)
    return browser or system or gettext("Unknown device")


def _first(table: dict[str, str], user_agent: str) -> str:
    return next((name for word, name in table.items() if word in user_agent), "")
