"""The process of a contestant of ``gpu.py``: it is told what to measure, line by line.

One process a library: what it costs to start, to load CUDA and to compile kernels is paid once.
Only one computes at a time. Steps are timed with CUDA's events in groups, so that the host runs
ahead as it does in training; JAX, ``fit`` and its steps by the clock of the host.
"""

from __future__ import annotations

import importlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import gpu_kernels
from gpu_card import facts, rates
from gpu_libraries import Absent, Clock, let_go, set_precision, start
from gpu_rows import CONTESTANTS, FULL, TINY, Row
from gpu_work import KERNELS

__all__ = ["answer", "serve", "step_of"]

MARK = "result "  # before what is an answer, among what libraries print


# -------------------------------------------------------------------------------- steps


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


# ------------------------------------------------------------------------- line by line


def answer(process: str, clock: Clock, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured."""
    if asked["row"] == "card":
        return rates(process, clock, asked["quick"]) | (facts() if process == "xpnn" else {})
    row = (TINY if asked["quick"] else FULL)[asked["row"]]
    library, options = process.partition(",")[0], CONTESTANTS[asked["who"]][1]
    set_precision(library, row.precision)
    if row.network == "fit":
        return _fit(row, options)
    return _timed(step_of(library, row, options), clock, asked["seconds"])


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
            let_go(process.partition(",")[0])
        except Exception as error:  # after which nobody knows in what state the card is
            text = " ".join(str(error).split())
            _say({"failed": f"{type(error).__name__}: {text[:300]}"})
            return
        _say(found)
