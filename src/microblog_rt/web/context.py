"""The services, as a page reaches them."""

from typing import cast

from quart import current_app

from microblog_rt.services import Services


def services() -> Services:
    """The services of the application that answers the current request."""
    return cast(Services, current_app.extensions["services"])
