"""What tests of steps on trial share."""

from __future__ import annotations

import pytest

from xpnn.optim.trial import Trial


@pytest.fixture(params=["at once", "late"])
def known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """When the host learns that a step was skipped: as soon as it asks, or as late as it may."""
    if request.param == "late":
        monkeypatch.setattr(Trial, "is_known", lambda self: False)
    return request.param
