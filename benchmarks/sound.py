"""Sound: how late it is, what loss does to it, and whether it comes out in step with the picture.

A tone that tells its own time, and a picture whose brightness tells it, at 30 fps; broadcaster and receiver in
processes of their own. First on loopback, plain aiortc beside ours; then 5 % of packets are lost; then both are taken
together, also over 50 ms with 10 ms of jitter, in Python and by the viewer in Chromium.
``python -m benchmarks.sound [--quick]``.
"""

import asyncio
import base64
import contextlib
import itertools
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from urllib.parse import quote

import av
import numpy as np
import numpy.typing as npt
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection
from playwright.async_api import async_playwright

from benchmarks.audience import ARGUMENTS, CHROMIUM
from benchmarks.between import Between
from benchmarks.children import ANYWHERE, child, serve
from benchmarks.report import Bar, Result, Table, alone, percentile
from synopticon_rtc import Broadcaster, Receiver, SignalingServer, Tone

RATE, BLOCK = 48_000, 960
MEDIAN_MS, P95_MS = 60.0, 80.0
LOSS = 0.05
DRIFT_MS, SILENCE_MS = 20.0, 60.0
APART_MS, APART_P95_MS = 20.0, 40.0
DELAY, JITTER = 0.05, 0.01
INAUDIBLE = 0.01
PIECE_MS, AROUND = 40.0, 5
DARK, BRIGHT = 20, 230
"""Brightness at the begin of a second, and at its end."""
END = 5
"""Points of brightness near either of these that tell nothing: encoders round."""
SIZE = (320, 240)


KEEP = """
window.connections = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...given) {
    super(...given);
    connections.push(this);
  }
};
"""
"""Keeps the page's connections, whose statistics tell how long the loudspeaker takes."""
LISTEN = """async () => {
  const video = document.getElementById("video");
  const canvas = new OffscreenCanvas(8, 8).getContext("2d", {willReadFrequently: true});
  const [sound, picture] = [[], []];
  video.requestVideoFrameCallback(function look(_, {expectedDisplayTime}) {
    canvas.drawImage(video, 0, 0, 8, 8);
    const green = canvas.getImageData(0, 0, 8, 8).data.filter((_, at) => at % 4 === 1);
    picture.push([expectedDisplayTime, green.reduce((sum, each) => sum + each) / green.length]);
    video.requestVideoFrameCallback(look);
  });
  const [track] = video.srcObject.getAudioTracks();
  const pieces = new MediaStreamTrackProcessor({track}).readable.getReader();
  (async () => {
    for (let begun, samples = []; ; ) {
      const {value: piece, done} = await pieces.read();
      if (done) return;
      if (samples.length === 0) begun = performance.now();
      const part = new Float32Array(piece.numberOfFrames);
      piece.copyTo(part, {planeIndex: 0, format: "f32-planar"});
      piece.close();
      samples.push(...part);
      if (samples.length < 1920) continue;
      sound.push([begun, btoa(String.fromCharCode(...new Uint8Array(Float32Array.from(samples).buffer)))]);
      samples = [];
    }
  })();
  const measured = async () => {
    const stats = await Promise.all(connections.map((connection) => connection.getStats()));
    const playouts = stats.flatMap((each) => [...each.values()]).filter(({type}) => type === "media-playout");
    const {totalPlayoutDelay: delay, totalSamplesCount: count} = playouts.at(-1);
    return [delay, count];
  };
  const before = await measured();
  window.heard = async () => {
    const [delay, count] = (await measured()).map((after, at) => after - before[at]);
    return {sound, picture, origin: performance.timeOrigin, playout: delay / count};
  };
}"""
"""When each frame is shown, and how bright it is; and when each 40 ms of the sound are on their way to the speaker.

It is taken where Chromium hands it to the speaker; Web Audio would add a buffer of its own, of 30 ms and more."""


# What tells the time


async def brightness() -> AsyncIterator[av.VideoFrame]:
    """Frames as bright as the second has gone on when they are captured."""
    width, height = SIZE
    due = time.monotonic()
    while True:
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        level = round(DARK + (BRIGHT - DARK) * (time.time() % 1))
        frame.planes[0].update(bytes([level]) * frame.planes[0].buffer_size)
        yield frame
        due += 1 / 30
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def time_shown(frame: av.VideoFrame, near: float) -> float | None:
    """Read when a frame was captured; None where its brightness does not tell."""
    return read_level(float(frame.to_ndarray()[: frame.height].mean()), near)


def read_level(level: float, near: float) -> float | None:
    """Read the same from the luma."""
    if not DARK + END < level < BRIGHT - END:
        return None
    fraction = (level - DARK) / (BRIGHT - DARK)
    return round(near - fraction) + fraction


# Ours


async def broadcast(url: str) -> None:
    """Send both."""
    async with Broadcaster(url, brightness(), audio=Tone()):
        await serve()


@dataclass(slots=True)
class Heard:
    """What came out."""

    sound: list[tuple[float, float]] = field(default_factory=list)
    """Of each piece, when it was given out, and the seconds since its first sample was captured."""
    picture: list[tuple[float, float]] = field(default_factory=list)
    """Of each frame, the same."""
    silence: float = 0.0
    """The longest, s."""


async def hear(url: str, seconds: float, *, picture: bool, settle: float = 2.0) -> Heard:
    """Receive for some time."""
    heard = Heard()
    async with Receiver(url, streams=None if picture else ["microphone"]) as receiver:

        async def look() -> None:
            async for moment in receiver:
                now = time.time()
                if (captured := time_shown(moment.frame, now - 0.1)) is not None:
                    heard.picture.append((now, now - captured))

        looking = asyncio.create_task(look())
        quiet, begun = 0, time.time()
        last: npt.NDArray[np.float32] = np.zeros(BLOCK, np.float32)
        async for moment in receiver.audio():
            now = time.time()
            samples = moment.samples[:, 0]
            for is_quiet, run in itertools.groupby(np.abs(samples) < INAUDIBLE):
                count = len(list(run))
                quiet = quiet + count if is_quiet else 0
                if now - begun > settle:
                    heard.silence = max(heard.silence, quiet / RATE)
            captured = Tone.read_time(np.concatenate([last, samples]), now - 0.1)
            if captured is not None and not moment.concealed and now - begun > settle:
                heard.sound.append((now, now - captured - len(last) / RATE))
            last = samples
            if now - begun > seconds + settle:
                break
        looking.cancel()
        await asyncio.wait([looking])
    heard.picture = [seen for seen in heard.picture if seen[0] > begun + settle]
    return heard


@contextlib.asynccontextmanager
async def sending() -> AsyncIterator[str]:
    """A broadcaster, and the address of its signaling."""
    async with SignalingServer(port=0) as server, child("benchmarks.sound", "broadcast", server.url, core=ANYWHERE):
        yield server.url


async def direct(seconds: float) -> Heard:
    """Listen on loopback."""
    async with sending() as url:
        return await hear(url, seconds, picture=False)


async def over(seconds: float, set_up: Callable[[Between], None], *, picture: bool) -> Heard:
    """Listen over a link."""
    host = socket.gethostbyname(socket.gethostname())
    async with sending() as url, Between().open(url, host) as link:
        set_up(link)
        return await hear(link.url, seconds, picture=picture)


def evened(times: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return when pieces of 40 ms came, of the times at which a busy page looked: as early as those around them say."""
    late = np.array(times) - PIECE_MS * np.arange(len(times))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(late, AROUND, mode="edge"), 2 * AROUND + 1)
    early: npt.NDArray[np.float64] = around.min(axis=1) + PIECE_MS * np.arange(len(times))
    return early


async def browse(seconds: float, set_up: Callable[[Between], None], settle: float = 6.0) -> Heard:
    """Look and listen with the viewer, in Chromium."""
    host = socket.gethostbyname(socket.gethostname())
    async with (
        SignalingServer(port=0) as server,
        child("benchmarks.sound", "broadcast", server.url, core=ANYWHERE),
        Between().open(server.url, host) as link,
        async_playwright() as playwright,
    ):
        set_up(link)
        arguments = [*ARGUMENTS, "--disable-features=WebRtcHideLocalIpsWithMdns"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = await browser.new_page(bypass_csp=True)  # which allows no signaling but at the same address
        await page.add_init_script(KEEP)
        await page.goto(f"{server.viewer}?url={quote(link.url)}")
        await page.click("#sound")
        await asyncio.sleep(settle)
        await page.evaluate(LISTEN)
        await asyncio.sleep(seconds)
        found = await page.evaluate("heard()")
        await browser.close()
    heard = Heard()
    for at, level in found["picture"]:
        now = (found["origin"] + at) / 1000
        if (captured := read_level(16 + level * 219 / 255, now - 0.1)) is not None:
            heard.picture.append((now, now - captured))
    for at, (_, samples) in zip(evened([at for at, _ in found["sound"]]), found["sound"], strict=True):
        now = (found["origin"] + at) / 1000 + found["playout"]
        captured = Tone.read_time(np.frombuffer(base64.b64decode(samples), np.float32), now - 0.1)
        if captured is not None:
            heard.sound.append((now, now - captured))
    return heard


# Plain aiortc


class _Track(MediaStreamTrack):
    """The same tone."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._sounds = aiter(Tone())
        self._pts = 0

    async def recv(self) -> av.AudioFrame:
        """Give the next block."""
        sound = await anext(self._sounds)
        samples = (sound.frame.to_ndarray().reshape(1, -1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._pts, Fraction(1, RATE)
        self._pts += BLOCK
        return frame


async def plain(seconds: float) -> list[float]:
    """Listen to plain aiortc on loopback; return how late each piece was, s."""
    sender, receiver = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
    tracks: asyncio.Queue[MediaStreamTrack] = asyncio.Queue()
    receiver.on("track", tracks.put_nowait)
    sender.addTrack(_Track())
    await sender.setLocalDescription()
    await receiver.setRemoteDescription(sender.localDescription)
    await receiver.setLocalDescription()
    await sender.setRemoteDescription(receiver.localDescription)
    track = await tracks.get()
    late, begun = [], time.time()
    last: npt.NDArray[np.float64] = np.zeros(BLOCK)
    while (now := time.time()) - begun < seconds + 2:
        frame = await track.recv()
        assert isinstance(frame, av.AudioFrame)  # noqa: S101 - tells the type checkers
        now = time.time()
        samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0] / 32768
        captured = Tone.read_time(np.concatenate([last, samples]), now - 0.1)
        if captured is not None and now - begun > 2:  # noqa: PLR2004 - seconds until it is settled
            late.append(now - captured - len(last) / RATE)
        last = samples
    await asyncio.gather(sender.close(), receiver.close())
    return late


# The whole


def apart(heard: Heard) -> list[float]:
    """How far sound and picture are apart when they come out, s, at each frame."""
    at, ages = (np.array(each) for each in zip(*heard.sound, strict=True))
    return [float(abs(age - np.interp(now, at, ages))) for now, age in heard.picture]


def _late(name: str, late: Sequence[float]) -> tuple[str, ...]:
    values = [1e3 * each for each in late]
    return (name, *(f"{percentile(values, percent):.0f}" for percent in (50, 95, 100)), str(len(values)))


async def run(*, quick: bool) -> Result:
    """Listen."""
    seconds, long = (4.0, 12.0) if quick else (30.0, 60.0)
    heard = await direct(seconds)
    late = [age for _, age in heard.sound]
    rows = [_late("synopticon-rtc", late), _late("plain aiortc", await plain(seconds))]
    tables = [Table("From tone to decoded sample, ms, loopback", ("", "median", "p95", "most", "pieces"), rows)]
    median, p95 = (1e3 * percentile(late, percent) for percent in (50, 95))
    bars = [
        Bar(f"median {median:.0f} ms; at most {MEDIAN_MS:g}", median <= MEDIAN_MS),
        Bar(f"p95 {p95:.0f} ms; at most {P95_MS:g}", p95 <= P95_MS),
    ]

    def lossy(link: Between) -> None:
        link.down.loss = LOSS

    lost = await over(long, lossy, picture=False)
    first, last = lost.sound[0][0], lost.sound[-1][0]
    span = 10.0 if not quick else 3.0
    begin = statistics.median(age for at, age in lost.sound if at < first + span)
    end = statistics.median(age for at, age in lost.sound if at > last - span)
    drift, silence = 1e3 * (end - begin), 1e3 * lost.silence
    row = (f"{1e3 * begin:.0f}", f"{1e3 * end:.0f}", f"{silence:.0f}")
    columns = (f"{LOSS:.0%} lost, {long:g} s", "first seconds", "last seconds", "longest silence")
    tables.append(Table("Delay where packets are lost, ms", columns, [("synopticon-rtc", *row)]))
    bars.append(Bar(f"delay changes by {drift:+.0f} ms; at most {DRIFT_MS:g}", abs(drift) <= DRIFT_MS))
    bars.append(Bar(f"longest silence {silence:.0f} ms; at most {SILENCE_MS:g}", silence <= SILENCE_MS))

    def far(link: Between) -> None:
        for way in (link.down, link.up):
            way.delay, way.jitter = DELAY, JITTER

    rows = []
    for name, set_up in (("loopback", lambda _: None), (f"{1e3 * DELAY:g} ms, jitter {1e3 * JITTER:g} ms", far)):
        python, chromium = await over(seconds, set_up, picture=True), await browse(seconds, set_up)
        for who, heard in (f"Python, {name}", python), (f"Chromium, {name}", chromium):
            distances = [1e3 * each for each in apart(heard)]
            middle, most = statistics.median(distances), percentile(distances, 95)
            rows.append((who, f"{middle:.0f}", f"{most:.0f}", str(len(distances))))
            bars.append(Bar(f"{who}: apart by {middle:.0f} ms, median; at most {APART_MS:g}", middle <= APART_MS))
            bars.append(Bar(f"{who}: apart by {most:.0f} ms, p95; at most {APART_P95_MS:g}", most <= APART_P95_MS))
    tables.append(Table("Sound and picture apart, ms", ("", "median", "p95", "frames"), rows))
    return Result(tables, bars, data={"late": late})


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2] == "broadcast":  # noqa: PLR2004 - a core, and what to be
        asyncio.run(broadcast(sys.argv[3]))
    else:
        alone(run)
