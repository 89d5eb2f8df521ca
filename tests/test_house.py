"""The house stands: imports run downward, aiortc stays behind one wall, and what the documents point at is there."""

import ast
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import synopticon_rtc

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "synopticon_rtc"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]

# From the ground up. A room imports from the floors below its own, and from nobody on its own floor.
FLOORS = (
    {"basics"},
    {"errors"},
    {"tracing"},
    {"signaling", "rtc", "media", "faces"},
    {"events", "files", "peers"},
    {"engines"},
    {"detecting"},
    {"sending", "receiving"},
    {"recording"},
    {"broadcaster", "receiver"},
    {"relaying", "room"},
    {"ingest"},
    {"sync"},
    {"commands"},
    {
        "__init__",
        "__main__",
        "analyse",
        "broadcast",
        "export",
        "receive",
        "record",
        "relay",
        "send",
        "trace",
        "signaling.__main__",
    },  # doors: what users import and run
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
DOORS = {"signaling.__init__", "signaling.access", "signaling.nats"}  # which lead from signaling to its server
ONE_CLOCK = {"basics", "rtc", "files", "peers", "detecting", "sending", "receiving", "recording"}
"""Rooms in which all goes by the clock of the event loop."""
OWN_CLOCKS = {
    "basics.clock",  # which is that clock, and what takes its place in threads
    "basics.faults",  # what is logged at most once a minute, from any thread
    "basics.seldom",  # likewise
    "rtc.decoder",  # how long a thread takes for a keyframe
    "rtc.pacer",  # how long the event loop was held up
}
ONLY_SOME_SYSTEMS = {
    *("fcntl", "grp", "msvcrt", "pwd", "resource", "termios"),
    *("os.O_CLOEXEC", "os.fork", "os.getuid", "os.killpg", "os.memfd_create", "os.sched_getaffinity", "os.setsid"),
    *("select.epoll", "select.kqueue", "select.poll", "signal.SIGHUP", "signal.SIGKILL"),
    *("loop.add_reader", "loop.add_signal_handler", "loop.add_writer", "loop.remove_signal_handler"),
}
"""Modules and names that some system lacks which the package is for: ``basics.system`` has what takes their place."""
PUBLIC = [
    "AudioMoment",
    "Broadcaster",
    "BroadcasterStats",
    "Camera",
    "Delays",
    "Detector",
    "DetectorEvent",
    "EncodedVideoFrame",
    "Face",
    "FaceLandmarker",
    "FileOffer",
    "FileProgress",
    "FileTransfer",
    "FrameSource",
    "IceServer",
    "LSLOutlet",
    "Message",
    "Microphone",
    "Moment",
    "Participant",
    "ParticipantEvent",
    "ParticipantMoment",
    "PeerEvent",
    "Portrait",
    "PublishedStream",
    "ReceivedStream",
    "Receiver",
    "ReceiverStats",
    "Recorder",
    "Recording",
    "RecordingEvent",
    "Relay",
    "Room",
    "Screen",
    "SignalingClient",
    "SignalingServer",
    "SourceEvent",
    "StateEvent",
    "StreamEvent",
    "SynopticonError",
    "TestPattern",
    "Tone",
    "VideoFile",
    "Visitor",
    "__version__",
    "draw_faces",
]

# What catches everything and neither raises again nor notes a fault, since it gives the error to somebody else.
PASSED_ON = {
    "basics.faults.Faults.call": "noted: this is where",
    "basics.loop.LoopThread._work": "raised where the thread is started",
    "commands.upload.Upload._try": "told; it is tried again",
    "detecting.detection.Detection.find": "noted together with what was cancelled",
    "faces.model.find_model": "the next way is tried, and in the end all that failed is told",
    "media.pacing.taken.run": "raised in the consumer",
    "recording.ahead.in_order": "raised after what was made before it",
    "rtc.ice.MdnsResolver.datagram_received": "what strangers send, at which a library fails in many ways",
    "rtc.servers.in_thread.run": "raised where it is awaited",
    "signaling.client.SignalingClient._stay_connected": "explained, and raised where it is final",
    "signaling.server.nats.NatsBackplane._connect": "told; the next attempt may do better",
}


@functools.cache
def modules() -> list[tuple[str, ast.Module]]:
    """Return each module by its name below the package, like ``rtc.sender``, and what is written in it."""
    return [
        (".".join(file.relative_to(PACKAGE).with_suffix("").parts), ast.parse(file.read_text(encoding="utf-8")))
        for file in sorted(PACKAGE.rglob("*.py"))
    ]


def imported(tree: ast.Module) -> Iterator[str]:
    """Give the full name of everything that a module imports, wherever in it that stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def attributes(tree: ast.Module) -> Iterator[ast.Attribute]:
    """Give every attribute that a module asks for."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def ours(tree: ast.Module) -> Iterator[str]:
    """Give what a module imports of this package, by the name below it."""
    for name in imported(tree):
        package, _, below = name.partition(".")
        if package == "synopticon_rtc":
            yield below or "__init__"


def room(module: str) -> str:
    """Return the room that a module is in: a folder, or a file of the top floor."""
    return module if module in FLOOR else module.split(".", maxsplit=1)[0]


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module, _ in modules()} == set(FLOOR)


def test_all_goes_by_the_clock_of_the_event_loop() -> None:
    readers = {module for module, tree in modules() if room(module) in ONE_CLOCK and "time" in imported(tree)}
    assert readers == OWN_CLOCKS


def test_imports_run_downward() -> None:
    upward = [
        f"{module} imports {name}"
        for module, tree in modules()
        for name in ours(tree)
        if room(name) != room(module) and FLOOR.get(room(name), len(FLOORS)) >= FLOOR[room(module)]
    ]
    assert not upward


def test_one_module_alone_asks_for_what_not_every_system_has() -> None:
    assert {
        f"{module} uses {name}"
        for module, tree in modules()
        for name in (*imported(tree), *map(ast.unparse, attributes(tree)))
        if name in ONLY_SOME_SYSTEMS and module != "basics.system"
    } == set()


def test_the_peers_side_of_signaling_does_not_need_the_server() -> None:
    assert not [
        f"{module} imports {name}"
        for module, tree in modules()
        if module.startswith("signaling.") and not module.startswith("signaling.server.") and module not in DOORS
        for name in ours(tree)
        if f"{name}.".startswith("signaling.server.")
    ]


def test_only_rtc_knows_aiortc_and_aioice() -> None:
    """Nobody else imports them, so that nobody else can reach their private names."""
    assert not [
        f"{module} imports {name}"
        for module, tree in modules()
        if not module.startswith("rtc.")
        for name in imported(tree)
        if name.split(".")[0] in ("aiortc", "aioice", "pylibsrtp")
    ]


def test_the_public_names_are_these() -> None:
    assert synopticon_rtc.__all__ == PUBLIC


def test_every_field_of_what_is_handed_round_has_a_line_of_words() -> None:
    """Events, actions, figures, messages: the docstring names each field, or a string or a comment stands by it."""
    assert not [
        f"{module}.{name}.{field}"
        for module, tree in modules()
        for name, missing in unexplained(tree, (PACKAGE / Path(*module.split("."))).with_suffix(".py"))
        for field in missing
    ]


def unexplained(tree: ast.Module, file: Path) -> Iterator[tuple[str, list[str]]]:
    """Give the public dataclasses of a module, each with its fields that have no words."""
    lines = file.read_text(encoding="utf-8").splitlines()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            continue
        described = set(re.findall(r"^    (\w+): \S", ast.get_docstring(node) or "", flags=re.MULTILINE))
        missing = []
        for statement, following in itertools.pairwise([*node.body, ast.Pass()]):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                told = isinstance(following, ast.Expr) or "  # " in lines[(statement.end_lineno or 0) - 1]
                field = statement.target.id
                if not (told or field in described or field.startswith("_")):
                    missing.append(field)
        yield node.name, missing


def catchers(node: ast.AST, within: str) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Give what catches every exception, by the function that it stands in, and what is done then."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ExceptHandler) and (child.type is None or catches_all(child.type)):
            yield within, child.body
        if (
            isinstance(child, ast.Call)
            and ast.unparse(child.func).endswith("suppress")
            and any(map(catches_all, child.args))
        ):
            yield within, []
        name = getattr(child, "name", None) if isinstance(child, ast.stmt) else None  # of a function or a class
        yield from catchers(child, f"{within}.{name}" if name else within)


def catches_all(kind: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id in ("Exception", "BaseException") for node in ast.walk(kind))


def survives_openly(body: list[ast.stmt]) -> bool:
    """Whether the error is raised again in the end, or noted as a fault by ``Faults.note``."""
    if body and isinstance(body[-1], ast.Raise):
        return True
    return any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func).rsplit(".", 2)[-2:] in (["_faults", "note"], ["faults", "note"])
        for statement in body
        for node in ast.walk(statement)
    )


def test_what_nobody_foresaw_never_vanishes() -> None:
    """The rule for errors of docs/architecture.md: whatever catches everything raises again, notes or passes on."""
    silent = {
        within for module, tree in modules() for within, body in catchers(tree, module) if not survives_openly(body)
    }
    assert silent == set(PASSED_ON)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.relative_to(ROOT).as_posix())
def test_links_within_the_repository_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in headings(file)):
            broken.append(target)
    assert not broken


def headings(document: Path) -> set[str]:
    """Return what links to the headings of a document say after the ``#``."""
    found = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_map_names_files_that_exist_and_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w./-]+)`", text) if re.search(r"(\.(py|js|md)|/)$", name)}
    assert not {name for name in named if not (PACKAGE / name).exists() and not (ROOT / name).exists()}
    folders = {f"{file.parent.relative_to(PACKAGE).as_posix()}/" for file in PACKAGE.rglob("*/__init__.py")}
    assert folders - {"./"} <= named
