"""What more than one part's tests need: the face model, a photograph of a face, and time to fuzz."""

import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest
from fuzzing import CORPUS, Fuzzer, seed_of_the_day

from synopticon_rtc.errors import ModelError
from synopticon_rtc.faces.model import find_model

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background; commands under test would ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
LONG = 20
"""How many other tests one that is long, or tries a command as users run it, takes as long as."""

hypothesis.settings.register_profile("any pace", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("any pace")


@pytest.fixture(scope="session")
def face_model() -> Path:
    try:
        return find_model()
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def portrait() -> npt.NDArray[np.uint8]:
    """Eileen Collins's face, from a photograph by NASA: uint8 (320, 320, 3), RGB."""
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.astronaut()[:320, 64:384])


@pytest.fixture(autouse=True)
def level_of_logs() -> Generator[None]:
    """Leave the level of our logs as it was: a command that runs in the process of the tests sets it."""
    logger = logging.getLogger("synopticon_rtc")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def unmeasured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure no lines of the field's commands: other tests run the same, and it takes a third more time."""
    if request.node.get_closest_marker("field"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Mark what starts other programs; of what is chosen then, begin with the files that have most to do.

    So no process works on one of them in the end while the others have nothing.
    """
    for item in items:
        if item.path.parent.name in {"conformance", "engines"}:
            item.add_marker("long")
    yield
    work: Counter[Path] = Counter()
    for item in items:
        work[item.path] += LONG if item.get_closest_marker("long") or item.get_closest_marker("field") else 1
    items.sort(key=lambda item: (-work[item.path], item.path))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-seconds", type=float, default=60.0, help="time for all targets of tests/fuzz together")


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Callable[[str, str], Fuzzer]:
    """Make the fuzzer of a target, given its name and that of its corpus; it has its share of the time for all."""
    targets = [item for item in request.session.items if item.get_closest_marker("fuzz")]
    seconds = float(request.config.getoption("--fuzz-seconds") or 0)
    return lambda name, corpus: Fuzzer(name, CORPUS / corpus, seconds / max(1, len(targets)), seed_of_the_day())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where everything is installed nothing may skip: a skipped test fails there."""
    skipped = terminalreporter.stats.get("skipped", [])
    if os.environ.get("CI") and skipped:
        terminalreporter.write_line(f"{len(skipped)} skipped, none may be where CI is set", red=True)
        session = terminalreporter._session
        if session is not None:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
