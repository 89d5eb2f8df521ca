"""``python -m synopticon_rtc.signaling``: a signaling server, with the viewer at its address."""

import asyncio
import contextlib

import click

from synopticon_rtc._cli import Command, Output
from synopticon_rtc.signaling.server import SignalingServer
from synopticon_rtc.signaling.session import Session


@click.command("signaling", cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8081, show_default=True, help="0 takes a free one.")
async def main(host: str, port: int, output: Output) -> None:
    """Run a signaling server, where broadcasters and receivers find each other, and serve the viewer page."""

    def on_session(session: Session) -> None:
        closed = {"reason": session.reason, "seconds": round(session.age, 3)} if session.reason else {}
        state = "closed" if session.reason else "open"
        output.event("session", session=session.id, state=state, address=session.address, **closed)

    async with SignalingServer(host, port, on_session=on_session) as server:
        output.event("ready", url=server.url, viewer=server.viewer)
        output.say(f"signaling  {server.url}\nviewer     {server.viewer}")
        with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C: the sessions' ends come before the summary
            await server.serve_forever()
    output.event("summary", sessions=server.total_sessions, messages=server.relayed, uptime=round(server.uptime, 3))
    output.say(f"{server.total_sessions} sessions, {server.relayed} messages relayed in {server.uptime:.0f} s")


if __name__ == "__main__":
    main()
