"""Compiled code in the place of NumPy's: the same results, used where numba is, and only there."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnn
from xpnn.kernels import fast
from xpnn.kernels.numpy_conv import conv2d, conv2d_vjp

ROOT = Path(xpnn.__file__).parents[1]
KERNELS = Path(xpnn.__file__).parent / "kernels"
needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="numba is not installed"
)


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def sweeps(path: Path) -> dict[str, list[str]]:
    """Return the arguments of the functions that compiled code may take over."""
    return {
        name: [a.arg for a in node.args.args]
        for name, node in functions(path).items()
        if any(getattr(d, "id", "") == "sweep" for d in node.decorator_list)
    }


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return done.stdout.strip()


# ---------------------------------------------------------------------------- the mechanism


def test_every_sweep_has_a_compiled_twin_with_the_same_arguments() -> None:
    for path in sorted(KERNELS.glob("numpy_*.py")):
        expected = sweeps(path)
        if not expected:
            continue
        compiled = functions(path.with_name(path.name.replace("numpy_", "numba_")))
        for name, arguments in expected.items():
            assert [a.arg for a in compiled[name].args.args] == arguments, (path.name, name)


@needs_numba
def test_the_environment_turns_it_off() -> None:
    code = "from xpnn.kernels import fast; import sys; print(fast.is_on(), 'numba' in sys.modules)"
    assert run(code) == "True True"
    assert run(code, XPNN_FAST="0") == "False False"


@needs_numba
def test_numba_is_imported_when_it_is_needed_and_not_before() -> None:
    code = "import xpnn, sys; print('numba' in sys.modules, 'llvmlite' in sys.modules)"
    assert run(code) == "False False"


def test_a_numba_that_does_not_work_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        msg = "Numba needs NumPy 2.3 or less"
        raise ImportError(msg)

    monkeypatch.delenv("XPNN_FAST", raising=False)
    monkeypatch.setattr(fast.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(fast.importlib, "import_module", broken)
    monkeypatch.setattr(fast, "_forced", None)
    fast._found.cache_clear()
    with pytest.warns(RuntimeWarning, match="numba is installed and does not work.*NumPy 2.3 or"):
        assert not fast.is_on()
    assert not fast.is_on()  # and once only
    fast._found.cache_clear()


def test_a_block_may_use_it_or_not() -> None:
    before = fast.is_on()
    with fast.use(False):
        assert not fast.is_on()
        with pytest.raises(ZeroDivisionError), fast.use(True):
            _ = 1 / 0
        assert not fast.is_on()
    assert fast.is_on() == before


# ------------------------------------------------------------------------------- convolution


def convolutions(
    x: Any, weight: Any, bias: Any, g: Any, padding: Any, needs: Any = (True, True, True),
    stride: Any = (1, 1),
) -> list[Any]:  # fmt: skip
    static: Any = {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": 1}
    y = conv2d(np, x, weight, bias, **static)
    return [y, *conv2d_vjp(np, g, list(needs), x, weight, **static)]


def images(n: int, height: int, width: int, c: int, o: int, padding: Any) -> list[Any]:
    rng = np.random.default_rng(n * height + width)
    (a, b), (d, e) = padding
    shapes = [
        (n, height, width, c),
        (3, 3, c, o),
        (o,),
        (n, height + a + b - 2, width + d + e - 2, o),
    ]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@needs_numba
@given(
    n=st.integers(1, 3), size=st.tuples(st.integers(3, 14), st.integers(3, 70)),
    channels=st.tuples(st.sampled_from([16, 48]), st.sampled_from([16, 32])),
    padding=st.tuples(st.tuples(st.integers(0, 2), st.integers(0, 2)),
                      st.tuples(st.integers(0, 2), st.integers(0, 2))),
)  # fmt: skip
def test_winograds_convolution_is_the_convolution(
    n: int, size: Any, channels: Any, padding: Any
) -> None:
    x, weight, bias, g = images(n, *size, *channels, padding)
    with fast.use(False):
        wide = [a.astype(np.float64) for a in (x, weight, bias, g)]
        expected = convolutions(*wide, padding)
    with fast.use(True):
        found = convolutions(x, weight, bias, g, padding)
        again = convolutions(x, weight, bias, g, padding)
    for a, b, c in zip(found, expected, again, strict=True):
        assert a.dtype == np.float32
        assert np.max(np.abs(a - b)) <= 3e-5 * np.max(np.abs(b))
        assert np.array_equal(a, c)


@needs_numba
def test_winograds_tiles_are_used_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnn.kernels import numba_winograd

    calls = []
    for name in ("convolve", "input_gradient", "weight_gradient"):
        whole = getattr(numba_winograd, name)
        monkeypatch.setattr(
            numba_winograd, name,
            lambda *args, name=name, whole=whole: calls.append(name) or whole(*args),
        )  # fmt: skip
    same = ((1, 1), (1, 1))
    with fast.use(True):
        convolutions(*images(2, 8, 8, 16, 16, same), same)
        assert calls == ["convolve", "input_gradient", "convolve", "weight_gradient"]
        calls.clear()
        convolutions(*images(2, 8, 8, 8, 16, same), same)  # channels that are no multiple of 16
        convolutions(*images(2, 5, 1, 16, 16, same), same)  # most of the tiles is padding
        doubles = [a.astype(np.float64) for a in images(2, 8, 8, 16, 16, same)]
        convolutions(*doubles, same)
        assert calls == []


@needs_numba
def test_winograds_convolution_of_other_layouts_and_threads() -> None:
    same = ((1, 1), (1, 1))
    x, weight, bias, g = images(5, 17, 18, 32, 32, same)
    with fast.use(True):
        expected = convolutions(x, weight, bias, g, same)
        strange = [np.asfortranarray(a) for a in (x, weight, bias, g)]
        for a in strange:
            a.flags.writeable = False
        for threads in (1, 2, 3):
            with xpnn.num_threads(threads):
                for a, b in zip(convolutions(*strange, same), expected, strict=True):
                    assert np.max(np.abs(a - b)) <= 3e-5 * np.max(np.abs(b))
        only = convolutions(x, weight, None, g, same, needs=(False, True, False))
        assert [a is None for a in only] == [False, True, False, True]
        assert np.array_equal(only[2], expected[2])


@needs_numba
@given(
    n=st.integers(1, 4), size=st.tuples(st.integers(3, 14), st.integers(3, 14)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.tuples(st.integers(1, 9), st.sampled_from([1, 3, 16, 20, 50, 70])),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.tuples(st.integers(0, 2), st.integers(0, 2)),
                      st.tuples(st.integers(0, 2), st.integers(0, 2))),
    has_bias=st.booleans(), threads=st.sampled_from([1, 2]),
)  # fmt: skip
def test_a_convolution_without_columns_is_the_convolution(
    n: int, size: Any, kernel: Any, channels: Any, stride: Any, padding: Any,
    has_bias: bool, threads: int,
) -> None:  # fmt: skip
    from xpnn.kernels import numba_direct

    outputs = [
        (m + sum(p) - k) // s + 1
        for m, p, k, s in zip(size, padding, kernel, stride, strict=True)
    ]  # fmt: skip
    rng = np.random.default_rng(n)
    c, o = channels
    shapes = [(n, *size, c), (*kernel, c, o), (o,), (n, *outputs, o)]
    x, weight, bias, g = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    wide = [a.astype(np.float64) for a in (x, weight, bias, g)]
    with pytest.MonkeyPatch.context() as patch, xpnn.num_threads(threads):
        patch.setattr(numba_direct, "_SHARED", 0)
        with fast.use(True):
            narrow = (x, weight, bias if has_bias else None, g)
            found = convolutions(*narrow, padding, stride=stride)
            again = convolutions(*narrow, padding, stride=stride)
        with fast.use(False):
            wide[2] = wide[2] * has_bias
            expected = convolutions(*wide, padding, stride=stride)
            added = convolutions(*map(np.abs, wide), padding, stride=stride)
    for a, b, c, total in zip(found, expected, again, added, strict=True):
        assert np.all(np.abs(a - b) <= 5e-7 * total)
        assert np.array_equal(a, c)


@needs_numba
@pytest.mark.parametrize("shape", [(1, 1, 16), (4, 7, 32), (13, 5, 48), (9, 3, 144)])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
def test_compiled_products_are_products(shape: Any, across: bool, fresh: bool) -> None:
    from xpnn.kernels.numba_products import multiply

    rows, n, columns = shape
    rng = np.random.default_rng(0)
    a = rng.standard_normal((n, rows) if across else (rows, n)).astype(np.float32)
    a = a.T if across else a
    b = rng.standard_normal((n, columns)).astype(np.float32)
    c = rng.standard_normal((rows, columns)).astype(np.float32)
    expected = a.astype(float) @ b + (0 if fresh else c)
    where = [x.__array_interface__["data"][0] for x in (a, b, c)]
    multiply(
        where[0], a.strides[0], 0, a.strides[1], where[1], 0, b.strides[0], 1, n,
        where[2], c.strides[0], rows, columns, fresh,
    )  # fmt: skip
    assert np.max(np.abs(c - expected)) <= 1e-5 * np.max(np.abs(expected))
