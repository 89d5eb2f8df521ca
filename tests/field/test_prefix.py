"""A server below a path of a web server, as nginx has it."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import until_told
from calls import PICTURE, receives, running
from playwright.async_api import async_playwright
from rtc_network import free_port
from waiting import blocked_until, listens

NGINX = shutil.which("nginx")
CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [pytest.mark.field, pytest.mark.skipif(NGINX is None, reason="needs nginx")]

SITE = """
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{port};
        location {prefix} {{
            proxy_pass http://127.0.0.1:{backend}/;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, prefix: str, backend: int) -> Iterator[str]:
    """Run nginx with the server below a prefix; give its host and port."""
    port = free_port()
    (folder / "nginx.conf").write_text(SITE.format(folder=folder, port=port, prefix=prefix, backend=backend))
    command = [str(NGINX), "-p", str(folder), "-c", f"{folder}/nginx.conf", "-e", f"{folder}/errors"]
    process = subprocess.Popen([*command, "-g", "daemon off;"])
    try:
        blocked_until(lambda: listens(port))
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


async def watch(address: str) -> None:
    """Open a page, until its viewer shows a moving picture."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--no-proxy-server"]
        )
        page = await browser.new_page()
        await page.goto(address)
        await until_told(lambda: page.evaluate("window.synopticon?.frames > 5"))  # it forbids to be waited on
        await browser.close()


@pytest.mark.parametrize("prefix", ["/cam/", "/lab/cameras/1/", "/"])
def test_a_call_plays_below_any_prefix(tmp_path: Path, prefix: str) -> None:
    with running("signaling", "--port", "0") as server:
        backend = int(server.next("ready")["url"].rpartition(":")[2].removesuffix("/ws"))
        with nginx(tmp_path, prefix, backend) as host:
            url = f"ws://{host}{prefix}ws"
            with running("broadcast", *PICTURE, "--url", url, "--name", "lab 1") as broadcast:
                assert broadcast.next("ready")["viewer"] == f"http://{host}{prefix}?from=lab+1"
                assert receives("--url", url) == 5


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}")
@pytest.mark.parametrize("page", ["", "index.html"])
def test_the_viewer_plays_below_a_prefix(tmp_path: Path, page: str) -> None:
    with running("broadcast", *PICTURE, "--serve", "0") as broadcast:
        backend = int(broadcast.next("ready")["url"].rpartition(":")[2].removesuffix("/ws"))
        with nginx(tmp_path, "/cam/", backend) as host:
            asyncio.run(watch(f"http://{host}/cam/{page}"))
