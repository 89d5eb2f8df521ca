"""An application of one's own with FastAPI: it broadcasts, and a page of its own asks who may watch.

pip install fastapi uvicorn, and then uvicorn --app-dir examples fastapi_app:app. Needs a signaling server:
python -m synopticon_rtc.signaling (SYNOPTICON_URL names another); it has the page to watch with. SYNOPTICON_SOURCE is
what to broadcast, such as portrait, instead of the first camera.
"""

import asyncio
import contextlib
import html
import os
from collections.abc import AsyncIterator

import cv2
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from synopticon_rtc import Broadcaster, Visitor

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<title>Who may watch</title><h1>Who may watch</h1><img src="picture.jpg" alt="What is broadcast" width="320">
<h2>They ask</h2><ul>{asking}</ul><h2>They watch</h2><ul>{watching}</ul></html>"""
ITEM = '<li>{name} <form method="post" action="{action}/{session}"><button>{words}</button></form></li>'

asking: dict[str, tuple[Visitor, asyncio.Future[bool]]] = {}


async def admit(visitor: Visitor) -> bool:
    """Wait until somebody presses the button."""
    answer = asyncio.get_running_loop().create_future()
    asking[visitor.session] = visitor, answer
    try:
        return bool(await answer)
    finally:
        del asking[visitor.session]


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    source = os.environ.get("SYNOPTICON_SOURCE", "0")
    async with Broadcaster(URL, source, name="fastapi", admit=admit) as app.state.broadcaster:
        yield


app = FastAPI(lifespan=lifespan)


def item(action: str, words: str, session: str, name: str = "") -> str:
    return ITEM.format(action=action, words=words, session=html.escape(session), name=html.escape(name or session))


@app.get("/", response_class=HTMLResponse)
async def page(request: Request) -> str:
    watching = request.app.state.broadcaster.peers
    return PAGE.format(
        asking="".join(item("admit", "Let in", visitor.session, visitor.name) for visitor, _ in asking.values()),
        watching="".join(item("send-away", "Send away", session) for session in watching),
    )


@app.get("/picture.jpg")
async def picture(request: Request) -> Response:
    (stream,) = request.app.state.broadcaster.streams.values()
    frame = stream.snapshot()
    if frame is None:
        raise HTTPException(404, "there is no picture yet")
    _, data = await asyncio.to_thread(cv2.imencode, ".jpg", frame.to_ndarray(format="bgr24"))
    return Response(data.tobytes(), media_type="image/jpeg")


@app.post("/admit/{session}")
async def let_in(session: str) -> RedirectResponse:
    if session in asking:
        _, answer = asking[session]
        if not answer.done():
            answer.set_result(True)
    return RedirectResponse("/", 303)


@app.post("/send-away/{session}")
async def send_away(session: str, request: Request) -> RedirectResponse:
    request.app.state.broadcaster.send_away(session, "the host has closed the door")
    return RedirectResponse("/", 303)
