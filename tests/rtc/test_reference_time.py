"""Peers that send nothing, and measure their round trip."""

from hypothesis import given
from hypothesis import strategies as st
from rtc_helpers import Clip, watching
from turned import turned

from synopticon_rtc.rtc.reference_time import answer

OURS = 0x6779D409
REPORT = bytes.fromhex("81c90007000000016779d40900000000000056bf000005eb7e46f4330000745b")
REMB = bytes.fromhex("8fce0005000000010000000052454d42010b71c46779d409")
REFERENCE = bytes.fromhex("80cf00040000000104000002eeb47e4768dea033")
ANSWER = bytes.fromhex("80cf00056779d40905000003000000017e4768de00000000")


def test_chromiums_reference_time_is_answered() -> None:
    assert answer(REPORT + REFERENCE, OURS) == answer(REPORT + REMB + REFERENCE, OURS) == ANSWER


def test_each_of_several_is_answered_in_one_report() -> None:
    other = REFERENCE.replace(bytes.fromhex("00000001"), bytes.fromhex("00000002"))
    both = answer(REFERENCE + other, OURS)
    assert both is not None
    assert both[:12] == bytes.fromhex("80cf0008") + ANSWER[4:8] + bytes.fromhex("05000006")
    assert both[12:] == ANSWER[12:] + bytes.fromhex("00000002") + ANSWER[16:]


def test_other_blocks_are_passed_over() -> None:
    summary = bytes.fromhex("06000001aabbccdd")
    assert answer(bytes.fromhex("80cf0006") + REFERENCE[4:8] + summary + REFERENCE[8:], OURS) == ANSWER
    assert answer(bytes.fromhex("80cf0003") + REFERENCE[4:8] + summary, OURS) is None
    assert answer(REPORT + REMB, OURS) is None


@given(st.binary(max_size=200) | st.integers(0, len(REFERENCE)).map(lambda end: REPORT + REFERENCE[:end]))
def test_whatever_comes_is_answered_by_no_more_than_it_is_long(data: bytes) -> None:
    reply = answer(data, OURS)
    assert reply is None or len(reply) <= len(data) + 8


@turned
async def test_a_receiver_that_asks_is_answered() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        (fanout,) = sender.connection.senders
        (video,) = receiver.connection._receivers.values()
        heard: list[bytes] = []
        handle = video.transport._handle_rtcp_data

        async def listen(data: bytes) -> None:
            heard.append(data)
            await handle(data)

        video.transport._handle_rtcp_data = listen  # type: ignore[method-assign]
        await video.transport._send_rtp(REFERENCE)
        await receiver.until(lambda: any(data[1] == REFERENCE[1] for data in heard))
    (reply,) = (data for data in heard if data[1] == REFERENCE[1])
    assert reply == ANSWER[:4] + fanout._ssrc.to_bytes(4, "big") + ANSWER[8:]
