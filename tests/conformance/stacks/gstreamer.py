"""GStreamer's webrtcbin: `gstreamer.py URL ROLE CODEC CLIP [OPTION...]`, with Debian's python3-gi.

Options: `extras` (audio and a second video), `unbundled` (its default), `ecdsa` (for its RSA certificate).
Where URL begins with http, it is that of an endpoint of WHIP or WHEP; until it is ended, which is told by a DELETE.
"""

import asyncio
import ctypes
import datetime as dt
import json
import re
import signal
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.client import ClientConnection, connect

sys.path.append("/usr/lib/python3/dist-packages")  # no wheel has what Debian has there
import gi  # type: ignore[import-not-found] # pyright: ignore[reportMissingImports]

for name in ("Gst", "GstSdp", "GstWebRTC"):
    gi.require_version(name, "1.0")
from gi.repository import (  # type: ignore[import-not-found] # noqa: E402 # pyright: ignore[reportMissingImports]
    Gst,
    GstSdp,
    GstWebRTC,
)

URL, ROLE, CODEC, _, *OPTIONS = sys.argv[1:]
SIZE = "width=320,height=240,framerate=30/1"
ENCODE = {
    "vp8": "vp8enc deadline=1 keyframe-max-dist=30 ! rtpvp8pay pt={pt} ! "
    "application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload={pt}",
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! "
    "video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 aggregate-mode=zero-latency pt={pt} ! "
    "application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload={pt}",
}[CODEC]
DECODE = {"vp8": "rtpvp8depay ! vp8dec", "h264": "rtph264depay ! avdec_h264"}[CODEC]
OFFERED = ",packetization-mode=(string)1,profile-level-id=(string)42e01f" if CODEC == "h264" else ""
OPENING = {"receive": ("webrtc_offer",), "broadcast": ("request_offer", "webrtc_seek_broadcaster")}[ROLE]
CONNECTED = threading.Event()
STRUCTURE_VALUE = Gst.Structure.get_value  # looked up here: in two threads at once, the bindings may not find it
FACE = [{"x": i / 1000, "y": 0.5, "z": -i / 1000} for i in range(478)]


def tell(**news: Any) -> None:
    """Tell the test what is new."""
    sys.stdout.write(json.dumps(news) + "\n")
    sys.stdout.flush()


def stay_at_home(webrtcbin: Any) -> None:
    """Have libnice look for no router by UPnP; the bindings know none of the two objects on the way to it."""
    gobject = ctypes.CDLL("libgobject-2.0.so.0")
    ice, agent = ctypes.c_void_p(), ctypes.c_void_p()
    gobject.g_object_get(ctypes.c_void_p(hash(webrtcbin)), b"ice-agent", ctypes.byref(ice), None)
    gobject.g_object_get(ice, b"agent", ctypes.byref(agent), None)
    gobject.g_object_set(agent, b"upnp", 0, None)
    upnp = ctypes.c_int(1)
    gobject.g_object_get(agent, b"upnp", ctypes.byref(upnp), None)
    assert not upnp.value


class Peer:
    """A webrtcbin; its callbacks come on threads of its own."""

    def __init__(self, send: Callable[..., object]) -> None:
        policy = "none" if "unbundled" in OPTIONS else "max-bundle"
        parts = [f"webrtcbin name=peer bundle-policy={policy}"]
        if ROLE == "broadcast":
            if "extras" in OPTIONS:
                parts.append("audiotestsrc is-live=true ! opusenc ! rtpopuspay pt=111 ! peer.")
            count = 2 if "extras" in OPTIONS else 1
            parts += [
                f"videotestsrc is-live=true ! video/x-raw,{SIZE} ! {ENCODE.format(pt=96 + number)} ! peer."
                for number in range(count)
            ]
        self.send = send
        self.frames = self.faces = 0
        self.pipeline = Gst.Pipeline.new("pipeline") if ROLE == "receive" else Gst.parse_launch(" ".join(parts))
        if ROLE == "receive":
            self.bin = Gst.ElementFactory.make("webrtcbin", "peer")
            self.bin.set_property("bundle-policy", policy)
            self.pipeline.add(self.bin)
            if URL.startswith("http"):
                caps = Gst.caps_from_string(
                    f"application/x-rtp,media=video,encoding-name={CODEC.upper()},clock-rate=90000,payload=96{OFFERED}"
                )
                self.bin.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, caps)
        else:
            self.bin = self.pipeline.get_by_name("peer")
        stay_at_home(self.bin)
        self.bin.connect("deep-element-added", self.certify)
        self.bin.connect("on-ice-candidate", self.tell_candidate)
        self.bin.connect("notify::connection-state", self.tell_state)
        self.bin.connect("pad-added", self.show)
        self.bin.connect("on-data-channel", lambda _, channel: channel.connect("on-message-string", self.read))
        self.pipeline.set_state(Gst.State.READY)
        if ROLE == "broadcast":
            self.bin.connect("on-negotiation-needed", self.offer)
            self.channel = self.bin.emit("create-data-channel", "faceData", None)
            self.sending = asyncio.create_task(self.send_faces())
        self.pipeline.set_state(Gst.State.PLAYING)

    def certify(self, _: Any, __: Any, element: Any) -> None:
        factory = element.get_factory()
        if "ecdsa" in OPTIONS and factory and factory.get_name() == "dtlsdec":
            element.set_property("pem", PEM)

    def tell_candidate(self, _: Any, line: int, candidate: str) -> None:
        self.send("webrtc_ice", candidate={"candidate": candidate, "sdpMLineIndex": line})

    def tell_state(self, *_: Any) -> None:
        state = self.bin.get_property("connection-state").value_nick
        if state == "connected":
            CONNECTED.set()
        tell(state=state)

    def show(self, _: Any, pad: Any) -> None:
        if pad.direction != Gst.PadDirection.SRC:
            return
        decoder = Gst.parse_bin_from_description(
            f"{DECODE} ! fakesink name=sink signal-handoffs=true async=false", True
        )
        decoder.get_by_name("sink").connect("handoff", self.count)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def count(self, _: Any, __: Any, pad: Any) -> None:
        self.frames += 1
        caps = pad.get_current_caps().get_structure(0)
        tell(frames=self.frames, size=[STRUCTURE_VALUE(caps, "width"), STRUCTURE_VALUE(caps, "height")])

    def read(self, _: Any, text: str) -> None:
        landmarks = json.loads(text).get("landmarks")
        if landmarks:
            self.faces += 1
            tell(faces=self.faces, landmarks=landmarks[0])

    async def send_faces(self) -> None:
        while True:
            await asyncio.sleep(1 / 12)
            if self.channel.get_property("ready-state") == GstWebRTC.WebRTCDataChannelState.OPEN:
                message = {"type": "face_landmarks", "timestamp": now(), "landmarks": [FACE]}
                self.channel.emit("send-string", json.dumps(message))

    def offer(self, _: Any) -> None:
        self.describe("offer")

    def describe(self, kind: str) -> None:
        """Make an offer or an answer, and send it."""

        def made(promise: Any) -> None:
            reply = promise.get_reply()  # which holds the description
            description = reply.get_value(kind)
            text = description.sdp.as_text()
            self.bin.emit("set-local-description", description, Gst.Promise.new())
            if "ecdsa" in OPTIONS:  # it makes its fingerprint of the key as well
                text = re.sub(r"(a=fingerprint:sha-256) \S+", rf"\1 {FINGERPRINT}", text)
            tell(**{kind: text})
            self.send(f"webrtc_{kind}", sdp={"type": kind, "sdp": text})

        self.bin.emit(f"create-{kind}", None, Gst.Promise.new_with_change_func(made))

    def take(self, kind: str, text: str) -> None:
        """Take the peer's offer or answer."""
        _, sdp = GstSdp.SDPMessage.new_from_text(text)
        description = GstWebRTC.WebRTCSessionDescription.new(
            GstWebRTC.WebRTCSDPType.OFFER if kind == "offer" else GstWebRTC.WebRTCSDPType.ANSWER, sdp
        )
        tell(**{kind: text})
        then = Gst.Promise.new_with_change_func(lambda _: self.describe("answer") if kind == "offer" else None)
        self.bin.emit("set-remote-description", description, then)

    def add(self, candidate: dict[str, Any]) -> None:
        self.bin.emit("add-ice-candidate", candidate.get("sdpMLineIndex") or 0, candidate["candidate"])


def certificate() -> tuple[str, str]:
    """Make an ECDSA certificate: it and its key as PEM, and its fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "peer")])
    today = dt.datetime.now(tz=dt.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, today, today + dt.timedelta(days=1))
    made = builder.sign(key, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (pem + private).decode(), made.fingerprint(hashes.SHA256()).hex(":").upper()


def now() -> int:
    return time.time_ns() // 1_000_000


async def meet(websocket: ClientConnection) -> None:
    """Find our peer over signaling."""
    loop = asyncio.get_running_loop()
    peer: Peer | None = None
    seeking: asyncio.Task[None] | None = None

    def send(kind: str, **fields: Any) -> None:
        text = json.dumps({"type": kind, "timestamp": now(), **fields})
        loop.call_soon_threadsafe(lambda: asyncio.ensure_future(websocket.send(text)))

    async for data in websocket:
        message = json.loads(data)
        kind = message["type"]
        if kind == "connected":
            tell(session=message["sessionId"])
            if ROLE == "receive":
                seeking = asyncio.create_task(seek(partial(send, "request_offer")))
        elif kind in OPENING and (peer is None or ROLE == "receive"):
            peer = Peer(partial(send, targetSession=message["sourceSession"]))
        if peer is not None and kind in ("webrtc_offer", "webrtc_answer"):
            peer.take(kind.removeprefix("webrtc_"), message["sdp"]["sdp"])
        if peer is not None and kind == "webrtc_ice" and (message["candidate"] or {}).get("candidate"):
            peer.add(message["candidate"])
    if seeking is not None:
        seeking.cancel()


async def seek(ask: Callable[[], None]) -> None:
    """Ask again as long as the machine is too busy to answer in 5 s."""
    while not CONNECTED.is_set():
        ask()
        await asyncio.sleep(6)


async def post() -> None:
    """Find our peer by an endpoint, as an element for WHIP or WHEP would: an offer, candidates after it, the end."""
    loop = asyncio.get_running_loop()
    said: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()

    def say(kind: str, **fields: Any) -> None:
        loop.call_soon_threadsafe(said.put_nowait, (kind, fields))

    peer = Peer(say)
    loop.add_signal_handler(signal.SIGTERM, said.put_nowait, ("end", {}))
    where, tag, early = "", "", list[str]()
    if ROLE == "receive":  # nothing that it has to send makes it offer
        peer.describe("offer")

    async def ask(method: str, url: str, headers: dict[str, str], text: str = "") -> Any:
        request = urllib.request.Request(url, text.encode() or None, headers, method=method)  # noqa: S310 - a test's
        return await asyncio.to_thread(urllib.request.urlopen, request, timeout=20)

    while True:
        kind, fields = await said.get()
        if kind == "webrtc_offer":
            answer = await ask("POST", URL, {"Content-Type": "application/sdp"}, fields["sdp"]["sdp"])
            where, tag = urllib.parse.urljoin(URL, answer.headers["Location"]), answer.headers["ETag"]
            peer.take("answer", answer.read().decode())
        elif kind == "webrtc_ice":
            early.append(f"a={fields['candidate']['candidate']}\r\n")
        else:
            tell(deleted=(await ask("DELETE", where, {})).status)
            return
        if where and early:
            fragment = "m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:video0\r\n" + "".join(early)
            headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": tag}
            tell(patched=(await ask("PATCH", where, headers, fragment)).status)
            early.clear()


async def main() -> None:
    if URL.startswith("http"):
        await post()
        return
    async with connect(URL, compression=None) as websocket:
        await meet(websocket)


PEM, FINGERPRINT = certificate()
Gst.init(None)
asyncio.run(main())
