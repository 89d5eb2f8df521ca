"""``python -m synopticon_rtc.relay``: send on what a broadcaster sends, to receivers elsewhere."""

import asyncio
import contextlib
import dataclasses
import ssl
from pathlib import Path

import click

from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.commands.cli import Command, Output
from synopticon_rtc.commands.kinds import ROOM, Text
from synopticon_rtc.commands.meeting import News
from synopticon_rtc.commands.memory import collect_often
from synopticon_rtc.commands.options import (
    Reach,
    ca_option,
    duration_option,
    reach_options,
    room_option,
    signaling_client,
    token_file_option,
)
from synopticon_rtc.commands.status import Rates, Status, milliseconds
from synopticon_rtc.events import PeerEvent, StateEvent, StreamEvent
from synopticon_rtc.relaying import Relay
from synopticon_rtc.signaling.session import Signaling

STATUS_INTERVAL = 1.0  # seconds
SHOWN = 8  # receivers listed in the status


@click.command("relay", cls=Command)
@click.option("--from", "source", required=True, metavar="URL", help="Signaling server of the broadcaster.")
@room_option
@token_file_option
@click.option("--to", required=True, metavar="URL", help="Signaling server at which receivers find the relay.")
@click.option("--to-room", type=ROOM, help="Room of that server to meet in; that of --room without it.")
@click.option(
    "--to-token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the token that that server wants; that of --token-file without it.",
)
@ca_option
@click.option(
    "--broadcaster", type=Text(), help="Name or session of the broadcaster; the first that answers without it."
)
@click.option(
    "--stream", "streams", type=Text(), multiple=True, help="Name of the only stream to send on; may be repeated."
)
@click.option(
    "--name", type=Text(), default="", help="What the relay itself is called, as receivers are told who sends on."
)
@reach_options
@duration_option
async def main(
    source: str,
    room: str,
    token_file: Path | None,
    to: str,
    to_room: str | None,
    to_token_file: Path | None,
    ca: ssl.SSLContext | None,
    broadcaster: str | None,
    streams: tuple[str, ...],
    name: str,
    reach: Reach,
    duration: float | None,
    output: Output,
) -> None:
    """Send on what a broadcaster sends, without decoding it, to receivers that find the relay at another server."""
    try:
        relay = Relay(
            signaling_client(source, room, token_file, ca),
            below := signaling_client(to, room if to_room is None else to_room, to_token_file or token_file, ca),
            broadcaster=broadcaster,
            streams=streams or None,
            name=name,
            **reach,
        )
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    report = _Report(relay, below, output)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(report.summarize)
        await stack.enter_async_context(relay)
        output.event("ready", url=relay.receiver.signaling.url, to=below.url, relay=relay.id)
        await stack.enter_async_context(report.reporting())
        collect_often()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration):
                await relay.wait_closed()


class _Report:
    """Tells people or programs what a relay does."""

    def __init__(self, relay: Relay, below: Signaling, output: Output) -> None:
        self._relay = relay
        self._below = below
        self._output = output
        self._status = Status(f"synopticon · relay {relay.id}", enabled=not output.json)
        self._rates = Rates()
        aloud = not self._status.shown
        self._news = [News(client, output, aloud=aloud) for client in (relay.receiver.signaling, below)]
        self._state = StateEvent("seeking", "")
        self._frames = 0
        relay.events.subscribe(self._changed)
        relay.peer_events.subscribe(self._peer)
        relay.stream_events.subscribe(self._stream)

    def reporting(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Report meanwhile, once a second."""
        return self._status.kept_up(self._tick())

    def summarize(self) -> None:
        """Say what it came to."""
        self._output.event("summary", frames=self._frames)
        self._output.say(f"{self._frames} frames sent on")

    async def _tick(self) -> None:
        while True:
            self._update()
            await asyncio.sleep(STATUS_INTERVAL)

    def _update(self) -> None:
        relay = self._relay
        stats, below = relay.receiver.stats, relay.broadcaster
        self._frames = stats.frames
        streams = {} if below is None else dict(below.streams)
        peers = () if below is None else below.peers
        rates = self._rates.update(frames=stats.frames, bits=8 * sum(each.stats.bytes for each in streams.values()))
        name, session = relay.receiver.origin.name, relay.receiver.origin.session
        self._output.event(
            "stats",
            name=name,
            session=session,
            state=self._state.state,
            relays=list(relay.relays),
            frames=stats.frames,
            fps=round(rates["frames"], 1),
            bitrate=round(max(0.0, rates["bits"]), 1),
            streams=list(streams),
            peers=len(peers),
            recorders=0 if below is None else len(below.recorders),
            delay_ms=milliseconds(stats.delay),
            faults=relay.faults,
        )
        delay = "" if stats.delay is None else f"   {stats.delay * 1000:.0f} ms since capture"
        missing = [news.missing for news in self._news if news.missing]
        self._status.update(
            {
                "from": f"{visible(name or session or 'nobody yet', NAME)}   {self._state.state}",
                "by way of": ", ".join(visible(each, NAME) for each in relay.relays),
                "to": self._below.url,
                "video": f"{rates['frames']:.1f} fps   {max(0.0, rates['bits']) / 1e6:.2f} Mbit/s{delay}",
                "streams": ", ".join(
                    f"{visible(name, NAME)}{' (muted)' if stream.muted else ''}" for name, stream in streams.items()
                ),
                "receivers": "\n".join([str(len(peers)), *(visible(session, NAME) for session in peers[:SHOWN])]),
            }
            | ({"signaling": "not connected: " + "; ".join(missing)} if missing else {})
        )

    def _changed(self, event: StateEvent) -> None:
        self._state = event
        self._output.event(
            "broadcaster", name=event.name, session=event.session, state=event.state, reason=event.reason
        )
        if not self._status.shown:
            who = visible(event.name or event.session, NAME)
            self._output.say(f"{f'broadcaster {who}' if who else 'broadcaster'} {event.state}: {event.reason}")

    def _peer(self, event: PeerEvent) -> None:
        self._output.event("peer", **dataclasses.asdict(event))
        if not self._status.shown:
            who = visible(event.name or event.session, NAME)
            self._output.say(f"peer {who} {event.state}: {event.reason}")

    def _stream(self, event: StreamEvent) -> None:
        fields = {"name": event.name, "kind": event.kind, "state": event.state, "reason": event.reason}
        self._output.event("stream", **fields, session=event.session)
        if not self._status.shown:
            self._output.say(f"stream {visible(event.name, NAME)} {event.state}: {event.reason}")
