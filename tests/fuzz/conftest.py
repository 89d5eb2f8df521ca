"""How long each target is fuzzed: the time for all of them is shared out."""

from collections.abc import Callable

import pytest
from fuzzing import Fuzzer, seed_of_the_day


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Callable[[str], Fuzzer]:
    targets = [item for item in request.session.items if item.get_closest_marker("fuzz")]
    seconds = request.config.getoption("--fuzz-seconds") / max(1, len(targets))
    return lambda name: Fuzzer(name, seconds, seed_of_the_day())
