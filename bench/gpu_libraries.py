"""The libraries of ``gpu.py`` in their processes: how they are set to the card, and timed on it."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["Absent", "Clock", "let_go", "set_precision", "start"]

Clock = Callable[[], Callable[[], float]]


class Absent(Exception):
    """A library is not here, or sees no GPU."""


def start(process: str) -> Clock:
    """Let a library compute on the GPU; return what starts a clock that, called, stops it."""
    library = process.partition(",")[0]
    if library != "xpnn" and importlib.util.find_spec(library) is None:
        msg = f"{library} is not installed"
        raise Absent(msg)
    if library == "jax":
        import jax

        if jax.default_backend() != "gpu":
            msg = "JAX sees no GPU"
            raise Absent(msg)
        return _host_clock
    if library == "torch":
        import torch

        if not torch.cuda.is_available():
            msg = "PyTorch sees no GPU"
            raise Absent(msg)
        torch.set_default_device("cuda")
        return _torch_clock
    if process.endswith("without cuDNN"):
        sys.modules["cudnn"] = None  # type: ignore[assignment]
    if os.environ.get("XPNN_EMULATE_CUDA"):  # for a test: no figures
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        importlib.import_module("emulation.fake_cupy").install()
    import xpnn
    from xpnn.errors import DeviceError

    try:
        xpnn.set_device("cuda")
    except DeviceError as error:
        raise Absent(str(error)) from error
    return _cupy_clock


def _host_clock() -> Callable[[], float]:
    begun = time.perf_counter()
    return lambda: time.perf_counter() - begun


def _torch_clock() -> Callable[[], float]:
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()

    def stop() -> float:
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    return stop


def _cupy_clock() -> Callable[[], float]:
    import cupy

    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    begin.record()

    def stop() -> float:
        end.record()
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(begin, end)) / 1e3

    return stop


def set_precision(library: str, precision: str) -> None:
    """Say how a library multiplies what is float32."""
    rounded = precision == "tf32"
    if library == "jax":
        import jax

        how = "tensorfloat32" if rounded else "float32"
        jax.config.update("jax_default_matmul_precision", how)
    elif library == "torch":
        import torch

        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = rounded
    else:
        import xpnn

        xpnn.set_matmul_precision("tf32" if rounded else "highest")


def let_go(library: str) -> None:
    """Give memory back: others compute on the card as well."""
    gc.collect()
    if library == "xpnn":
        importlib.import_module("xpnn").free_memory("cuda")
    elif library == "torch":
        if "torch._dynamo" in sys.modules:
            sys.modules["torch._dynamo"].reset()
        importlib.import_module("torch").cuda.empty_cache()
    else:
        importlib.import_module("jax").clear_caches()
