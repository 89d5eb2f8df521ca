"""Real browsers: Chromium over Playwright, and Firefox over WebDriver BiDi, as Playwright takes none but its own."""

import asyncio
import contextlib
import itertools
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from playwright.async_api import async_playwright
from websockets.asyncio.client import connect

Tab = Callable[[str], Awaitable[Any]]
"""Evaluates an expression in a page; its value must be JSON."""
Browser = Callable[[str], AbstractAsyncContextManager[Tab]]
"""Opens an address in a tab of its own."""
T = TypeVar("T")

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",  # a camera that shows a test picture
    "--use-fake-ui-for-media-stream",
]

FIREFOX = Path("/usr/bin/firefox-esr")
FIREFOX_PREFERENCES = {
    # Nothing but this machine is reached: the proxy is not there, and the loopback needs none.
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.share_proxy_settings": True,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "network.dns.disablePrefetch": True,
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.autoplay.default": 0,
    "media.gmp-manager.updateEnabled": False,
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "http://127.0.0.1:9/",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.server": "",
}


async def until_told(ask: Callable[[], Awaitable[T]], seconds: float = 60) -> T:
    """Ask until the answer is true, and return it: a page tells nothing by itself.

    Raises:
        TimeoutError: It has not become true.
    """
    async with asyncio.timeout(seconds):
        while not (answer := await ask()):  # noqa: ASYNC110 - as it says
            await asyncio.sleep(0.05)
        return answer


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the files of a folder over HTTP; gives the address."""
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.asynccontextmanager
async def chromium(*arguments: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*CHROMIUM_ARGUMENTS, *arguments])

        @contextlib.asynccontextmanager
        async def open_tab(url: str) -> AsyncIterator[Tab]:
            async with await browser.new_context() as context:
                page = await context.new_page()
                await page.goto(url)
                yield page.evaluate

        yield open_tab
        await browser.close()


@contextlib.asynccontextmanager
async def firefox() -> AsyncIterator[Browser]:
    with firefox_profile() as profile:
        process = await asyncio.create_subprocess_exec(
            *(FIREFOX, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(60):
                url = await bidi_url(profile / "WebDriverBiDiServer.json")
            async with bidi(url) as command:
                yield partial(open_bidi_tab, command)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


@contextlib.contextmanager
def firefox_profile() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        profile = Path(folder)
        lines = (
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in FIREFOX_PREFERENCES.items()
        )
        (profile / "user.js").write_text("".join(lines))
        yield profile


async def bidi_url(told: Path) -> str:
    """Wait for the file in which Firefox tells where it listens."""
    while True:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            address = json.loads(told.read_text())  # noqa: ASYNC240 - two lines, at start-up
            return f"ws://{address['ws_host']}:{address['ws_port']}/session"
        await asyncio.sleep(0.05)


Command = Callable[..., Awaitable[dict[str, Any]]]


@contextlib.asynccontextmanager
async def bidi(url: str) -> AsyncIterator[Command]:
    """Open a WebDriver BiDi session (W3C): commands with an id, answered in any order."""
    ids = itertools.count(1)
    answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async with connect(url, compression=None, max_size=None) as websocket:

        async def command(method: str, **params: Any) -> dict[str, Any]:
            number = next(ids)
            answers[number] = asyncio.get_running_loop().create_future()
            await websocket.send(json.dumps({"id": number, "method": method, "params": params}))
            answer = await answers[number]
            if answer["type"] != "success":
                raise RuntimeError(f"{method}: {answer['error']}: {answer['message']}")
            result: dict[str, Any] = answer["result"]
            return result

        async def read() -> None:
            async for data in websocket:
                answer = json.loads(data)
                if "id" in answer:  # else an event
                    answers.pop(answer["id"]).set_result(answer)

        reading = asyncio.create_task(read())
        await command("session.new", capabilities={})
        yield command
        await command("browser.close")
        await reading


@contextlib.asynccontextmanager
async def open_bidi_tab(command: Command, url: str) -> AsyncIterator[Tab]:
    context = (await command("browsingContext.create", type="tab"))["context"]
    await command("browsingContext.navigate", context=context, url=url, wait="complete")

    async def evaluate(expression: str) -> Any:
        answer = await command(
            "script.evaluate",
            expression=f"JSON.stringify({expression})",
            target={"context": context},
            awaitPromise=False,
        )
        if answer["type"] != "success":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        value = answer["result"].get("value")
        return None if value is None else json.loads(value)

    try:
        yield evaluate
    finally:
        await command("browsingContext.close", context=context)


BROWSERS = {"chromium": (CHROMIUM, chromium), "firefox": (FIREFOX, firefox)}
