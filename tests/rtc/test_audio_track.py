"""The pieces of a sound, for whoever takes them."""

import asyncio

import numpy as np
from waiting import turns

from synopticon_rtc.rtc.audio_track import MOST_WAITING, AudioTrack, ReceivedSound

COUNT = 960


def piece(number: int) -> ReceivedSound:
    return ReceivedSound(np.zeros((COUNT, 1), np.float32), number * COUNT, False, None)


async def test_pieces_come_in_order_and_end_with_the_track() -> None:
    track = AudioTrack("1")
    waiting = asyncio.ensure_future(anext(track))
    await turns()
    for number in range(3):
        track.put(piece(number))
    track.end()
    assert [(await waiting).rtp_timestamp] + [each.rtp_timestamp async for each in track] == [0, 960, 1920]
    assert track.mid == "1"


async def test_what_nobody_takes_for_a_second_goes_the_oldest_first() -> None:
    track = AudioTrack("1")
    for number in range(70):
        track.put(piece(number))
    track.end()
    kept = [each.rtp_timestamp // COUNT async for each in track]
    assert kept == list(range(20, 70))
    assert len(kept) * COUNT == MOST_WAITING
    assert track.skipped == 20
