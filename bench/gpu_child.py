"""The process of a contestant of ``gpu.py``: it is told what to measure, line by line.

One process a library: what it costs to start, to load CUDA and to compile kernels is paid once.
Only one computes at a time. Steps are timed with CUDA's events in groups, so that the host runs
ahead as it does in training; JAX, ``fit`` and its steps by the clock of the host.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_kernels
from gpu_rows import CONTESTANTS, FULL, TINY, Row
from gpu_work import KERNELS

__all__ = ["Absent", "answer", "serve", "step_of"]

_GROUP = 5
MARK = "result "  # before what is an answer, among what libraries print
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


# -------------------------------------------------------------------------------- steps


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


def step_of(library: str, row: Row, options: dict[str, Any]) -> Callable[[], Any]:
    """Prepare a step of a workload in a library."""
    options = dict(options)
    captured = options.pop("captured", False)
    if row.network in ("adam", "momentum"):
        step = gpu_kernels.optimizer_step(library, row.network, row.sizes["parameters"])
    elif row.network in KERNELS:
        options.pop("fused", None)
        given = gpu_kernels.problem(**row.sizes)
        step = getattr(gpu_kernels, f"in_{library}")(row.network, given, **options)
    else:
        step = _network_step(library, row, options)
    if not captured:
        return step
    import xpnn

    @xpnn.capture
    def recorded(turn: Any) -> None:  # of an array, by which it knows the device
        step()  # whose results are not copied, as no other contestant copies them

    turn = xpnn.ops.zeros(1)
    return lambda: recorded(turn)


def _network_step(library: str, row: Row, options: dict[str, Any]) -> Callable[[], Any]:
    problem = getattr(importlib.import_module("networks.problems"), row.network)(**row.sizes)
    if library == "xpnn":
        from xpnn import asarray, get_device

        x, y = (asarray(a, device=get_device()) for a in problem[:2])
        problem = problem._replace(x=x, y=y)
    if row.precision == "bfloat16":
        options["low"] = "bfloat16"
    module = importlib.import_module(f"networks.in_{library}")
    return getattr(module, row.network)(problem, **options)  # type: ignore[no-any-return]


def _timed(step: Callable[[], Any], clock: Clock, seconds: float) -> dict[str, Any]:
    """Return the seconds of a step: the median over groups of steps, and the first call."""
    begun = time.perf_counter()
    stop = clock()
    step()
    stop()
    first = time.perf_counter() - begun
    for _ in range(3):
        step()
    stop = clock()
    step()
    group = max(1, min(200, int(0.02 / max(stop(), 1e-6))))
    laps: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(laps) < 3:
        stop = clock()
        for _ in range(group):
            step()
        laps.append(stop() / group)
    return {"seconds": statistics.median(laps), "range": [min(laps), max(laps)], "first": first}


def _fit(row: Row, options: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of a step: of captured steps on batches that lie ready, or of ``fit``."""
    from networks.in_xpnn import mlp_model
    from networks.problems import mlp

    import xpnn
    from xpnn import losses, optim

    sizes = dict(row.sizes)
    batch, steps, epochs = (sizes.pop(key) for key in ("batch", "steps", "epochs"))
    problem = mlp(batch=batch * steps, **sizes)
    x, y = problem.x, problem.y
    model = mlp_model(problem._replace(x=xpnn.asarray(x[:1], device=xpnn.get_device())))
    if options.get("where") != "host":
        x, y = (xpnn.asarray(a, device=xpnn.get_device()) for a in (x, y))
    ends: list[float] = []
    if "where" in options:

        class Laps(xpnn.callbacks.Callback):
            """Notes when epochs end: losses have been fetched then."""

            def on_epoch_end(self, run: Any, values: dict[str, Any]) -> None:
                ends.append(time.perf_counter())

        model.compile("cross_entropy", optim.Adam(1e-3))
        model.fit(x, y, batch_size=batch, epochs=epochs, capture=True, callbacks=[Laps()],
                  verbose=0)  # fmt: skip
    else:
        optimizer = optim.Adam(1e-3)

        @xpnn.capture
        def step(x: Any, y: Any) -> Any:
            loss = losses.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step(model)
            return loss

        cuts = [slice(i, i + batch) for i in range(0, batch * steps, batch)]
        batches = [(x[cut], y[cut]) for cut in cuts]
        for _ in range(epochs):
            for part in batches:
                loss = step(*part)
            float(loss)
            ends.append(time.perf_counter())
    laps = [(b - a) / steps for a, b in itertools.pairwise(ends)]
    return {"seconds": statistics.median(laps), "range": [min(laps), max(laps)]}


def _text(version: int) -> str:
    """Return a version of CUDA, 13020, as it is written, 13.2."""
    return f"{version // 1000}.{version % 1000 // 10}"


def card(clock: Clock, quick: bool) -> dict[str, Any]:
    """Return what the card does: operations a second in a product, bytes a second in a copy."""
    import xpnn
    from xpnn import ops
    from xpnn.kernels import cudnn

    n, m = (16, 1000) if quick else (8192, 250_000_000)
    x, xp = ops.zeros(m).data, xpnn.get_device().xp

    def best(f: Callable[[], Any]) -> float:
        f()
        found = []
        for _ in range(2 if quick else 5):
            stop = clock()
            for _ in range(_GROUP):  # so that the host is ahead of the card
                f()
            found.append(stop() / _GROUP)
        return max(min(found), 1e-9)

    def rate(precision: str) -> float:
        set_precision("xpnn", precision)
        kind = "bfloat16" if precision == "bfloat16" else "float32"
        a = ops.astype(xpnn.get_rng().normal((n, n)), getattr(ops, kind))
        return 2 * n**3 / best(lambda: ops.matmul(a, a))

    precisions = ["float32", "tf32"]
    precisions += ["bfloat16"] if importlib.util.find_spec("ml_dtypes") else []
    runtime = importlib.import_module("cupy").cuda.runtime
    name = runtime.getDeviceProperties(runtime.getDevice())["name"]
    return {
        "name": name.decode() if isinstance(name, bytes) else name,
        "driver": _text(runtime.driverGetVersion()),
        "runtime": _text(runtime.runtimeGetVersion()),
        "cupy": importlib.import_module("cupy").__version__,
        "cudnn": cudnn.status(),
        "flops": {precision: rate(precision) for precision in precisions},
        "bandwidth": 2 * 4 * m / best(lambda: xp.asarray(x, copy=True)),
    }


# ------------------------------------------------------------------------- line by line


def answer(process: str, clock: Clock, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured."""
    if asked["row"] == "card":
        return card(clock, asked["quick"])
    row = (TINY if asked["quick"] else FULL)[asked["row"]]
    library, options = process.partition(",")[0], CONTESTANTS[asked["who"]][1]
    set_precision(library, row.precision)
    if row.network == "fit":
        return _fit(row, options)
    return _timed(step_of(library, row, options), clock, asked["seconds"])


def _let_go(library: str) -> None:
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


def _say(found: dict[str, Any]) -> None:
    print(MARK + json.dumps(found), flush=True)


def serve(process: str) -> None:
    """Answer what is asked on standard input until it ends, or something fails."""
    try:
        clock = start(process)
    except Absent as error:
        _say({"absent": str(error)})
        return
    _say({})
    for line in sys.stdin:
        try:
            found = answer(process, clock, json.loads(line))
            _let_go(process.partition(",")[0])
        except Exception as error:  # after which nobody knows in what state the card is
            text = " ".join(str(error).split())
            _say({"failed": f"{type(error).__name__}: {text[:300]}"})
            return
        _say(found)
