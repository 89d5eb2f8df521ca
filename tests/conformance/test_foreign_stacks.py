"""Peers of other WebRTC stacks and ours; `slow` has what the shorter run leaves out."""

from pathlib import Path

import pytest
from foreign import Foreign, Workshop, all_foreign, meet, missing


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    workshop = Workshop(Path(tmp_path_factory.mktemp("stacks")))
    workshop.prepare()
    return workshop


def marked(foreign: Foreign) -> object:
    return pytest.param(foreign, marks=[] if foreign.telling else [pytest.mark.slow], id=str(foreign))


@pytest.mark.parametrize("foreign", [marked(foreign) for foreign in all_foreign()])
async def test_it_plays_or_is_refused_in_words(foreign: Foreign, workshop: Workshop) -> None:
    if reason := missing(foreign.stack):
        pytest.skip(reason)
    await meet(foreign, workshop)
