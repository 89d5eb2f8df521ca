"""Session descriptions and candidates from anybody."""

import asyncio
import contextlib
import re
import sys
import time
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.sdp import SessionDescription
from hypothesis import given, settings
from hypothesis import strategies as st
from rtc_helpers import Clip, Peer
from waiting import turns

from synopticon_rtc.errors import InvalidSDP, NoCommonCodec, SynopticonError
from synopticon_rtc.rtc import sdp, seams

CHROMIUM_OFFER = (Path(__file__).parent / "chromium_offer.sdp").read_bytes().decode()
"""Audio, video and a data channel, as Chromium 156 offers them."""
CHROMIUM_ANSWER = (Path(__file__).parent / "chromium_answer.sdp").read_bytes().decode()
"""Chromium's answer to an offer of ours."""
HOST = "candidate:1 1 udp 2113937151 192.0.2.7 5000 typ host"


def sections(text: str) -> list[tuple[str, bool]]:
    """The kinds of media sections, and whether each is refused."""
    return [(kind, port == "0") for kind, port in re.findall(r"^m=(\w+) (\d+)", text, re.MULTILINE)]


def sections_of(text: str) -> list[str]:
    head, *rest = re.split(r"(?m)^(?=m=)", text)
    return [head, *rest]


# Offers


async def answer_to(offer: str) -> str:
    async with Peer() as peer:
        answer = await peer.connection.answer(offer)
        # What aiortc reads, other peers read as well.
        assert len(SessionDescription.parse(answer).media) == len(sections(offer))
        return answer


async def test_chromiums_offer_is_answered() -> None:
    answer = await answer_to(CHROMIUM_OFFER)
    assert sections(answer) == [("audio", False), ("video", False), ("application", False)]
    assert re.findall(r"^a=(sendrecv|sendonly|recvonly|inactive)", answer, re.MULTILINE) == ["inactive", "recvonly"]


async def test_an_offer_without_a_data_channel_is_answered() -> None:
    head, audio, video, _ = sections_of(CHROMIUM_OFFER)
    answer = await answer_to(head.replace("BUNDLE 0 1 2", "BUNDLE 0 1") + audio + video)
    assert sections(answer) == [("audio", False), ("video", False)]


async def test_an_offer_without_video_is_answered() -> None:
    head, _, _, data = sections_of(CHROMIUM_OFFER)
    answer = await answer_to(head.replace("BUNDLE 0 1 2", "BUNDLE 2") + data)
    assert sections(answer) == [("application", False)]


async def test_sections_of_unknown_kinds_are_refused_in_their_place() -> None:
    head, audio, video, data = sections_of(CHROMIUM_OFFER)
    text = "m=text 9 RTP/AVP 98\r\nc=IN IP4 0.0.0.0\r\na=mid:t\r\na=rtpmap:98 t140/1000\r\n"
    offer = head.replace("BUNDLE 0 1 2", "BUNDLE t 0 1 2") + text + audio + video + data
    answer = await answer_to(offer)
    assert sections(answer) == [("text", True), ("audio", False), ("video", False), ("application", False)]
    assert "a=group:BUNDLE 0 1 2\r\n" in answer
    assert "a=mid:t\r\n" in answer


async def test_sections_that_the_offer_itself_refuses_are_refused() -> None:
    head, audio, video, data = sections_of(CHROMIUM_OFFER)
    offer = head.replace("BUNDLE 0 1 2", "BUNDLE 1 2") + audio.replace("m=audio 9", "m=audio 0") + video + data
    assert sections(await answer_to(offer)) == [("audio", True), ("video", False), ("application", False)]


async def test_sections_that_are_bundled_only_are_taken() -> None:
    bundled = CHROMIUM_OFFER.replace("m=video 9", "m=video 0").replace("a=mid:1", "a=mid:1\r\na=bundle-only")
    assert sections(await answer_to(bundled))[1] == ("video", False)


async def test_a_second_data_section_is_refused() -> None:
    *rest, data = sections_of(CHROMIUM_OFFER)
    offer = "".join(rest).replace("BUNDLE 0 1 2", "BUNDLE 0 1 2 3") + data + data.replace("a=mid:2", "a=mid:3")
    assert sections(await answer_to(offer))[2:] == [("application", False), ("application", True)]


async def test_audio_of_unknown_codecs_is_refused_and_video_goes_on() -> None:
    head, audio, video, data = sections_of(CHROMIUM_OFFER)
    odd = re.sub(r"(a=rtpmap:\d+) [^/]+/", r"\1 odd/", audio)
    answer = await answer_to(head + odd + video + data)
    assert sections(answer) == [("audio", True), ("video", False), ("application", False)]


async def test_video_of_unknown_codecs_alone_is_told_apart() -> None:
    head, _, video, _ = sections_of(CHROMIUM_OFFER)
    odd = re.sub(r"(a=rtpmap:\d+) (?:VP8|H264)/", r"\1 odd/", video)
    with pytest.raises(NoCommonCodec, match=r"VP8, or H\.264"):
        await answer_to(head.replace("BUNDLE 0 1 2", "BUNDLE 1") + odd)


async def test_plain_aiortc_is_answered() -> None:
    other = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    other.addTransceiver("audio")
    other.addTransceiver("video")
    other.createDataChannel("faces")
    await other.setLocalDescription()
    assert sections(await answer_to(other.localDescription.sdp)) == [
        ("audio", False),
        ("video", False),
        ("application", False),
    ]
    await other.close()


# Answers


async def test_an_answer_that_refuses_the_data_channel_is_refused() -> None:
    async with Peer() as sender:
        sender.connection.add_channel("faces")
        await sender.connection.offer()
        with pytest.raises(InvalidSDP, match="application"):
            await sender.connection.set_answer(sections_of(CHROMIUM_ANSWER)[2].replace("n 9 ", "n 0 "))


async def test_a_second_answer_is_refused() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        answer = await receiver.connection.answer(await sender.connection.offer())
        await sender.connection.set_answer(answer)
        with pytest.raises(InvalidSDP, match="stable"):
            await sender.connection.set_answer(answer)


async def test_layers_of_a_video_are_offered_by_their_sources_the_smallest_first() -> None:
    async with Peer() as peer:
        clip = Clip()
        sender = peer.connection.add_video(lambda _: clip.stream)
        other = peer.connection.add_video(lambda _: clip.stream)
        peer.connection.add_layer(sender, lambda _: clip.stream)
        offer = await peer.connection.offer()
        (top, again), (small, small_again) = (seams.sender_sources(one) for one in (sender, *sender.smaller))
        _, first, second = sections_of(offer)
        groups = [f"SIM {small} {top}", f"FID {small} {small_again}", f"FID {top} {again}"]
        assert re.findall(r"^a=ssrc-group:(.+)\r$", first, re.MULTILINE) == groups
        names = dict(re.findall(r"^a=ssrc:(\d+) (cname:.+)\r$", first, re.MULTILINE))
        assert names.keys() == {str(source) for source in (small, small_again, top, again)}
        assert len(set(names.values())) == 1
        assert "SIM" not in second
        assert seams.sender_sources(other)[0] != top


def test_candidates_are_taken_out_of_a_description() -> None:
    text = CHROMIUM_OFFER.replace("a=mid:0\r\n", f"a=mid:0\r\na={HOST}\r\na=end-of-candidates\r\n")
    text = text.replace("a=mid:1\r\n", "a=mid:1\r\na=candidate:2 1 udp 1 192.0.2.8 5000 typ host\r\n")
    offer = sdp.read_offer(text)
    assert "candidate" not in offer.text
    assert (offer.mid, offer.line, offer.candidates) == ("0", 0, [HOST, ""])


# Anything


def mutate(text: str, edits: list[tuple[int, int, str]]) -> str:
    """Delete, repeat, cut or overwrite lines."""
    lines = text.splitlines()
    for at, kind, junk in edits:
        line = at % len(lines)
        match kind % 4:
            case 0:
                del lines[line]
            case 1:
                lines.insert(line, lines[line])
            case 2:
                lines[line] = lines[line][: len(junk) + 2]
            case _:
                lines[line] = lines[line][: lines[line].find(":") + 1] + junk
        lines = lines or [""]
    return "\r\n".join(lines) + "\r\n"


edits = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 3), st.text(max_size=12)), min_size=1, max_size=6)


def run(offer: str | None = None, answer: str | None = None) -> None:
    """Feed a description to a peer; the loop may have nothing to complain of afterwards."""

    async def feed() -> None:
        complaints: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with Peer() as peer:
            try:
                if offer is not None:
                    await peer.connection.answer(offer)
                else:
                    assert answer is not None
                    peer.connection.add_video(lambda codec: Clip(codec).stream)
                    peer.connection.add_channel("faces")
                    await peer.connection.offer()
                    await peer.connection.set_answer(answer)
                await turns(20)
            except SynopticonError:
                pass
        assert not complaints

    asyncio.run(feed())


@settings(max_examples=60, deadline=None)
@given(edits)
def test_a_malformed_offer_raises_a_clear_error_or_is_answered(edits: list[tuple[int, int, str]]) -> None:
    run(offer=mutate(CHROMIUM_OFFER, edits))


@settings(max_examples=60, deadline=None)
@given(edits)
def test_a_malformed_answer_raises_a_clear_error_or_is_taken(edits: list[tuple[int, int, str]]) -> None:
    run(answer=mutate(CHROMIUM_ANSWER, edits))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v=0",
        "m=video",
        "\0",
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
        CHROMIUM_OFFER.replace("a=ice-ufrag", "a=ice-x"),
        CHROMIUM_OFFER.replace("a=fingerprint:sha-256", "a=fingerprint:md5"),
        CHROMIUM_OFFER.replace("a=setup:actpass", "a=setup:sideways"),
        CHROMIUM_OFFER.replace("a=sctp-port:5000", "a=sctp-port:0"),
        CHROMIUM_OFFER.replace("a=rtcp-mux\r\n", ""),
        CHROMIUM_OFFER * 60,
        CHROMIUM_OFFER + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 70,
    ],
)
def test_these_offers_raise_a_clear_error(text: str) -> None:
    async def feed() -> None:
        async with Peer() as peer:
            with pytest.raises(InvalidSDP):
                await peer.connection.answer(text)

    asyncio.run(feed())


# Candidates


@pytest.mark.parametrize(
    "text",
    [
        HOST,
        f"a={HOST}",
        HOST.removeprefix("candidate:"),
        HOST.replace(" udp ", " UDP "),
        f"{HOST} generation 0 ufrag abcd network-cost 999",
        "candidate:1 1 udp 1677729535 198.51.100.7 5000 typ srflx raddr 0.0.0.0 rport 0",
        "candidate:1 1 udp 1 2001:db8::1 5000 typ relay raddr 0.0.0.0 rport 0",
        HOST.replace("192.0.2.7", "0871ba70-73c9-4b3a-a8ce-9a57b81c3668.local"),
    ],
)
def test_candidates_over_udp_are_read(text: str) -> None:
    candidate = sdp.read_candidate(text)
    assert candidate is not None
    assert (candidate.transport, candidate.port) == ("udp", 5000)


@pytest.mark.parametrize(
    "text",
    [
        "candidate:1 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active generation 0",
        "candidate:1 1 TCP 1518280447 192.0.2.7 9 typ host tcptype active",
        HOST.replace(" 1 udp", " 2 udp"),
        HOST.replace("typ host", "typ prflx"),
        HOST.replace("192.0.2.7", "peer.example"),
        HOST.replace("192.0.2.7", "0.0.0.0"),  # noqa: S104 - nobody is bound to it
        HOST.replace("192.0.2.7", "224.0.0.251"),
        HOST.replace(" 5000 ", " 0 "),
    ],
)
def test_candidates_that_are_of_no_use_are_passed_by(text: str) -> None:
    assert sdp.read_candidate(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "candidate:",
        "candidate:1 x udp 1 192.0.2.7 1 typ host",
        f"{HOST} rport x",
        HOST.replace("typ", "tip"),
        HOST.replace(" 5000 ", " 65536 "),
        HOST.replace("2113937151", "-1"),
        HOST.replace("2113937151", str(2**32)),
    ],
)
def test_what_is_no_candidate_raises_a_clear_error(text: str) -> None:
    with pytest.raises(InvalidSDP, match="not an ICE candidate"):
        sdp.read_candidate(text)


@given(st.text(max_size=80) | st.lists(st.sampled_from([*HOST.split(), "-1", "x", ""]), max_size=12).map(" ".join))
def test_any_text_is_a_candidate_or_a_clear_error(text: str) -> None:
    try:
        candidate = sdp.read_candidate(text)
    except InvalidSDP:
        return
    assert candidate is None or 0 < candidate.port < 65_536


# What costs


def offer_of(sections: int, session: str = "", media: str = "", formats: int = 1) -> str:
    """An offer as long as it is wanted."""
    head, _, video, _ = sections_of(CHROMIUM_OFFER)
    fingerprint = "".join(
        line + "\r\n" for line in video.splitlines() if line.startswith(("a=fingerprint", "a=ice", "a=setup"))
    )
    head = head.replace("BUNDLE 0 1 2", "BUNDLE " + " ".join(str(n) for n in range(sections)))
    types = " ".join(str(n) for n in range(formats))
    maps = "".join(f"a=rtpmap:{n} VP8/90000\r\n" for n in range(formats))
    return (
        head
        + session
        + "".join(
            f"m=video 9 UDP/TLS/RTP/SAVPF {types}\r\nc=IN IP4 0.0.0.0\r\n"
            f"a=rtcp-mux\r\na=sendrecv\r\na=mid:{n}\r\n{fingerprint}{maps}{media}"
            for n in range(sections)
        )
    )


LONG = {
    "long before its sections": offer_of(60, "".join(f"a=x{n}:{'y' * 30}\r\n" for n in range(1500))),
    "many sections": offer_of(60),
    "sections as many as may be": offer_of(32),
    "much before, in as many sections as may be": offer_of(
        30, "".join(f"a=fingerprint:{'x' * 900} y\r\n" for _ in range(40))
    ),
    "feedback for all formats": offer_of(1, "", "".join(f"a=rtcp-fb:* x{n}\r\n" for n in range(3000)), 60),
    "much about many formats": offer_of(1, "", "".join(f"a=fmtp:59 x={n}\r\n" for n in range(3000)), 60),
    "many sources": offer_of(1, "", "".join(f"a=ssrc:{n} cname:x\r\n" for n in range(3000))),
    "many extensions": offer_of(1, "", "".join(f"a=extmap:{n % 255 + 1} urn:x\r\n" for n in range(3000))),
    "many candidates": offer_of(1, "", f"a={HOST}\r\n" * 900),
    "a long line": offer_of(1, "", f"a=x:{'y' * 60_000}\r\n"),
    "long in all": offer_of(1, "", "a=x\r\n" * 100_000),
    "lines of nothing": "v=0\r\n" + "\r\n" * 30_000,
}


@pytest.mark.parametrize("offer", LONG.values(), ids=LONG)
def test_no_description_is_long_to_read(offer: str) -> None:
    def took() -> float:
        began = time.thread_time()
        with contextlib.suppress(SynopticonError):
            sdp.read_offer(offer)
        return time.thread_time() - began

    traced = sys.gettrace() is not None  # as where coverage is measured, which takes longer
    assert min(took() for _ in range(5)) < (0.2 if traced else 0.02)


@pytest.mark.parametrize("name", ["0", "00"])
def test_a_format_that_is_mapped_twice_is_refused(name: str) -> None:
    with pytest.raises(InvalidSDP, match="maps format '0' more than once"):
        sdp.read_offer(offer_of(1, "", f"a=rtpmap:{name} VP8/90000\r\n"))


def test_feedback_for_any_format_that_comes_again_and_again_is_not_read() -> None:
    with pytest.raises(InvalidSDP, match="too much about formats"):
        sdp.read_offer(offer_of(1, "", "a=rtcp-fb:* nack832\r\n" * 100, formats=100))


def test_only_so_many_sections_are_taken() -> None:
    remote = sdp.read_offer(offer_of(20))
    assert sum(section.taken for section in remote.sections) == sdp.MAX_TAKEN


MALFORMED = {
    "format parameter without a value": (
        "a=rtpmap:0 VP8/90000",
        "a=rtpmap:0 H264/90000\r\na=fmtp:0 packetization-mode",
    ),
    "format parameter that is no number": (
        "a=rtpmap:0 VP8/90000",
        "a=rtpmap:0 H264/90000\r\na=fmtp:0 packetization-mode=x",
    ),
    "profile of three digits": ("a=rtpmap:0 VP8/90000", "a=rtpmap:0 H264/90000\r\na=fmtp:0 profile-level-id=42e"),
    "port of 5,000 digits": ("m=video 9", f"m=video {'9' * 5000}"),
    "payload type beyond a byte": ("a=rtpmap:0 VP8", "a=rtpmap:300 VP8"),
    "payload type below 0": ("a=rtpmap:0 VP8", "a=rtpmap:-1 VP8"),
    "extension 0": ("a=mid:0", "a=mid:0\r\na=extmap:0 urn:x"),
    "extension beyond a byte": ("a=mid:0", "a=mid:0\r\na=extmap:256 urn:x"),
    "source beyond 32 bit": ("a=mid:0", "a=mid:0\r\na=ssrc:4294967296 cname:x"),
    "source group beyond 32 bit": ("a=mid:0", "a=mid:0\r\na=ssrc-group:FID 1 4294967296"),
    "user name of 60,000 characters": ("a=ice-ufrag:", f"a=ice-ufrag:{'x' * 1500}"),
    "user name in another script": ("a=ice-ufrag:", "a=ice-ufrag:\u00e9"),
    "no user name": ("a=ice-ufrag:", "a=x:"),
    "two names": ("a=mid:0", "a=mid:0\r\na=mid:1"),
    "a name and none": ("a=mid:0", "a=mid:0\r\na=mid"),
    "a name with a blank after it": ("a=mid:0", "a=mid:0 "),
    "a name of two words": ("a=mid:0", "a=mid:0 1"),
}


@pytest.mark.parametrize(("old", "new"), MALFORMED.values(), ids=MALFORMED)
async def test_what_aiortc_would_trip_over_is_refused_in_words(old: str, new: str) -> None:
    offer = offer_of(1)
    assert old in offer
    async with Peer() as peer:
        with pytest.raises(SynopticonError):
            await peer.connection.answer(offer.replace(old, new, 1))


@pytest.mark.parametrize(
    "candidate", [f"{HOST} x {'y' * 1000}", HOST.replace("5000", "9" * 5000), HOST.replace("1 udp", "x udp")]
)
def test_a_candidate_that_is_too_long_or_none_is_refused(candidate: str) -> None:
    with pytest.raises(InvalidSDP, match="not an ICE candidate"):
        sdp.read_candidate(candidate)
