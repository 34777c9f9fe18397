"""Where tests run: every device of every library that is installed, and read-only NumPy.

``XPNN_TEST_DEVICES="cpu,torch:cpu"`` restricts them, ``XPNN_TEST_EXAMPLES=500`` draws more examples
of shapes and keys than a run has time for. ``XPNN_EMULATE_CUDA=1`` puts an emulated GPU in the
place of one; see the package ``emulation``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from any_content import fill_what_kernels_are_given
from helpers import Place, places, usable
from hypothesis import settings

import xpnn
from xpnn.backend import as_device

if os.environ.get("XPNN_EMULATE_CUDA"):
    from emulation.fake_cupy import install

    install()

fill_what_kernels_are_given()

# JAX compiles every operation, for every shape: less thoroughly, but in less time.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# A shell starts what it sends to the background with Ctrl-C ignored, which tests then wait for.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One draw of examples in CI, so that a failure there is a failure everywhere.
settings.register_profile(
    "xpnn",
    deadline=None,
    max_examples=int(os.environ.get("XPNN_TEST_EXAMPLES", "25")),
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("xpnn")


@pytest.fixture(autouse=True)
def _same_context() -> Iterator[None]:
    """Start every test with the same device, dtype, precision and seed, and leave them so."""
    _reset()
    yield
    _reset()


def _reset() -> None:
    xpnn.set_device("cpu")
    xpnn.set_dtype("float32")
    xpnn.set_matmul_precision("highest")
    xpnn.set_seed(0)


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what a parameter sends to PyTorch or JAX: a place, or the name of the library."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        names = [x.partition(":")[0] for x in parameters if isinstance(x, str)]
        if not {"torch", "jax"}.isdisjoint(names):
            item.add_marker("libraries")


def _param(name: str) -> Any:
    marks = [pytest.mark.gpu] if name.startswith("cuda") else []
    return pytest.param(name, id=name, marks=marks)


@pytest.fixture(params=[_param(name) for name in places()])
def device(request: pytest.FixtureRequest) -> Place:
    """Each place in turn; its string is the device. Make its arrays with ``helpers.make``."""
    return usable(request.param)


@pytest.fixture
def xp_device(device: Place) -> tuple[Any, Place]:
    """The namespace of a place's raw arrays, and the place."""
    return as_device(device).xp, device
