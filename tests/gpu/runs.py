"""Whole runs on a GPU: a rate that falls from step to step, and what makes two runs the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.backend import to_numpy

__all__ = ["FALLING", "assert_same_run"]

FALLING = "exponential", {"lr": 0.05, "decay": 0.8, "stage_length": 1}


def assert_same_run(ours: Any, theirs: Any, bound: float) -> None:
    (params, optimizer, scaler), (twins, twin, other) = ours, theirs
    assert scaler.state_dict() == other.state_dict()
    a, b = optimizer.state_dict(), twin.state_dict()
    assert (a["steps"], a["updates"]) == (b["steps"], b["updates"])
    for x, y in zip(params, twins, strict=True):
        np.testing.assert_allclose(to_numpy(x), to_numpy(y), rtol=bound, atol=bound)
    for x, y in zip(a["state"], b["state"], strict=True):
        assert x.keys() == y.keys()
        for name in x:
            found, expected = to_numpy(x[name]), to_numpy(y[name])
            np.testing.assert_allclose(found, expected, rtol=bound, atol=bound, err_msg=name)
