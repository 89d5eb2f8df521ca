"""What all of the field's tests have."""

import pytest


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure no lines of the commands that are run here: other tests run the same, and it takes a third more time."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
