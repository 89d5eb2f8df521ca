"""Session descriptions (RFC 8866, RFC 8829): what aiortc cannot take is taken out, and put back into the answer."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from aioice import Candidate
from aioice.mdns import is_mdns_hostname
from aiortc.codecs import CODECS
from aiortc.rtcdtlstransport import X509_DIGEST_ALGORITHMS
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.sdp import MediaDescription, SessionDescription, grouplines

from synopticon_rtc.errors import InvalidSDP, NoCommonCodec

MAX_LENGTH = 65_536
MAX_LINE = 2048
MAX_SECTIONS = 32
MAX_TAKEN = 8
"""Sections that are taken; those after them are refused."""
MAX_SESSION_LINES = 64
"""Lines before the first section, as each section is read with them."""
MAX_WORK = 32_768
"""Formats times what is said about formats: aiortc looks each up among all. A video section of Chromium has 7,000."""
MAX_CANDIDATES = 64
MAX_CANDIDATE = 512
_BUNDLE = "a=group:BUNDLE"
_SHARED = ("a=fingerprint:", "a=ice-", "a=setup:")
"""Lines before the first section that hold for all of them."""
_ICE = re.compile(r"[!-~]{1,256}")
_CANDIDATE = ("a=candidate:", "a=remote-candidates:", "a=end-of-candidates")
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_MEDIA = re.compile(r"m=([^ ]+) ([0-9]{1,5})(?:/[0-9]+)? ([^ ]+) (.+)")


@dataclass(slots=True)
class Section:
    """One media section (``m=``) as text."""

    lines: list[str]
    kind: str
    port: int
    profile: str
    formats: str
    mid: str
    taken: bool = True

    @property
    def rejected(self) -> bool:
        """Whether whoever wrote it will not have it (RFC 8843 section 6: port 0 may also mean bundled)."""
        return self.port == 0 and "a=bundle-only" not in self.lines

    @property
    def is_data(self) -> bool:
        """Whether it is for data channels."""
        return self.kind == "application"

    def refusal(self) -> list[str]:
        """Return the section of an answer that refuses this one."""
        lines = [f"m={self.kind} 0 {self.profile} {self.formats}", "c=IN IP4 0.0.0.0", "a=inactive"]
        return [*lines, f"a=mid:{self.mid}"] if self.mid else lines


@dataclass(frozen=True, slots=True)
class Remote:
    """A peer's session description, ready for aiortc."""

    text: str
    """Without candidates, and without the sections that are not taken."""
    sections: list[Section]
    mid: str
    """The section whose transport carries everything."""
    line: int
    """The index of that section."""
    candidates: list[str]
    """The candidates of that transport; an empty one ends them."""


def read_offer(text: str) -> Remote:
    """Read an offer, and choose the sections to take: video, audio and one data channel section.

    Raises:
        InvalidSDP: It cannot be used.
        NoCommonCodec: It has video, but none that can be received.
    """
    session, sections = _split(text)
    data, taken = False, 0
    for section in sections:
        possible = taken < MAX_TAKEN and not section.rejected and not (data and section.is_data)
        section.taken = possible and _can_take(session, section)
        data = data or (section.taken and section.is_data)
        taken += section.taken
    if not any(section.taken for section in sections):
        if any(section.kind == "video" and not section.rejected for section in sections):
            raise NoCommonCodec("this peer offers none of our codecs: it must offer VP8 or H.264")
        raise InvalidSDP("the offer has neither video nor a data channel")
    return _remote(session, sections)


def read_answer(text: str) -> Remote:
    """Read an answer.

    Raises:
        InvalidSDP: It cannot be used.
        NoCommonCodec: It refuses the video.
    """
    session, sections = _split(text)
    for section in sections:
        if section.rejected:
            if section.kind == "video":
                raise NoCommonCodec("this peer takes none of our codecs")
            raise InvalidSDP(f"the answer refuses section {section.mid!r} ({section.kind})")
        _parse(session, section)
    return _remote(session, sections)


def write_answer(text: str, offer: Remote) -> str:
    """Put a refusal into an answer for each section of the offer that was not taken."""
    session, sections = _split(text)
    answers = iter(sections)
    lines = [next(answers).lines if section.taken else section.refusal() for section in offer.sections]
    return _join(session, lines)


def announce_trickle(text: str) -> str:
    """Say in a description that more candidates may follow (RFC 8840 section 4.1)."""
    session, sections = _split(text)
    lines = [[line for line in section.lines if line != "a=end-of-candidates"] for section in sections]
    return _join([*session, "a=ice-options:trickle"], lines)


def primary_mid(text: str) -> str:
    """Return the media section whose transport carries everything."""
    session, sections = _split(text)
    return _primary(session, sections).mid


def read_candidate(text: str) -> Candidate | None:
    """Read an ICE candidate (RFC 8839 section 5.1).

    Returns:
        None for a candidate that is well formed and of no use here: TCP, a component other than RTP, a host name.

    Raises:
        InvalidSDP: It is no candidate.
    """
    if len(text) > MAX_CANDIDATE:
        raise InvalidSDP(f"not an ICE candidate: {text[:80]!r}... ({len(text)} characters)")
    words = text.strip().removeprefix("a=").removeprefix("candidate:").split()
    try:
        candidate = Candidate.from_sdp(" ".join(words))
    except ValueError as error:
        raise InvalidSDP(f"not an ICE candidate: {text[:80]!r}") from error
    if words[6] != "typ" or not 0 <= candidate.priority < 2**32 or not 0 <= candidate.port < 2**16:
        raise InvalidSDP(f"not an ICE candidate: {text[:80]!r}")
    candidate.transport = candidate.transport.lower()
    usable = candidate.transport == "udp" and candidate.component == 1 and candidate.port > 0
    if not usable or candidate.type not in {"host", "srflx", "relay"}:
        return None
    if is_mdns_hostname(candidate.host):
        return candidate
    return candidate if is_reachable(candidate.host) else None


def is_reachable(host: str) -> bool:
    """Whether text is an address that one peer can have, and no name, however it is written.

    Not ``0.0.0.0/8``, which systems take for loopback, groups, reserved ranges and broadcast, IPv4 written as IPv6, and
    addresses with a zone, whose name would have to be looked up.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if address.is_multicast or address.is_unspecified:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not address.is_reserved and address not in _THIS_NETWORK
    return address.ipv4_mapped is None and address.scope_id is None


def _split(text: str) -> tuple[list[str], list[Section]]:
    if len(text) > MAX_LENGTH:
        raise InvalidSDP(f"the session description is too long: {len(text)} characters")
    session, groups = grouplines(text)
    if len(groups) > MAX_SECTIONS:
        raise InvalidSDP(f"the session description has too many media sections: {len(groups)}")
    if len(session) > MAX_SESSION_LINES:
        raise InvalidSDP(f"the session description has too many lines before its first section: {len(session)}")
    if any(len(line) > MAX_LINE for lines in (session, *groups) for line in lines):
        raise InvalidSDP(f"the session description has a line of more than {MAX_LINE} characters")
    _check_work(groups)
    sections: list[Section] = []
    for lines in groups:
        match = _MEDIA.fullmatch(lines[0].strip())
        if match is None:
            raise InvalidSDP(f"not a media section: {lines[0][:80]!r}")
        kind, port, profile, formats = match.groups()
        mid = next((line[6:].strip() for line in lines if line.startswith("a=mid:")), "")
        sections.append(Section(lines, kind, int(port), profile, formats, mid))
    if not sections:
        raise InvalidSDP("the session description has no media section")
    return session, sections


def _check_work(groups: list[list[str]]) -> None:
    """Refuse what aiortc would take long to read."""
    work = 0
    for lines in groups:
        formats = sum(line.startswith("a=rtpmap:") for line in lines)
        about = sum(line.startswith(("a=fmtp:", "a=rtcp-fb:")) for line in lines)
        sources = sum(line.startswith("a=ssrc:") for line in lines)
        for_all = sum(line.startswith("a=rtcp-fb:*") for line in lines)
        work += formats * (about + 4 * for_all) + sources * sources
    if work > MAX_WORK:
        raise InvalidSDP("the session description says too much about formats and sources")


def _join(session: list[str], sections: Iterable[list[str]]) -> str:
    return "".join(f"{line}\r\n" for lines in (session, *sections) for line in lines if line)


def _can_take(session: list[str], section: Section) -> bool:
    if section.is_data and (section.formats == "webrtc-datachannel" or section.profile == "DTLS/SCTP"):
        _parse(session, section)
        return True
    return section.kind in CODECS and _parse(session, section)[1]


def _parse(session: list[str], section: Section) -> tuple[MediaDescription, bool]:
    """Have aiortc read a section, and check what it would trip over once connecting.

    Returns:
        What it read, and whether it has a codec of ours.
    """
    shared = [line for line in session if line.startswith(_SHARED)]
    lines = [line for line in section.lines if not line.startswith(_CANDIDATE)]
    try:
        (media,) = SessionDescription.parse(_join(shared, [lines])).media
        common = bool(find_common_codecs(CODECS.get(section.kind, []), media.rtp.codecs))
    except Exception as error:
        raise InvalidSDP(f"the session description cannot be read: {error!r}") from error
    if not media.dtls or not any(f.algorithm.lower() in X509_DIGEST_ALGORITHMS for f in media.dtls.fingerprints):
        raise InvalidSDP("the session description has no certificate fingerprint that can be checked")
    if section.is_data and section.profile != "DTLS/SCTP" and not 0 < (media.sctp_port or 0) < 2**16:
        raise InvalidSDP("the session description has no SCTP port")
    names = (media.ice.usernameFragment, media.ice.password) if media.ice else ()
    if not names or not all(_ICE.fullmatch(name or "") for name in names):
        raise InvalidSDP("the session description has no ICE user name and password")
    _check_numbers(media)
    return media, common


def _check_numbers(media: MediaDescription) -> None:
    """Refuse numbers for which there is no room in the packets that they go into."""
    formats = [codec.payloadType or 0 for codec in media.rtp.codecs]
    extensions = [extension.id for extension in media.rtp.headerExtensions]
    sources = [source.ssrc for source in media.ssrc]
    sources += [int(item) for group in media.ssrc_group for item in group.items]
    if not all(0 <= number < 2**7 for number in formats):
        raise InvalidSDP("the session description has an RTP payload type that is none")
    if not all(0 < number < 2**8 for number in extensions):
        raise InvalidSDP("the session description has an RTP header extension whose number is none")
    if not all(0 <= number < 2**32 for number in sources):
        raise InvalidSDP("the session description has an RTP source that is none")


def _remote(session: list[str], sections: list[Section]) -> Remote:
    taken = [section for section in sections if section.taken]
    mids = {section.mid for section in taken}
    if len(mids) < len(taken):
        raise InvalidSDP("the session description has media sections of the same name")
    primary = _primary(session, taken)
    candidates = [line[2:] for line in primary.lines if line.startswith("a=candidate:")][:MAX_CANDIDATES]
    if "a=end-of-candidates" in (*session, *primary.lines):
        candidates.append("")

    session = [_bundle(line, mids) for line in session if not line.startswith(_CANDIDATE)]
    lines = [[line for line in section.lines if not line.startswith(_CANDIDATE)] for section in taken]
    return Remote(_join(session, lines), sections, primary.mid, sections.index(primary), candidates)


def _primary(session: list[str], sections: list[Section]) -> Section:
    """Return the section that tags the BUNDLE group (RFC 8843 section 7.1), or else the first."""
    for line in session:
        if line.startswith(_BUNDLE):
            by_mid = {section.mid: section for section in sections}
            for mid in line.removeprefix(_BUNDLE).split():
                if mid in by_mid:
                    return by_mid[mid]
    return sections[0]


def _bundle(line: str, mids: set[str]) -> str:
    """Take sections that are not taken out of the BUNDLE group."""
    if not line.startswith(_BUNDLE):
        return line
    return " ".join([_BUNDLE, *(mid for mid in line.removeprefix(_BUNDLE).split() if mid in mids)])
