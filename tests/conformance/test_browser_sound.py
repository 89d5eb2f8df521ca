"""What a browser hears of the sound that it is sent."""

import asyncio
import contextlib

import numpy as np
import pytest
from audio_helpers import play_tone
from browsers import CHROMIUM, Tab, chromium, until_told
from rtc_helpers import Peer

from synopticon_rtc.media.sound import Tone
from synopticon_rtc.rtc.audio_stream import AudioStream

ANSWER = """
const connection = new RTCPeerConnection();
const heard = [];
connection.ontrack = ({track}) => {
  const audio = new Audio();
  audio.srcObject = new MediaStream([track]);  // without an element, Chromium decodes nothing
  audio.play();
  const context = new AudioContext({sampleRate: 48000});
  const ear = context.createScriptProcessor(2048, 1, 1);
  context.createMediaStreamSource(audio.srcObject).connect(ear).connect(context.destination);
  ear.onaudioprocess = ({inputBuffer}) => {
    heard.push([(performance.timeOrigin + performance.now()) / 1000, [...inputBuffer.getChannelData(0)]]);
    if (heard.length > 20) heard.shift();
  };
};
async function answer(offer) {
  await connection.setRemoteDescription({type: "offer", sdp: offer});
  await connection.setLocalDescription();
  return connection.localDescription.sdp;
}
async function reported() {
  const stats = [...(await connection.getStats()).values()];
  return stats.some(({type, reportsSent}) => type === "remote-outbound-rtp" && reportsSent);
}
"""


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}")
async def test_chromium_hears_the_time_that_it_was_sent() -> None:
    stream = AudioStream()
    async with chromium() as browser, browser("data:text/html,<title>sound</title>") as tab, Peer() as peer:
        peer.connection.add_audio(stream)
        await tab(f"{{{ANSWER} Object.assign(window, {{answer, heard, reported}}); 0}}")
        offer = await peer.connection.offer()
        await peer.connection.set_answer(await tab(f"answer({offer!r})"))
        await peer.until(lambda: stream.viewers, 20)
        playing = asyncio.create_task(play_tone(stream))
        try:
            await until_told(lambda: tab("reported()"), 20)
            await until_told(lambda: heard(tab), 20)
        finally:
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await playing


async def heard(tab: Tab) -> list[float]:
    return delays(await tab("heard"))


def delays(heard: list[tuple[float, list[float]]]) -> list[float]:
    """Return how many seconds after its capture each piece was heard that holds the tone, up to a second."""
    begun = [(at - 2048 / 48_000, Tone.read_time(np.array(samples), at - 0.5)) for at, samples in heard]
    return [at - time for at, time in begun if time is not None]
