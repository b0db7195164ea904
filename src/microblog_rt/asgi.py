"""``microblog_rt.asgi:app`` for any ASGI server, settings from the environment.

``microblog-rt serve`` is better: it refuses WebSocket compression and knows how to stop.
"""

import os

from microblog_rt.app import create_app
from microblog_rt.settings import Settings
from microblog_rt.storage import migrations

settings = Settings.from_environ(os.environ)
migrations.check(settings.database_url)
app = create_app(settings)
