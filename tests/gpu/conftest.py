"""What tests of steps on trial share, and an emulated cuDNN."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from emulation.cudnn import FakeCudnn

from gpu.twins import on_cuda
from xpnn.kernels import cudnn
from xpnn.kernels.cupy_launch import cupy
from xpnn.optim.trial import Trial


@pytest.fixture(params=["at once", "late"])
def known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """When the host learns that a step was skipped: as soon as it asks, or as late as it may."""
    if request.param == "late":
        monkeypatch.setattr(Trial, "is_known", lambda self: False)
    return request.param


@pytest.fixture
def fake_cudnn(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCudnn]:
    """A module that stands in cuDNN's place, of which no plans are known yet."""
    on_cuda(np.zeros(1))
    if "emulated" not in cupy().__version__:
        pytest.skip("the memory of a GPU cannot be read by NumPy")
    module = FakeCudnn()
    monkeypatch.setitem(sys.modules, "cudnn", module)
    cudnn.library.cache_clear()
    for name, empty in (("_plans", {}), ("_refusals", []), ("_of_thread", threading.local())):
        monkeypatch.setattr(cudnn, name, empty)
    yield module
    cudnn.library.cache_clear()
