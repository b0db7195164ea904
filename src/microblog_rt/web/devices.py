"""A device's description from its User-Agent, such as “Firefox on Linux”, without versions.

A User-Agent also contains the names of other browsers: the first match in table order decides.
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


def describe(user_agent: str, gettext: Callable[..., str]) -> str:
    """The description, translated by ``gettext``: browser and system, either, a program's name, or unknown."""
    program = PROGRAM.match(user_agent)
    browser = _first(BROWSERS, user_agent) or (program[0] if program else "")
    system = _first(SYSTEMS, user_agent)
    if browser and system:
        return gettext("%(browser)s on %(system)s", browser=browser, system=system)
    return browser or system or gettext("Unknown device")


def _first(table: dict[str, str], user_agent: str) -> str:
    return next((name for word, name in table.items() if word in user_agent), "")
