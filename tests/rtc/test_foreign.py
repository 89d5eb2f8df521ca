"""What other WebRTC stacks do: candidates without a section, RSA certificates, no BUNDLE, sections refused."""

import asyncio
import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription, rtcdtlstransport
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from rtc_helpers import Clip, Peer, join, unchanged

from synopticon_rtc.errors import InvalidSDP, NoCommonCodec
from synopticon_rtc.rtc import Channel, sdp, seams

STACKS = Path(__file__).parent / "stacks"
"""What other stacks offer, and answer to an offer of ours, as the peers of the conformance suite made it."""


def split(text: str) -> list[str]:
    """The session part of a description, and its sections."""
    head, *rest = re.split(r"(?m)^(?=m=)", text)
    return [head, *rest]


def refusing(kind: str) -> Callable[[str], str]:
    """Have a description refuse the sections of a kind, and leave them out of the BUNDLE group."""

    def refuse(text: str) -> str:
        head, *rest = split(text)
        for index, section in enumerate(rest):
            if section.startswith(f"m={kind} "):
                (mid,) = re.findall(r"(?m)^a=mid:(\S*)", section)
                head = re.sub(rf"(?m)^(a=group:BUNDLE.*) {mid}\b", r"\1", head)
                first, _ = section.split("\r\n", 1)
                rest[index] = re.sub(r" \d+", " 0", first, count=1) + f"\r\na=inactive\r\na=mid:{mid}\r\n"
        return "".join([head, *rest])

    return refuse


def unbundled(text: str) -> str:
    """Take the BUNDLE group out of a description."""
    return re.sub(r"a=group:BUNDLE[^\n]*\n", "", text)


async def passes_frames(clip: Clip, receiver: Peer) -> None:
    """Play until the receiver shows frames."""
    async with asyncio.timeout(10):
        while len(receiver.frames) < 3:
            await clip.play(1)


async def passes_messages(channel: Channel, receiver: Peer) -> None:
    """Send a message on a channel, and wait for it at the other end."""
    heard: list[object] = []
    await receiver.until(lambda: receiver.channels)
    receiver.channels[0].on_message = heard.append

    def heard_of_one_more() -> bool:
        channel.send("faces")
        return bool(heard)

    await receiver.until(heard_of_one_more, 10)


async def plays(
    *,
    offer: Callable[[str], str] = unchanged,
    answer: Callable[[str], str] = unchanged,
    faces: bool = True,
    video: bool = True,
) -> None:
    """Connect a sender of video and faces with a receiver, and see that those come which should."""
    clip = Clip()
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        channel = sender.connection.add_channel("faces")
        await join(sender, receiver, offer=offer, answer=answer)
        if video:
            await passes_frames(clip, receiver)
        if faces:
            await passes_messages(channel, receiver)
        assert sender.states[-1] == receiver.states[-1] == "connected"


# Candidates


NAMES = [("", 0), ("", None), ("", 1), ("", 7), (None, 0), (None, None), ("0", 9), ("1", 1)]


@pytest.mark.parametrize("ours_answers", [False, True])
@pytest.mark.parametrize(("mid", "line"), NAMES)
async def test_a_candidate_counts_whatever_it_names_where_there_is_one_transport(
    mid: str | None, line: int | None, *, ours_answers: bool
) -> None:
    def without(text: str) -> str:
        return re.sub(r"(?m)^a=(?:candidate|end-of-candidates).*\n", "", text)

    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda codec: Clip(codec).stream)
        sender.connection.add_channel("faces")
        offer = await sender.connection.offer()
        answer = await receiver.connection.answer(without(offer))
        await sender.connection.set_answer(without(answer))
        # One of them learns of the other, which learns nothing, as from behind a NAT.
        peer, told = (receiver, offer) if ours_answers else (sender, answer)
        for candidate in re.findall(r"(?m)^a=(candidate:.*?)\r?$", split(told)[1]):
            await peer.connection.add_candidate(candidate, mid, line)
        await sender.until_state("connected")
        await receiver.until_state("connected")


def test_a_candidate_of_another_transport_does_not_count() -> None:
    text = "\r\n".join(
        [
            *("v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0"),
            *("a=group:BUNDLE v d", "a=fingerprint:sha-256 00", "a=setup:actpass"),
            *("m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:v", "a=rtcp-mux", "a=rtpmap:96 VP8/90000"),
            *("a=ice-ufrag:a", "a=ice-pwd:x"),
            *("m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:d", "a=sctp-port:5000"),
            *("a=ice-ufrag:b", "a=ice-pwd:y"),
        ]
    )
    offer = sdp.read_offer(text)
    assert offer.carries("v", 1)
    assert not offer.carries("d", 0)
    assert not offer.carries("none", 0)
    assert [offer.carries("", line) for line in (0, 1, 2, -1, None)] == [True, False, True, True, True]


@pytest.mark.parametrize("lite", [False, True])
async def test_an_ice_lite_peer_is_called(*, lite: bool) -> None:
    """It sends no checks, so we control (RFC 8445 section 6.1.1)."""
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        offer = await sender.connection.offer()
        await receiver.connection.answer(offer.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n") if lite else offer)
        assert receiver.connection._ice is not None
        assert receiver.connection._ice.ice_controlling is lite


# Certificates


def rsa_certificate() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rsa")])
    now = dt.datetime.now(tz=dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    return key, builder.sign(key, hashes.SHA256())


RSA = rsa_certificate()


class RsaCertificate(rtcdtlstransport.RTCCertificate):
    """As GStreamer has one: with RSA ciphers alone."""

    ciphers = b"ECDHE-RSA-AES128-GCM-SHA256"

    def _create_ssl_context(self, srtp_profiles: list[rtcdtlstransport.SRTPProtectionProfile]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(self.ciphers)
        return context


def wear(peer: Peer, certificate: Any) -> None:
    """Give a peer another certificate."""
    peer.connection._connection._RTCPeerConnection__certificates = [certificate(*RSA)]


@pytest.mark.parametrize("server", ["sender", "receiver"])
@pytest.mark.parametrize("ciphers", [b"ECDHE-RSA-AES128-GCM-SHA256", b"ECDHE-RSA-CHACHA20-POLY1305"])
async def test_a_peer_with_an_rsa_certificate_is_connected_with(ciphers: bytes, server: str) -> None:
    certificate = type("Certificate", (RsaCertificate,), {"ciphers": ciphers})
    async with Peer() as sender, Peer() as receiver:
        wear(sender if server == "sender" else receiver, certificate)
        channel = sender.connection.add_channel("faces")
        passive = "a=setup:active" if server == "receiver" else "a=setup:passive"
        await join(sender, receiver, offer=lambda text: text.replace("a=setup:actpass", passive))
        await passes_messages(channel, receiver)


def aiortcs_ciphers() -> list[str]:
    context = rtcdtlstransport.RTCCertificate.generateCertificate()._create_ssl_context(rtcdtlstransport.SRTP_PROFILES)
    return [cipher for cipher in SSL.Connection(context).get_cipher_list() if not cipher.startswith("TLS_")]


def test_aiortc_offers_no_ciphers_for_rsa_certificates() -> None:
    """When this fails, upstream has them: ours can go."""
    assert not [cipher for cipher in aiortcs_ciphers() if "-RSA-" in cipher]


def test_ours_are_aiortcs_ciphers_and_those_for_rsa() -> None:
    assert [name for name in seams.CIPHERS.decode().split(":") if "-RSA-" not in name] == aiortcs_ciphers()


async def test_what_ended_the_dtls_handshake_is_told_at_both_ends() -> None:
    certificate = type("Certificate", (RsaCertificate,), {"ciphers": b"ECDHE-RSA-AES256-GCM-SHA384"})
    async with Peer() as sender, Peer() as receiver:
        wear(sender, certificate)
        sender.connection.add_channel("faces")
        passive = "a=setup:passive"
        sender.other, receiver.other = receiver, sender
        offer = (await sender.connection.offer()).replace("a=setup:actpass", passive)
        await sender.connection.set_answer(await receiver.connection.answer(offer))
        await receiver.until_state("failed")
        assert receiver.connection.failure == "the peer refused our DTLS handshake: handshake failure (alert 40)"


async def test_a_refusal_of_ours_is_told_as_ours() -> None:
    certificate = type("Certificate", (RsaCertificate,), {"ciphers": b"ECDHE-RSA-AES256-GCM-SHA384"})
    async with Peer() as sender, Peer() as receiver:
        wear(receiver, certificate)
        sender.connection.add_channel("faces")
        answer = await receiver.connection.answer(await sender.connection.offer())  # it is the client
        await sender.connection.set_answer(answer)
        await sender.until_state("failed")
        assert sender.connection.failure == "we refused the peer's DTLS handshake: handshake failure (alert 40)"


async def test_a_certificate_of_somebody_else_is_told() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        offer = await sender.connection.offer()
        forged = re.sub(r"(a=fingerprint:\S+ )..", r"\g<1>00", offer)
        await sender.connection.set_answer(await receiver.connection.answer(forged))
        await receiver.until_state("failed")
        assert receiver.connection.failure == "the peer's certificate is not the one that its session description names"


# BUNDLE


NOT_BUNDLED = r"transports of their own for video '0' and application '1'.*bundle policy to max-bundle"


async def test_an_offer_with_video_and_channels_apart_is_refused_by_name() -> None:
    with pytest.raises(InvalidSDP, match=NOT_BUNDLED):
        await plays(offer=unbundled)


async def test_an_answer_with_video_and_channels_apart_is_refused_by_name() -> None:
    with pytest.raises(InvalidSDP, match=NOT_BUNDLED):
        await plays(answer=unbundled)


@pytest.mark.parametrize("which", ["offer", "answer"])
async def test_half_a_group_is_refused_by_name(which: str) -> None:
    def halve(text: str) -> str:
        return text.replace("BUNDLE 0 1", "BUNDLE 0")

    with pytest.raises(InvalidSDP, match=NOT_BUNDLED):
        await (plays(offer=halve) if which == "offer" else plays(answer=halve))


async def test_video_alone_needs_no_group() -> None:
    clip = Clip()
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        await join(sender, receiver, offer=unbundled, answer=unbundled)
        await passes_frames(clip, receiver)


async def test_an_answer_has_no_group_that_was_not_offered() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        assert "BUNDLE" not in await receiver.connection.answer(unbundled(await sender.connection.offer()))


async def test_what_is_not_bundled_with_the_video_and_not_wanted_is_refused() -> None:
    other = RTCPeerConnection()
    other.addTransceiver("audio")
    other.addTransceiver("video")
    other.createDataChannel("faces")
    await other.setLocalDescription()
    offer = other.localDescription.sdp.replace("BUNDLE 0 1 2", "BUNDLE 1 2")
    async with Peer() as peer:
        answer = await peer.connection.answer(offer)
    await other.close()
    assert [(kind, port == "0") for kind, port in re.findall(r"(?m)^m=(\w+) (\d+)", answer)] == [
        ("audio", True),
        ("video", False),
        ("application", False),
    ]
    assert "a=group:BUNDLE 1 2\r\n" in answer


@pytest.mark.parametrize("which", ["offer", "answer"])
async def test_a_group_in_another_order_is_taken(which: str) -> None:
    def swap(text: str) -> str:
        return text.replace("BUNDLE 0 1", "BUNDLE 1 0")

    await (plays(offer=swap) if which == "offer" else plays(answer=swap))


async def test_the_section_whose_transport_is_used_comes_first_in_the_answers_group() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda codec: Clip(codec).stream)
        sender.connection.add_channel("faces")
        offer = (await sender.connection.offer()).replace("BUNDLE 0 1", "BUNDLE 1 0")
        assert "a=group:BUNDLE 1 0\r\n" in await receiver.connection.answer(offer)


@pytest.mark.parametrize("which", ["offer", "answer"])
async def test_bundled_sections_need_not_repeat_the_transport(which: str) -> None:
    def once(text: str) -> str:
        head, first, second = split(text)
        return head + first + re.sub(r"(?m)^a=(?:ice-|fingerprint|setup|candidate).*\n", "", second)

    await (plays(offer=once) if which == "offer" else plays(answer=once))


async def test_sections_that_are_bundled_only_are_answered() -> None:
    def only(text: str) -> str:
        head, first, second = split(text)
        second = re.sub(r"(?m)^a=(?:ice-|fingerprint|setup|candidate).*\n", "", second)
        return head + first + re.sub(r"m=application \d+", "m=application 0", second) + "a=bundle-only\r\n"

    await plays(offer=only)


async def test_aiortc_stops_what_is_bundled_in_another_order() -> None:
    """When this fails, upstream has it: the group need not be written anew."""
    bundling = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
    one, other = RTCPeerConnection(bundling), RTCPeerConnection(bundling)
    one.addTransceiver("video")
    one.createDataChannel("faces")
    await one.setLocalDescription()
    offer = one.localDescription.sdp.replace("BUNDLE 0 1", "BUNDLE 1 0")
    await other.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    assert other.sctp
    assert other.sctp.transport.transport.state == "closed"
    await one.close()
    await other.close()


# Sections that are refused


async def test_video_that_an_answer_refuses_leaves_the_faces() -> None:
    await plays(answer=refusing("video"), video=False)


async def test_aiortc_takes_no_answer_with_a_section_refused() -> None:
    """When this fails, upstream may have it: then no section need stand in for one that is refused."""
    one, other = RTCPeerConnection(), RTCPeerConnection()
    one.addTransceiver("video")
    one.createDataChannel("faces")
    await one.setLocalDescription()
    await other.setRemoteDescription(one.localDescription)
    await other.setLocalDescription()
    with pytest.raises(ValueError, match="missing"):
        await one.setRemoteDescription(RTCSessionDescription(refusing("video")(other.localDescription.sdp), "answer"))
    await one.close()
    await other.close()


async def test_channels_that_an_answer_refuses_leave_the_video() -> None:
    await plays(answer=refusing("application"), faces=False)


async def test_video_that_an_answer_takes_with_unknown_codecs_leaves_the_faces() -> None:
    await plays(answer=lambda text: text.replace(" VP8/", " AV1/").replace(" H264/", " H265/"), video=False)


async def test_video_that_is_inactive_in_the_answer_leaves_the_faces() -> None:
    await plays(answer=lambda text: text.replace("a=recvonly", "a=inactive"), video=False)


@pytest.mark.parametrize("direction", ["", "a=sendrecv"])
async def test_an_answer_that_says_no_direction_receives(direction: str) -> None:
    await plays(answer=lambda text: text.replace("a=recvonly", direction).replace("\r\n\r\n", "\r\n"))


async def test_an_offer_that_says_no_direction_sends() -> None:
    await plays(offer=lambda text: text.replace("a=sendonly\r\n", ""))


@pytest.mark.parametrize("refuse", [refusing("video"), lambda text: text.replace("a=sendonly", "a=inactive")])
async def test_video_that_the_offer_itself_refuses_leaves_the_faces(refuse: Callable[[str], str]) -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda codec: Clip(codec).stream)
        channel = sender.connection.add_channel("faces")
        answer = await receiver.connection.answer(refuse(await sender.connection.offer()))
        assert receiver.tracks == []
        await sender.connection.set_answer(answer)
        await passes_messages(channel, receiver)


async def test_a_section_that_is_refused_names_its_codecs() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda codec: Clip(codec).stream)
        sender.connection.add_channel("faces")
        offer = re.sub(r"m=video \d+", "m=video 0", await sender.connection.offer())
        answer = await receiver.connection.answer(offer)
    assert re.search(r"m=video 0 (?s:.*)a=rtpmap:97 VP8/90000(?s:.*)m=application [1-9]", answer)


async def test_an_answer_that_refuses_everything_is_told_apart() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda codec: Clip(codec).stream)
        sender.connection.add_channel("faces")
        answer = await receiver.connection.answer(await sender.connection.offer())
        with pytest.raises(NoCommonCodec, match="none of our codecs"):
            await sender.connection.set_answer(refusing("video")(refusing("application")(answer)))


async def test_later_candidates_are_told_for_the_section_that_is_left() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda codec: Clip(codec).stream)
        sender.connection.add_channel("faces")
        answer = await receiver.connection.answer(await sender.connection.offer())
        await sender.connection.set_answer(refusing("video")(answer))
        assert sender.connection._section == ("1", 1)


async def test_an_answer_with_other_sections_is_refused() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda codec: Clip(codec).stream)
        sender.connection.add_channel("faces")
        head, *rest = split(await receiver.connection.answer(await sender.connection.offer()))
        with pytest.raises(InvalidSDP, match="not those of the offer"):
            await sender.connection.set_answer("".join([head, *reversed(rest)]))


async def test_of_two_videos_the_first_that_is_sent_is_received() -> None:
    other = RTCPeerConnection()
    for direction in ("recvonly", "sendonly", "sendonly"):
        other.addTransceiver("video", direction=direction)
    await other.setLocalDescription()
    async with Peer() as peer:
        answer = await peer.connection.answer(other.localDescription.sdp)
        assert len(peer.tracks) == 1
    await other.close()
    assert re.findall(r"(?m)^a=(sendrecv|sendonly|recvonly|inactive)", answer) == ["inactive", "recvonly", "inactive"]


# What other stacks write


def told(path: Path) -> str:
    return path.read_bytes().decode()


def named(pattern: str, *, bundled: bool = True) -> list[object]:
    paths = [path for path in sorted(STACKS.glob(pattern)) if ("unbundled" not in path.stem) is bundled]
    return [pytest.param(path, id=path.stem) for path in paths]


@pytest.mark.parametrize("path", named("*-broadcast-*"))
async def test_the_offer_of_another_stack_is_answered(path: Path) -> None:
    async with Peer() as peer:
        answer = await peer.connection.answer(told(path))
    sections = [
        (*re.findall(r"^m=(\w+)", section), "m= 0" if re.match(r"m=\w+ 0 ", section) else "", *direction[:1])
        for section in split(answer)[1:]
        for direction in [re.findall(r"(?m)^a=(recvonly|inactive)", section)]
    ]
    video = ("video", "m= 0", "inactive") if "refused" in path.stem else ("video", "", "recvonly")
    more = {("audio", "", "inactive"), ("video", "", "inactive")} if "extras" in path.stem else set()
    assert set(sections) == {video, ("application", ""), *more}
    assert sections.count(video) == 1


@pytest.mark.parametrize("path", named("*-receive-*"))
async def test_the_answer_of_another_stack_is_taken(path: Path) -> None:
    async with Peer() as peer:
        peer.connection.add_video(lambda codec: Clip(codec).stream, ["h264" if "h264" in path.stem else "vp8"])
        peer.connection.add_channel("faces")
        await peer.connection.offer()
        await peer.connection.set_answer(told(path))
        (transceiver,) = peer.connection._connection.getTransceivers()
        assert transceiver.currentDirection == ("inactive" if "refused" in path.stem else "sendonly")


@pytest.mark.parametrize("path", named("*-broadcast-*", bundled=False))
async def test_the_offer_of_a_stack_that_does_not_bundle_is_refused_by_name(path: Path) -> None:
    async with Peer() as peer:
        with pytest.raises(InvalidSDP, match="bundle policy to max-bundle"):
            await peer.connection.answer(told(path))


@pytest.mark.parametrize("path", named("*-receive-*", bundled=False))
async def test_the_answer_of_a_stack_that_does_not_bundle_is_refused_by_name(path: Path) -> None:
    async with Peer() as peer:
        peer.connection.add_video(lambda codec: Clip(codec).stream)
        peer.connection.add_channel("faces")
        await peer.connection.offer()
        with pytest.raises(InvalidSDP, match="bundle policy to max-bundle"):
            await peer.connection.set_answer(told(path))
