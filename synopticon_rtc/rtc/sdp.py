"""Session descriptions (RFC 8866, RFC 8829): what aiortc cannot take is taken out, and put back into the answer."""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aioice import Candidate
from aioice.mdns import is_mdns_hostname
from aiortc.codecs import CODECS
from aiortc.rtcdtlstransport import X509_DIGEST_ALGORITHMS
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.sdp import MediaDescription, SessionDescription, grouplines

from synopticon_rtc.errors import InvalidSDP, NoCommonCodec
from synopticon_rtc.rtc import capture_time
from synopticon_rtc.rtc.level import LEAST

MAX_LENGTH = 65_536
MAX_LINE = 2048
MAX_SECTIONS = 32
MAX_TAKEN = 8
"""Sections that are taken; those after them are refused."""
MAX_SESSION_LINES = 64
"""Lines before the first section, as each section is read with them."""
MAX_WORK = 32_768
"""Formats times what is said about formats: aiortc looks each up among all. A video section of Chromium has 7,000."""
MAX_TRANSPORT = 16
"""Lines that a section says of its transport, as the bundled ones are read with them."""
MAX_CANDIDATES = 64
MAX_CANDIDATE = 512
_BUNDLE = "a=group:BUNDLE"
_SHARED = ("a=fingerprint:", "a=ice-", "a=setup:")
"""Lines before the first section that hold for all of them."""
_ICE = re.compile(r"[!-~]{1,256}")
_DIRECTIONS = ("a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive")
_TRANSPORT = ("a=ice-", "a=fingerprint:", "a=setup:", "a=tls-id:")
"""What RFC 8859 has a bundled section say of its transport: once for all of them."""
_CANDIDATE = ("a=candidate:", "a=remote-candidates:", "a=end-of-candidates")
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_LEVEL = re.compile(r"(profile-level-id=[0-9a-fA-F]{4})([0-9a-fA-F]{2})(?![0-9a-fA-F])")
_FORMAT = re.compile(r"a=(?:rtpmap|fmtp|rtcp-fb):(\d+) ")
_STAMPED = re.compile(rf"a=extmap:\d+ {re.escape(capture_time.URI)}")
_MEDIA = re.compile(r"m=([^ ]+) ([0-9]{1,5})(?:/[0-9]+)? ([^ ]+) (.+)")


@dataclass(slots=True)
class Section:
    """One media section (``m=``) as text."""

    lines: list[str]
    """All that it says, from its ``m=`` on."""
    kind: str
    """``video``, ``audio``, ``application``, or what else there may be."""
    port: int
    """Of its ``m=`` line: 0 means that it is refused, or goes with another."""
    profile: str
    """How it is carried, like ``UDP/TLS/RTP/SAVPF``."""
    formats: str
    """What may be sent in it, as on its ``m=`` line."""
    mid: str
    """Its name, by which candidates and groups mean it."""
    taken: bool = True
    """Whether we take part in it."""
    apart: bool = False
    """Whether its transport is another than the one that carries everything."""

    @property
    def transport(self) -> list[str]:
        """What it says of its transport."""
        return [line for line in self.lines if line.startswith(_TRANSPORT)][:MAX_TRANSPORT]

    @property
    def user(self) -> str | None:
        """The ICE user name that it gives, by which transports are told apart."""
        return next((line for line in self.lines if line.startswith("a=ice-ufrag:")), None)

    @property
    def rejected(self) -> bool:
        """Whether whoever wrote it will not have it (RFC 9143 section 6: port 0 may also mean bundled)."""
        return self.port == 0 and "a=bundle-only" not in self.lines

    @property
    def stamped(self) -> list[str]:
        """Where its packets may tell when they were captured, the line that says so."""
        return [line for line in self.lines if _STAMPED.fullmatch(line)][:1]

    @property
    def is_data(self) -> bool:
        """Whether it is for data channels."""
        return self.kind == "application"

    @property
    def levels(self) -> dict[str, int]:
        """The level of H.264, times ten, that it names for each of its formats."""
        found = ((_FORMAT.match(line), _LEVEL.search(line)) for line in self.lines)
        return {name[1]: int(level[2], 16) for name, level in found if name and level}

    def leave_levels_below(self, level: int) -> list[int]:
        """Drop formats of H.264 that are for less than this level, and return the levels of these.

        With ``level-asymmetry-allowed`` a level below ours is no limit in practice: browsers name 3.1 there, and decode
        what they can.
        """
        asymmetric = [line for line in self.lines if "level-asymmetry-allowed=1" in line]
        lower = {name: low for name, low in self.levels.items() if low < level}
        for line in asymmetric:
            lower.pop(line.removeprefix("a=fmtp:").split(" ", 1)[0], None)
        self.lines = [line for line in self.lines if not ((match := _FORMAT.match(line)) and match[1] in lower)]
        return list(lower.values())

    def carried(self, transport: list[str], direction: str = "") -> list[str]:
        """Return it with this transport, without candidates, and with this direction in place of its own."""
        unwanted = (*_TRANSPORT, *_CANDIDATE, *(_DIRECTIONS if direction else ()))
        lines = [_any_level(line) for line in self.lines if not line.startswith(unwanted)]
        return [*lines, *transport, f"a={direction}"] if direction else [*lines, *transport]

    def refusal(self) -> list[str]:
        """Return the section of an answer that refuses this one; it names the codecs, as some peers ask for them."""
        lines = [f"m={self.kind} 0 {self.profile} {self.formats}", "c=IN IP4 0.0.0.0", "a=inactive"]
        return lines + [line for line in self.lines if line.startswith(("a=mid:", "a=rtpmap:", "a=fmtp:"))]

    def __str__(self) -> str:
        return f"{self.kind} {self.mid!r}" if self.mid else self.kind


@dataclass(frozen=True, slots=True)
class Remote:
    """A peer's session description, ready for aiortc."""

    text: str
    """Without candidates, and without what is not taken; an answer has stand-ins for that."""
    sections: list[Section]
    """All of them, also those that are not taken, in their order."""
    primary: Section
    """The section whose transport carries everything."""
    candidates: list[str]
    """The candidates of that transport; an empty one ends them."""
    bundled: bool
    """Whether there is a BUNDLE group."""
    video: str | None
    """Of an offer: the section of the first video that the peer would send."""
    audio: str | None
    """Of an offer: the section of the first sound that the peer would send."""

    @property
    def mid(self) -> str:
        """The name of the section whose transport carries everything."""
        return self.primary.mid

    @property
    def line(self) -> int:
        """The index of that section."""
        return self.sections.index(self.primary)

    @property
    def refused(self) -> list[Section]:
        """The sections that are not taken."""
        return [section for section in self.sections if not section.taken]

    def carries(self, mid: str | None, line: int | None) -> bool:
        """Tell whether a candidate that names this section is one of the transport that carries everything.

        Some peers name none, an empty one, or always the first. What counts for nothing is a name that no section has,
        and a section known to have another transport.
        """
        if mid:
            return any(section.mid == mid and not section.apart for section in self.sections)
        return line is None or not 0 <= line < len(self.sections) or not self.sections[line].apart


def read_offer(text: str, level: int = 0) -> Remote:
    """Read an offer, and choose the sections to take: video, audio and one data channel section.

    One transport carries everything, so what the peer does not bundle with the first video is not taken.

    Args:
        text: The offer.
        level: The level of H.264 that is sent to the peer, times ten; 0 where none is.

    Raises:
        InvalidSDP: It cannot be used, or has the video and the data channels on different transports.
        NoCommonCodec: It has video, but none that can be received.
    """
    session, sections = _split(text)
    _inherit(session, sections)
    data: Section | None = None
    taken: list[Section] = []
    for section in sections:
        section.leave_levels_below(level)
        possible = len(taken) < MAX_TAKEN and not section.rejected and not (data and section.is_data)
        section.taken = possible and _can_take(session, section)
        if section.taken:
            taken.append(section)
            data = section if section.is_data else data
    if not taken:
        if any(section.kind == "video" and not section.rejected for section in sections):
            raise NoCommonCodec(
                "this peer offers none of our codecs: it must offer VP8, or H.264 with packetization-mode=1"
            )
        raise InvalidSDP("the offer has neither video nor a data channel")
    sent = [section for section in taken if _direction(session, section) in {"sendonly", "sendrecv"}]
    video = next((section for section in sent if section.kind == "video"), None)
    audio = next((section for section in sent if section.kind == "audio"), None)
    main = video or data or taken[0]
    group = _group(session, main)
    if data is not None and data is not main and data.mid not in group:
        raise _not_bundled("offer", [main, data])
    for section in taken:
        section.taken = section is main or section.mid in group
    taken = [section for section in sections if section.taken]
    primary = _primary(group, taken)
    lines = [section.carried(primary.transport, _direction(session, section)) for section in taken]
    return _remote(session, sections, primary, taken, lines, video, audio)


def read_answer(text: str, offer: str, level: int = LEAST) -> Remote:
    """Read the answer to an offer of ours, whose sections are all bundled.

    aiortc takes no answer with a section refused: in place of one stands our own, on which nothing is sent.

    Args:
        text: The answer.
        offer: Our offer.
        level: The level of H.264 that is sent, times ten: what a peer takes of less only is not sent.

    Raises:
        InvalidSDP: It cannot be used, or gives sections transports of their own.
        NoCommonCodec: It takes nothing, not the video either.
    """
    session, sections = _split(text)
    offered = _split(offer)[1]
    if [section.kind for section in sections] != [section.kind for section in offered]:
        raise InvalidSDP("the media sections of the answer are not those of the offer")
    _inherit(session, sections)
    low: list[int] = []
    for section in sections:
        low += section.leave_levels_below(level)
        section.taken = not section.rejected and _can_take(session, section)
    taken = [section for section in sections if section.taken]
    if not taken:
        if low:
            raise NoCommonCodec(
                f"this peer takes H.264 up to level {max(low) / 10:g}, and the video is of level {level / 10:g}: send "
                "a smaller picture, or VP8"
            )
        if any(section.kind == "video" for section in sections):
            raise NoCommonCodec("this peer takes none of our codecs")
        raise InvalidSDP(f"the answer refuses {_listed(sections)}")
    group = _group(session, taken[0])
    if len(taken) > 1 and any(section.mid not in group for section in taken):
        raise _not_bundled("answer", taken)
    primary = _primary(group, taken)
    lines = [
        section.carried(primary.transport, _agreed(_direction(session, section), ours))
        if section.taken
        else ours.carried(primary.transport, "inactive")
        for section, ours in zip(sections, offered, strict=True)
    ]
    return _remote(session, sections, primary, offered, lines)


def write_answer(text: str, offer: Remote) -> str:
    """Put a refusal into an answer for each section of the offer that was not taken, and bundle as the offer does.

    The levels of H.264 are those of the offer, as all are decoded here; and packets may tell when they were captured.
    """
    session, sections = _split(text)
    for section, offered in zip(sections, (section for section in offer.sections if section.taken), strict=True):
        levels = offered.levels
        section.lines = [
            name_level(line, levels[match[1]]) if (match := _FORMAT.match(line)) and match[1] in levels else line
            for line in section.lines
        ]
        section.lines += offered.stamped
    answers = iter(sections)
    lines = [next(answers).lines if section.taken else section.refusal() for section in offer.sections]
    session = [line for line in session if not line.startswith(_BUNDLE)]
    if offer.bundled:  # the section whose transport is used comes first (RFC 9143 section 7.3.1)
        mids = [section.mid for section in offer.sections if section.taken and section is not offer.primary]
        session.append(" ".join([_BUNDLE, offer.mid, *mids]))
    return _join(session, lines)


def name_level(text: str, level: int) -> str:
    """Name a level of H.264, times ten, in place of those in a description."""
    return _LEVEL.sub(rf"\g<1>{level:02x}", text)


def offer_capture_time(text: str) -> str:
    """Offer in a description that packets of media tell when they were captured.

    And that whoever receives video may ask for our clock (``rrtr``), to know when that was by its own.
    """
    session, sections = _split(text)
    for section in sections:
        if not section.is_data:
            section.lines.append(f"a=extmap:{capture_time.NUMBER} {capture_time.URI}")
            section.lines += [
                line.replace(" nack pli", " rrtr") for line in section.lines if line.endswith(" nack pli")
            ]
    return _join(session, [section.lines for section in sections])


def offer_layers(text: str, mid: str, layers: Sequence[tuple[int, int]]) -> str:
    """Offer several layers of a video by their sources, as Janus takes them: RFC 5576 with the group ``SIM``.

    Args:
        text: The offer, with the source of the largest.
        mid: The name of the video's media section.
        layers: The sources of each layer, the largest first: that of the video, and that of what is sent again.
    """
    session, sections = _split(text)
    for section in sections:
        own = [line for line in section.lines if line.startswith("a=ssrc")]
        if section.mid != mid or not own:
            continue
        first = f"a=ssrc:{layers[0][0]} "
        name = next(line.removeprefix(first) for line in own if line.startswith(first))
        repaired = any(line.startswith("a=ssrc-group:FID") for line in own)
        section.lines = [line for line in section.lines if line not in own]
        section.lines.append(" ".join(["a=ssrc-group:SIM", *(str(ssrc) for ssrc, _ in reversed(layers))]))
        for ssrc, again in reversed(layers):
            section.lines += [f"a=ssrc-group:FID {ssrc} {again}"] if repaired else []
        for ssrc, again in reversed(layers):
            section.lines += [f"a=ssrc:{ssrc} {name}"] + ([f"a=ssrc:{again} {name}"] if repaired else [])
    return _join(session, [section.lines for section in sections])


def leave_candidates_out(text: str) -> str:
    """Tell no candidate again: the peer would try them anew, though it may have learned of better ways since."""
    session, sections = _split(text)
    return _join(session, [[line for line in section.lines if not line.startswith(_CANDIDATE)] for section in sections])


def put_candidates(text: str, candidates: Iterable[Candidate]) -> str:
    """Put these candidates, and that there are no more, in the place of those of a description."""
    session, sections = _split(text)
    primary = _primary(_group(session, sections[0]), sections)
    for section in sections:
        section.lines = [line for line in section.lines if not line.startswith(_CANDIDATE)]
    primary.lines += [f"a=candidate:{candidate.to_sdp()}" for candidate in candidates] + ["a=end-of-candidates"]
    return _join(session, [section.lines for section in sections])


def announce_trickle(text: str) -> str:
    """Say in a description that more candidates may follow (RFC 8840 section 4.1)."""
    session, sections = _split(text)
    lines = [[line for line in section.lines if line != "a=end-of-candidates"] for section in sections]
    return _join([*session, "a=ice-options:trickle"], lines)


def primary_mid(text: str) -> str:
    """Return the media section whose transport carries everything."""
    session, sections = _split(text)
    return _primary(_group(session, sections[0]), sections).mid


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
        sections.append(Section([*map(_without_blanks, lines)], kind, int(port), profile, formats, mid))
    if not sections:
        raise InvalidSDP("the session description has no media section")
    return session, sections


def _without_blanks(line: str) -> str:
    """Return what is said of a format as aiortc reads it: without the blanks that RFC 6184 has between parameters."""
    if not line.startswith("a=fmtp:") or not (words := line.split(None, 1))[1:]:
        return line
    return f"{words[0]} " + ";".join(filter(None, (part.strip() for part in words[1].split(";"))))


def _any_level(line: str) -> str:
    """Return a line with a level of H.264 that aiortc knows: it compares profiles alone, but takes no newer level."""
    return name_level(line, LEAST) if line.startswith("a=fmtp:") else line


def _check_work(groups: list[list[str]]) -> None:
    """Refuse what aiortc would take long to read or to answer."""
    work = 0
    for lines in groups:
        mapped = Counter(_format_of(line) for line in lines if line.startswith("a=rtpmap:"))
        if doubled := next((name for name, count in mapped.items() if count > 1), None):
            # RFC 8866 section 6.6; aiortc keeps each, with all that is said of any, and answers with all of it squared.
            raise InvalidSDP(f"the session description maps format {doubled[:20]!r} more than once")
        formats = len(mapped)
        about = sum(line.startswith(("a=fmtp:", "a=rtcp-fb:")) for line in lines)
        sources = sum(line.startswith("a=ssrc:") for line in lines)
        kept = sum(formats if _format_of(line) == "*" else 1 for line in lines if line.startswith("a=rtcp-fb:"))
        work += formats * about + 4 * kept + sources * sources
    if work > MAX_WORK:
        raise InvalidSDP("the session description says too much about formats and sources")


def _format_of(line: str) -> str:
    """Return which format a line is about, as aiortc compares it: ``097`` is mapped as ``97``."""
    name = line.partition(":")[2].partition(" ")[0]
    try:
        return str(int(name))
    except ValueError:
        return name


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
    lines = [_any_level(line) for line in section.lines if not line.startswith(_CANDIDATE)]
    try:
        (media,) = SessionDescription.parse(_join(shared, [lines])).media
        common = bool(find_common_codecs(CODECS.get(section.kind, []), media.rtp.codecs))
    except Exception as error:
        raise InvalidSDP(f"the session description cannot be read: {error!r}") from error
    if media.rtp.muxId != section.mid or len(section.mid.split()) > 1:
        raise InvalidSDP(f"the session description has a media section with more than one name: {section.mid[:80]!r}")
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


def _inherit(session: list[str], sections: list[Section]) -> None:
    """Give the sections that are bundled, and say nothing of their transport, what the first of the group says."""
    left = {section.mid: section for section in sections}
    for line in session:
        if line.startswith(_BUNDLE):
            group = [left.pop(mid) for mid in line.removeprefix(_BUNDLE).split() if mid in left]
            for section in group[1:]:
                if not section.rejected and section.user is None:
                    section.lines = section.carried(group[0].transport)


def _group(session: list[str], section: Section) -> list[str]:
    """Return the names of the BUNDLE group (RFC 9143) that a section is in, if any."""
    groups = (line.removeprefix(_BUNDLE).split() for line in session if line.startswith(_BUNDLE))
    return next((group for group in groups if section.mid in group), [])


def _primary(group: list[str], taken: list[Section]) -> Section:
    """Return the section that tags the BUNDLE group (RFC 9143 section 7.2.1), or else the first."""
    by_mid = {section.mid: section for section in taken}
    return next((by_mid[mid] for mid in group if mid in by_mid), taken[0])


def _direction(session: list[str], section: Section) -> str:
    """Return the direction of a section, as whoever wrote it sees it (RFC 8866 section 6.7)."""
    given = next((line for line in (*section.lines, *session) if line in _DIRECTIONS), "a=sendrecv")
    return "" if section.is_data else given[2:]


def _agreed(direction: str, offered: Section) -> str:
    """Return the direction of a section of an answer, from a peer that can do no more there than it was offered."""
    possible, impossible = ("sendonly", "recvonly") if "a=recvonly" in offered.lines else ("recvonly", "sendonly")
    return {"sendrecv": possible, impossible: "inactive"}.get(direction, direction)


def _listed(sections: list[Section]) -> str:
    return " and ".join(map(str, sections))


def _not_bundled(kind: str, sections: list[Section]) -> InvalidSDP:
    return InvalidSDP(
        f"the {kind} has transports of their own for {_listed(sections)}, and everything must go over one: set the "
        "peer's bundle policy to max-bundle"
    )


def _remote(
    session: list[str],
    sections: list[Section],
    primary: Section,
    described: list[Section],
    lines: list[list[str]],
    video: Section | None = None,
    audio: Section | None = None,
) -> Remote:
    """Make a description for aiortc of the lines for the sections that it will know of."""
    mids = list(dict.fromkeys(section.mid for section in described))
    if len(mids) < len(described):
        raise InvalidSDP("the session description has media sections of the same name")
    candidates = [line[2:] for line in primary.lines if line.startswith("a=candidate:")][:MAX_CANDIDATES]
    if "a=end-of-candidates" in (*session, *primary.lines):
        candidates.append("")
    for section in sections:
        section.apart = None not in (section.user, primary.user) and section.user != primary.user

    bundled = any(line.startswith(_BUNDLE) for line in session)
    session = [line for line in session if not line.startswith((_BUNDLE, *_CANDIDATE))]
    # aiortc stops the transport that is shared where the first section does not come first in the group.
    session.append(" ".join([_BUNDLE, *mids]))
    named = (section.mid if section else None for section in (video, audio))
    return Remote(_join(session, lines), sections, primary, candidates, bundled, *named)
