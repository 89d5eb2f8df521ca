"""A Janus server of Debian's, configured in a folder of its own, on a port of its own."""

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

JANUS = shutil.which("janus")
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu/janus")
ROOM = 1234
UP_WITHIN = 20.0
"""Seconds, on a machine that has much else to do."""

_MAIN = """
general: {{
    plugins_folder = "{libraries}/plugins"
    transports_folder = "{libraries}/transports"
    debug_level = {level}
    server_name = "{folder}"
    {general}
}}
media: {{
    ipv6 = false
    rtp_port_range = "{ports}"
}}
nat: {{
    nice_debug = false
    ice_ignore_list = "vmnet"
    {nat}
}}
plugins: {{
    disable = "{plugins}"
}}
transports: {{
    disable = "{transports}"
}}
"""
_WEBSOCKETS = """
general: {{
    json = "compact"
    ws = true
    ws_port = {port}
    wss = false
}}
"""


def free_port() -> int:
    """Return a TCP port that nobody uses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class JanusServer:
    """Janus with its VideoRoom, as long as this is entered.

    Args:
        rooms: What is configured of each room, by number or name, as Janus's configuration has it: ``publishers = 3``.
        general: Further lines of Janus's own configuration.
        nat: Likewise of its ``nat`` section.
        ports: Its UDP ports.

    Attributes:
        port: Of its WebSocket.
        process: It, once it runs.
    """

    def __init__(
        self,
        rooms: dict[int | str, str] | None = None,
        *,
        general: str = "",
        nat: str = "",
        ports: str = "20000-40000",
        videoroom: str = "",
    ) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="janus-"))
        off = {kind: self._others(kind) for kind in ("plugins", "transports")}
        main = _MAIN.format(
            libraries=LIBRARIES, level=3, folder=self._folder.name, general=general, nat=nat, ports=ports, **off
        )
        (self._folder / "janus.jcfg").write_text(main)
        (self._folder / "janus.transport.websockets.jcfg").write_text(_WEBSOCKETS.format(port=self.port))
        described = {ROOM: "publishers = 20"} if rooms is None else rooms
        text = f"general: {{ {videoroom} }}\n"
        text += "".join(f'room-{room}: {{ videocodec = "vp8,h264"\n{lines}\n}}\n' for room, lines in described.items())
        (self._folder / "janus.plugin.videoroom.jcfg").write_text(text)

    def _others(self, kind: str) -> str:
        kept = {"plugins": "libjanus_videoroom.so", "transports": "libjanus_websockets.so"}[kind]
        return ",".join(sorted(file.name for file in (LIBRARIES / kind).glob("*.so") if file.name != kept))

    def url(self, room: int | str = ROOM, query: str = "") -> str:
        """Return the address of a room."""
        return f"janus+ws://127.0.0.1:{self.port}/{room}{query and f'?{query}'}"

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        if JANUS is None:
            raise RuntimeError("there is no Janus: apt-get install janus")
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen([JANUS, "-F", self._folder, "-o"], stdout=log, stderr=log)
        due = time.monotonic() + UP_WITHIN
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > due:
                raise RuntimeError(f"Janus does not start: {self.log()}")
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """Kill it, so that it says goodbye to nobody."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        """Return what it has said."""
        return (self._folder / "log").read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder)
