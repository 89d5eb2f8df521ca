"""What a browser knows of when a video was captured."""

import asyncio
import statistics
import time

import pytest
from browsers import CHROMIUM, chromium
from rtc_helpers import TICKS, Clip, Peer

from synopticon_rtc.basics import clock
from synopticon_rtc.rtc.capture_time import NTP_EPOCH

PAGE = """
const connection = new RTCPeerConnection();
const seen = [];
connection.ontrack = ({track}) => {
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  video.srcObject = new MediaStream([track]);
  video.play();
  video.requestVideoFrameCallback(function look(_, {captureTime, rtpTimestamp}) {
    if (captureTime) seen.push([(performance.timeOrigin + captureTime) / 1000, rtpTimestamp]);
    video.requestVideoFrameCallback(look);
  });
};
const stamps = () => connection.getReceivers().flatMap((receiver) => receiver.getSynchronizationSources()).map(
  ({captureTimestamp, rtpTimestamp}) => [captureTimestamp / 1000, rtpTimestamp]);
async function answer(offer) {
  await connection.setRemoteDescription({type: "offer", sdp: offer});
  await connection.setLocalDescription();
  return connection.localDescription.sdp;
}
Object.assign(window, {answer, seen, stamps});
"""
FPS = 90_000 // TICKS


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}")
async def test_chromium_knows_when_each_frame_was_captured_by_our_clock_and_by_its_own() -> None:
    clip = Clip()
    async with chromium() as browser, browser("data:text/html,<title>video</title>") as tab, Peer() as peer:
        peer.connection._offer_capture_time = True
        peer.connection.add_video(lambda _: clip.stream, ["vp8"])
        await tab(f"{{{PAGE} 0}}")
        offer = await peer.connection.offer()
        await peer.connection.set_answer(await tab(f"answer({offer!r})"))
        await peer.until(lambda: clip.stream.viewers, 20)
        began = clock.now() - 5  # so what is sent now was captured five seconds ago
        clip.stream._began = int((began + NTP_EPOCH) * 2**32)
        playing = asyncio.create_task(play(clip))
        try:
            async with asyncio.timeout(20):
                while len(seen := await tab("seen")) < 30:  # noqa: ASYNC110 - a page is asked
                    await asyncio.sleep(0.2)
            stamps = await tab("stamps()")
        finally:
            playing.cancel()
    assert [at - NTP_EPOCH for at, _ in stamps] == pytest.approx(
        [began + clip.numbers[t] / FPS for _, t in stamps], abs=2e-3
    )
    assert statistics.median(at - began - clip.numbers[t] / FPS for at, t in seen) == pytest.approx(0, abs=1)


async def play(clip: Clip) -> None:
    begun = time.monotonic()
    while True:
        clip.send()
        await asyncio.sleep(begun + len(clip.numbers) / FPS - time.monotonic())
