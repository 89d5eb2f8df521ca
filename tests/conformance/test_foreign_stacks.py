"""Peers of other WebRTC stacks and ours: all that `make conformance` shows in its table, one test a row."""

from pathlib import Path

import pytest
from foreign import Foreign, Workshop, all_foreign, meet, missing


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    workshop = Workshop(Path(tmp_path_factory.mktemp("stacks")))
    workshop.prepare()
    return workshop


@pytest.mark.slow
@pytest.mark.parametrize("foreign", list(all_foreign()), ids=str)
async def test_it_plays_or_is_refused_in_words(foreign: Foreign, workshop: Workshop) -> None:
    if reason := missing(foreign.stack):
        pytest.skip(reason)
    await meet(foreign, workshop)
