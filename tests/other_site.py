"""A web site of its own in a real nginx, with our application below ``/badge/``, as ``docs/operations.md`` has it."""

import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import httpx

from microblog_rt import files
from tests.proxies import block
from tests.server_process import DEADLINE, Server
from tests.services import BOUND
from tests.waiting import until

PREFIX = "/badge"
ENVIRON = {"MICROBLOG_PATH_PREFIX": PREFIX, "MICROBLOG_TRUSTED_HOPS": "1"}
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
DEPLOYED = (files.CHECKOUT / "deploy" / "nginx.conf").read_text()

CONFIGURATION = """
pid FOLDER/nginx.pid;
events {}
http {
    access_log FOLDER/access.log;
    types { text/html html; text/javascript js; }
    MAPS
    server {
        listen 127.0.0.1:PORT;
        absolute_redirect off;
        root SITE;
        LOCATIONS
    }
}
"""


class OtherSite(Server):
    """nginx with a site in the folder ``site``, in front of one server.

    ``url`` is the address of our application, ``root`` that of the other site.
    """

    def __init__(self, folder: Path, behind: Server) -> None:
        super().__init__(folder, environ=ENVIRON)
        self.password = behind.password
        self.root = self.url.removesuffix(PREFIX)
        self._folder = TemporaryDirectory()  # nginx's workers are another user's, and pytest's folders are private
        self.site = Path(self._folder.name)
        self._behind = behind

    def start(self) -> None:
        assert NGINX, "nginx is missing: apt-get install nginx"
        self.site.chmod(0o755)
        (self.site / "index.html").write_text("<!doctype html><title>Another site</title>")
        (upgrade,) = re.findall(r"    map \$http_upgrade [^}]*}\n", DEPLOYED)
        (upstream,) = re.findall(r"    upstream microblog {[^}]*}\n", DEPLOYED)
        servers = {"server app1:8000": f"server 127.0.0.1:{self._behind.port}", "server app2:8000 max_fails=0;": ""}
        for wanted, here in servers.items():
            assert upstream.count(wanted) == 1
            upstream = upstream.replace(wanted, here)
        text = CONFIGURATION.replace("MAPS", upgrade + upstream).replace("LOCATIONS", block("as it arrived:"))
        text = text.replace("SITE", str(self.site)).replace("FOLDER", str(self.folder)).replace("PORT", str(self.port))
        (self.folder / "nginx.conf").write_text(text)
        command = [
            NGINX,
            "-e",
            str(self.folder / "error.log"),
            "-p",
            str(self.folder),
            "-c",
            f"{self.folder}/nginx.conf",
        ]
        tried = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert tried.returncode == 0, tried.stderr
        self._running = subprocess.Popen([*BOUND, *command, "-g", "daemon off;"])
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.root).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        with self._folder, self._running as running:
            running.terminate()
            running.wait(DEADLINE)
