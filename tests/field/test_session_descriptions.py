"""Session descriptions as other stacks write them, and H.264 at the level that it is."""

import re
from collections.abc import Callable, Collection

import pytest
from rtc_helpers import Clip, Peer, join

from synopticon_rtc.broadcaster import Broadcaster
from synopticon_rtc.media import TestPattern
from synopticon_rtc.receiver import Receiver
from synopticon_rtc.rtc import PeerConnection
from synopticon_rtc.signaling import SignalingServer

pytestmark = pytest.mark.field


def blanks(text: str) -> str:
    return re.sub("(?<=[0-9a-f]);(?=[a-z])", "; ", text)


def newest_level(text: str) -> str:
    return text.replace("42e01f", "42e03e").replace("42001f", "42003e")


def only_h264(text: str) -> str:
    return text.replace("VP8", "VP9")


@pytest.mark.parametrize("edit", [blanks, newest_level], ids=["blanks between parameters", "level 6.2"])
@pytest.mark.parametrize("side", ["offer", "answer"])
async def test_h264_plays_with(edit: Callable[[str], str], side: str) -> None:
    clip = Clip("h264")

    def edited(text: str) -> str:
        bent = edit(only_h264(text))
        assert bent != only_h264(text)
        return bent

    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream, ["h264"])
        await join(sender, receiver, **{side: edited})
        await sender.until(lambda: clip.stream.viewers)
        await clip.play(5)
        await receiver.until(lambda: receiver.frames)


async def test_an_offer_without_bundle_gets_an_answer_without_bundle_and_plays() -> None:
    clip = Clip()
    answers: list[str] = []

    def kept(text: str) -> str:
        answers.append(text)
        return text

    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        await join(sender, receiver, offer=lambda text: re.sub("a=group:BUNDLE.*\r\n", "", text), answer=kept)
        await sender.until(lambda: clip.stream.viewers)
        await clip.play(5)
        await receiver.until(lambda: receiver.frames)
    assert "BUNDLE" not in answers[0]


async def test_1080_lines_of_h264_are_sent_at_the_level_that_is_negotiated(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptions: list[str] = []
    answer = PeerConnection.answer

    async def noted(
        connection: PeerConnection, offer: str, taken: Collection[str] | None = None, *, whole: bool = False
    ) -> str:
        descriptions.extend([offer, await answer(connection, offer, taken, whole=whole)])
        return descriptions[-1]

    monkeypatch.setattr(PeerConnection, "answer", noted)
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern(size=(1920, 1080)), codecs=("h264", "vp8")),
        Receiver(server.url, decode=False, timeout=10) as receiver,
    ):
        moment = await anext(receiver)
    assert moment.frame.data.split(b"\0\0\1\x67")[1][2] == 40
    assert [set(re.findall("profile-level-id=42[0-9a-f]{2}(..)", text)) for text in descriptions] == [{"28"}, {"28"}]
