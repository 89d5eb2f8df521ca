"""``python -m synopticon_rtc.trace``: the life of each peer in a trace, in words and as a picture."""

import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click
import msgspec

from synopticon_rtc.basics.text import NAME, WORDS, visible
from synopticon_rtc.commands.cli import Command, Output
from synopticon_rtc.errors import MissingExtra, TraceError
from synopticon_rtc.tracing import (
    KINDS,
    Begin,
    End,
    Event,
    Figures,
    Keyframe,
    Layer,
    Pair,
    Pairing,
    Rate,
    Signal,
    State,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_E = TypeVar("_E", bound=Event)
logger = logging.getLogger(__name__)

LONGEST = 2**20  # bytes of a line
MOST = 2**20  # lines that are read: ten days of one peer
SUMMED_UP = 10  # seconds of figures in a line
DRAWN = 8  # peers that are drawn: more cannot be seen


@click.command("trace", cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--peer", help="Only the peer with this session, or whose session begins so.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Draw bit rates, frame rates, round trips and losses there, as PNG; needs the extra plot.",
)
async def main(file: Path, peer: str | None, plot: Path | None, output: Output) -> None:
    """Tell what a trace says of each peer, as broadcast and receive write one with --trace FILE."""
    events = [event for event in read(file) if not peer or event.peer.startswith(peer) or not event.peer]
    if peer and not any(event.peer for event in events):
        raise TraceError(f"no session of a peer in {file} begins with {peer}")
    for line in () if output.json else tell(events):
        output.say(line)
    for event in events if output.json else ():
        output.event(type(event).__name__.lower(), **msgspec.structs.asdict(event))
    if plot is not None:
        draw(events, plot)
        output.say(f"drawn to {plot}")


def read(path: Path) -> Iterator[Event]:
    """Read a trace; what is no event in it is told, and left out.

    Raises:
        TraceError: It is none.
    """
    decoder = msgspec.json.Decoder(KINDS)
    with path.open("rb") as file:
        for number, line in enumerate(itertools.islice(_lines(file), MOST), 1):
            try:
                event = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if number == 1:
                    raise TraceError(f"{path} is no trace: its first line is no event ({error})") from error
                logger.warning("line %d is left out, it is no event of a trace: %s", number, visible(str(error), WORDS))
                continue
            if number == 1 and not isinstance(event, Begin):
                raise TraceError(f"{path} is no trace: its first line does not say who wrote it")
            yield event
        if file.tell() == 0:
            raise TraceError(f"{path} is empty")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LONGEST):
        yield line


# In words


def tell(events: Sequence[Event]) -> Iterator[str]:
    """Tell the lives of the peers in a trace, one after the other, each line by line."""
    begin = events[0]
    assert isinstance(begin, Begin)  # noqa: S101 - as it was read
    yield (
        f"{visible(begin.role, NAME)}, {visible(begin.time, NAME)}: synopticon-rtc {visible(begin.version, NAME)}, "
        f"Python {visible(begin.python, NAME)}, {visible(begin.system, NAME)}"
    )
    for peer, life in _by_peer(events).items():
        if mine := [event for event in life if not isinstance(event, Begin)]:
            yield ""
            yield f"peer {visible(peer, NAME)}" if peer else "of no peer in particular"
            yield from _life(mine)
    if not isinstance(events[-1], End):
        yield ""
        yield f"It breaks off after {events[-1].at:.1f} s: the program did not end by itself."


def _by_peer(events: Iterable[_E]) -> dict[str, list[_E]]:
    lives: dict[str, list[_E]] = {}
    for event in events:
        lives.setdefault(event.peer, []).append(event)
    return lives


def _life(events: Iterable[Event]) -> Iterator[str]:
    last: dict[type, Any] = {}
    for (kind, _), group in itertools.groupby(events, lambda event: (type(event), event.at // SUMMED_UP)):
        if kind in {Figures, Pairing}:
            *_, newest = group
            yield _line(newest.at, _difference(last.get(kind), newest))
            last[kind] = newest
        else:
            for event in group:
                yield _line(event.at, _words(event))


def _line(at: float, words: str) -> str:
    return f"{at:9.2f} s  {visible(words)}"


def _words(event: Event) -> str:  # noqa: PLR0911 - a kind each
    match event:
        case Signal(sent=sent, message=message):
            return f"{'sent' if sent else 'received'} {_signal(message)}"
        case State(state=state, reason=reason):
            return f"{state}: {reason}" if reason else state
        case Pair(local=local, remote=remote, state=state):
            return f"the way from {local} to {remote} {'is chosen' if state == 'chosen' else state}"
        case Rate(bearable=bearable, reason=reason):
            return f"the link is thought to bear {_bits(bearable)}: {reason}"
        case Layer(scale=scale, bitrate=bitrate):
            size = "full size" if scale == 1 else f"1/{scale} of its sides"
            return f"to be sent the video in {size} at {_bits(bitrate)}"
        case Keyframe(reason=reason):
            return f"a keyframe is asked for: {reason}"
        case End(reason=reason, left_out=left_out):
            return f"the trace ends: {reason}" + (f"; {left_out} lines were left out" if left_out else "")
    return type(event).__name__.lower()


def _signal(message: dict[str, Any]) -> str:
    kind = str(message.get("type", "a message"))
    match message:
        case {"bye": bye} if bye:
            return f"{kind}, a goodbye: {bye}"
        case {"candidate": {"candidate": candidate}}:
            return f"{kind}: {candidate or 'the end of candidates'}"
        case {"name": name} if name:
            return f"{kind} of {name}"
    return kind


def _difference(before: Any, after: Any) -> str:  # noqa: ANN401 - figures, or pairing
    def since(name: str) -> int:
        return int(getattr(after, name)) - (int(getattr(before, name)) if before is not None else 0)

    if isinstance(after, Pairing):
        parts = [
            f"{since('frames')} frames, {since('frames_with_faces')} with faces",
            *_some(since("faces_late"), "came before their faces"),
            *_some(since("invalid_faces"), "messages were no faces"),
        ]
        if after.delay is not None:
            parts.append(f"{after.delay * 1000:.0f} ms from capture")
        return "paired " + ", ".join(parts)
    parts = []
    if since("packets_sent"):
        parts += [f"sent {since('frames_sent')} frames in {since('packets_sent')} packets"]
        parts += [f"{after.fps:g} fps at {_bits(after.bitrate)}"]
        parts += _some(since("retransmits"), "packets sent again")
        parts += _some(since("frames_dropped"), "frames not sent")
        if after.loss:
            parts.append(f"{after.loss:.1%} lost")
        if after.bearable is not None:
            parts.append(f"bears {_bits(after.bearable)}")
    if since("packets_received"):
        parts += [f"received {since('packets_received')} packets, {_bits(8 * since('bytes_received'), '')} in all"]
        parts += _some(since("nacks"), "packets asked for again")
        parts += _some(since("keyframes_asked"), "keyframes asked for")
        parts += _some(since("decode_errors"), "frames not decoded")
        parts += _some(since("frames_too_large"), "frames too large")
    if after.rtt is not None:
        parts.append(f"round trip {after.rtt * 1000:.1f} ms")
    return ", ".join(parts) or "nothing was sent or received"


def _some(count: int, words: str) -> list[str]:
    return [f"{count} {words}"] if count > 0 else []


def _bits(bits: float | None, a_second: str = "/s") -> str:
    if bits is None:
        return "all that is sent"
    for unit, size in (("Mbit", 1e6), ("kbit", 1e3)):
        if bits >= size:
            return f"{bits / size:.3g} {unit}{a_second}"
    return f"{bits:.0f} bit{a_second}"


# As a picture


def draw(events: Sequence[Event], path: Path) -> None:
    """Draw the figures of a trace over time: bit rates, frame rates, round trips and losses.

    Raises:
        MissingExtra: matplotlib is not installed.
        TraceError: There are no figures, or the picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and rarely needed
    except ImportError as error:
        raise MissingExtra("--plot", "plot") from error
    figures = [event for event in events if isinstance(event, Figures)]
    if not figures:
        raise TraceError("there is nothing to draw: no peer was connected for a second")
    picture = Figure(figsize=(10, 8), layout="constrained")
    rates, frames, trips, losses = picture.subplots(4, 1, sharex=True)
    for peer, mine in itertools.islice(_by_peer(figures).items(), DRAWN):
        _draw_peer((rates, frames, trips, losses), mine, peer)
    for event in events:
        if isinstance(event, State):
            for axes in (rates, frames, trips, losses):
                axes.axvline(event.at, color="0.8", linewidth=0.8, zorder=0)
            rates.annotate(visible(event.state, NAME), (event.at, 1), xycoords=("data", "axes fraction"), rotation=45)
        elif isinstance(event, Keyframe):
            frames.axvline(event.at, color="tab:red", linewidth=0.5, linestyle=":", zorder=0)
    for axes, label in ((rates, "Mbit/s"), (frames, "frames/s"), (trips, "round trip, ms"), (losses, "lost, %")):
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(b=False)
    rates.legend(loc="upper right", fontsize="small")
    losses.set_xlabel("seconds")
    try:
        picture.savefig(path, format="png")
    except OSError as error:
        raise TraceError(f"{path} cannot be written: {error.strerror or error}") from error


def _draw_peer(axes: "Sequence[Axes]", figures: Sequence[Figures], peer: str) -> None:
    rates, frames, trips, losses = axes
    at = [event.at for event in figures]
    sends = figures[-1].packets_sent > 0
    if sends:
        bitrates = [event.bitrate / 1e6 for event in figures]
        fps = [event.fps for event in figures]
        lost = [(event.loss or 0.0) * 100 for event in figures]
    else:
        pairs = list(itertools.pairwise([Figures(at=at[0] - 1), *figures]))
        bitrates = [(b.bytes_received - a.bytes_received) * 8e-6 / max(b.at - a.at, 1e-3) for a, b in pairs]
        fps = []
        lost = [
            100 * (b.nacks - a.nacks) / max(1, b.packets_received - a.packets_received + b.nacks - a.nacks)
            for a, b in pairs
        ]
    (line,) = rates.plot(at, bitrates, label=visible(peer, NAME))
    color = line.get_color()
    bearable = [(event.at, event.bearable / 1e6) for event in figures if event.bearable is not None]
    if bearable:
        rates.plot(*zip(*bearable, strict=True), linestyle="--", color=color)
    if fps:
        frames.plot(at, fps, color=color)
    trips.plot(at, [math.nan if event.rtt is None else event.rtt * 1000 for event in figures], color=color)
    losses.plot(at, lost, color=color)
