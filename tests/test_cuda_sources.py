"""Every CUDA source compiles, and the random stream's computes what NumPy's Philox does.

No GPU is needed. NVRTC compiles each source that a module of ``xpnn.kernels`` lists in
its function ``sources()``: a new kernel is checked as soon as it is listed there. g++ compiles the
random stream's source as plain C++, and ``emulation.simt`` runs its kernels thread by thread.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulation import simt

import xpnn.kernels
from xpnn.kernels import cupy_elementwise, cupy_launch, cupy_random, numpy_random
from xpnn.kernels.element_rules import trace_function
from xpnn.kernels.rules import Refused
from xpnn.primitives import activations
from xpnn.primitives.base import Primitive

ARCHITECTURES = ("sm_80", "sm_90")
# The library's, and what CuPy adds to them: what is compiled here is what runs.
OPTIONS = ("--std=c++17", "-ftz=true", "--device-as-default-execution-space")


# ------------------------------------------------------------------------ the compile check


def kernel_sources() -> Iterator[tuple[str, str]]:
    """Return name and CUDA source of everything that the modules of xpnn.kernels list."""
    package = xpnn.kernels
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if info.name.startswith("xpnn.kernels.numba_"):  # needs numba, and is for the CPU
            continue
        listed: Any = getattr(importlib.import_module(info.name), "sources", dict)
        for name, source in listed().items():
            yield f"{info.name.removeprefix('xpnn.kernels.')}.{name}", source


class CompileError(Exception):
    """The compiler refused a source; the message is its log."""


def _nvrtc() -> Any:
    try:
        nvrtc = importlib.import_module("cupy_backends.cuda.libs.nvrtc")
        nvrtc.getVersion()  # loads the library
    except Exception:  # no CuPy (ImportError), no NVRTC (RuntimeError)
        return None
    return nvrtc


def _include_options() -> list[str]:
    """Where <cuda_fp16.h> and <cupy/carray.cuh> lie, if they are installed."""
    found: list[Any] = []
    try:
        pathfinder = importlib.import_module("cuda.pathfinder")
        found.append(pathfinder.find_nvidia_header_directory("cudart"))
        cupy = importlib.import_module("cupy")
        found.append(Path(str(cupy.__file__)).parent / "_core" / "include")
    except ImportError:
        pass
    return [f"-I{folder}" for folder in found if folder]


def compile_cuda(source: str, architecture: str, to: str = "CUBIN") -> bytes:
    """Compile a CUDA source to a cubin, or to PTX; skip the test without NVRTC."""
    nvrtc = _nvrtc()
    if nvrtc is None:
        pytest.skip("NVRTC is not here: pip install cupy-cuda13x nvidia-cuda-nvrtc")
    program = nvrtc.createProgram(source, "kernel.cu", (), ())
    try:
        options = (f"--gpu-architecture={architecture}", *OPTIONS, *_include_options())
        nvrtc.compileProgram(program, options)
        return bytes(getattr(nvrtc, f"get{to}")(program))
    except nvrtc.NVRTCError as error:
        raise CompileError(nvrtc.getProgramLog(program)) from error
    finally:
        nvrtc.destroyProgram(program)


SOURCES = dict(kernel_sources())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", SOURCES)
def test_source_compiles(name: str, architecture: str) -> None:
    assert compile_cuda(SOURCES[name], architecture).startswith(b"\x7fELF")


@pytest.mark.parametrize("name", [n for n in SOURCES if ".rows " in n or ".layer_norm " in n])
def test_rows_move_sixteen_bytes_at_a_time(name: str) -> None:
    """As the compiler likes to take packs apart, and to lay them into memory of a thread."""
    ptx = compile_cuda(SOURCES[name], "compute_90", to="PTX").decode()
    entries = ptx.split(".visible .entry ")[1:]
    assert len(entries) > 10
    for entry in entries:
        kernel = entry[: entry.index("(")]
        if kernel in ("normalize_sums", "sum_parts"):  # of columns
            continue
        assert "ld.global.nc.v4" in entry, kernel
        assert "st.global.cg.v4" in entry or kernel == "cross_entropy", kernel
        assert ".local" not in entry, kernel


@pytest.mark.parametrize("dtype", cupy_launch.DTYPES)
def test_every_activation_compiles(dtype: str) -> None:
    """Forward and backward, as they are generated; more than those that are listed."""
    kind = np.dtype("float32" if dtype == "bfloat16" else dtype)  # which needs ml_dtypes
    parts, refused = [cupy_launch.prelude(dtype)], []
    for name in activations.__all__:
        primitive = getattr(activations, name)
        if not isinstance(primitive, Primitive) or len(primitive.arrays) != 1:
            continue
        static = {parameter: 0.3 for parameter in primitive.required}
        (rule,) = primitive.rules
        assert rule is not None
        for stem, f, arrays, chosen in (
            (f"of_{name}", primitive.forward, 1, static),
            (f"of_{name}_vjp", rule.function, 1 + len(rule.spec), {k: 0.3 for k in rule.params}),
        ):
            try:
                arithmetic = np.dtype(cupy_launch.wide(dtype))
                program, constants = trace_function(f, arrays, chosen, kind, arithmetic)
            except Refused:
                refused.append(stem)
                continue
            parts.append(cupy_elementwise.elementwise_source(stem, program, constants)[0])
    assert {name.removesuffix("_vjp") for name in refused} <= {"of_softmax", "of_log_softmax"}
    assert compile_cuda("\n".join(parts), "sm_90").startswith(b"\x7fELF")


def test_random_source_is_listed() -> None:
    assert SOURCES["cupy_random.philox"] == cupy_random.SOURCE


def test_checker_refuses_a_broken_source() -> None:
    broken = cupy_random.SOURCE.replace("__umul64hi(M0, x[0])", "__umul64hi(M0, y[0])")
    assert broken != cupy_random.SOURCE
    with pytest.raises(CompileError, match='identifier "y" is undefined'):
        compile_cuda(broken, "sm_90")


def test_the_checker_compiles_as_cupy_does() -> None:
    twice = 'extern "C" __global__ void twice(float* x) { *x = helped(*x); }'
    source = f"float helped(float x) {{ return 2 * x; }}\n{twice}"  # a function of the device
    assert b".ftz.f32" in compile_cuda(source, "compute_90", to="PTX")


def test_checker_finds_the_headers() -> None:
    if _nvrtc() is None:
        pytest.skip("NVRTC is not here")
    if not _include_options():
        pytest.skip("no CUDA headers installed (pip install nvidia-cuda-runtime)")
    half = '#include <cuda_fp16.h>\nextern "C" __global__ void twice(__half* x) { *x = *x + *x; }'
    assert compile_cuda(half, "sm_90")


# ----------------------------------------------------------------- the kernels run by g++

BARE_PHILOX = """
extern "C" __global__ void bare_philox(u64 key0, u64 key1, u64* x) { philox(key0, key1, x); }
"""


def bits_of(source: str, key: tuple[int, ...], counter: tuple[int, ...]) -> tuple[int, ...]:
    """Return what a source makes of a key and a counter."""
    x = np.array(counter, dtype=np.uint64)
    simt.Kernel(source + BARE_PHILOX, "bare_philox")((1,), (1,), (*map(np.uint64, key), x))
    return tuple(x.tolist())


@pytest.fixture(params=[(256, 4096), (3, 2)], ids=["one block a thread", "grid stride"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """xpnn.kernels.cupy_random with NumPy in place of CuPy and g++ in place of the GPU."""
    threads, grid = request.param
    monkeypatch.setattr(cupy_random, "_THREADS", threads)
    monkeypatch.setattr(cupy_random, "_GRID", grid)
    monkeypatch.setattr(cupy_random, "_cupy", lambda: np)
    monkeypatch.setattr(cupy_random, "outside", nullcontext)
    monkeypatch.setattr(cupy_random, "_kernel", partial(simt.Kernel, cupy_random.SOURCE))
    return cupy_random


# Random123's known answers for philox4x64-10 (tests/kat_vectors): key, counter, bits.
ONES, PI = (2**64 - 1,), 0x243F6A8885A308D3
KNOWN_ANSWERS = [
    (
        (0, 0),
        (0, 0, 0, 0),
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        ONES * 2,
        ONES * 4,
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (PI, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


@pytest.mark.parametrize(("key", "counter", "bits"), KNOWN_ANSWERS)
def test_philox_known_answers(
    key: tuple[int, ...], counter: tuple[int, ...], bits: tuple[int, ...]
) -> None:
    assert bits_of(cupy_random.SOURCE, key, counter) == bits


SEED = 2**127 + 2**64 + 12345
STREAMS = [(0, 0), (SEED, 3), (7, 2**64 - 1000)]
LENGTHS = [0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 131]


@pytest.mark.parametrize(("seed", "counter"), STREAMS)
@pytest.mark.parametrize("n", LENGTHS)
def test_kernels_give_the_bits_of_numpy(kernels: Any, seed: int, counter: int, n: int) -> None:
    draws: list[tuple[str, tuple[Any, ...]]] = [
        ("words", ()),
        ("integers", (-(2**62), 2**63 + 5)),
        ("discrete", (np.asarray([0, 2**62, 2**62, 2**64 - 2**11], np.uint64),)),
        ("bernoulli", (13107,)),
        ("bernoulli", (0,)),
        ("bernoulli", (65536,)),
        ("uniform", ("float32", 0.0, 1.0)),
        ("uniform", ("float32", -0.1, 0.3)),
        ("uniform", ("float64", 0.0, 1.0)),
        ("uniform", ("float64", -0.1, 0.3)),
    ]
    for kind, args in draws:
        expected = getattr(numpy_random, kind)(seed, counter, n, *args)
        actual = getattr(kernels, kind)(seed, counter, n, *args)
        assert actual.dtype == expected.dtype
        assert actual.shape == (n,)
        np.testing.assert_array_equal(actual, expected, err_msg=f"{kind}{args}")


@pytest.mark.parametrize(("seed", "counter"), STREAMS)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-7), ("float64", 1e-13)])
def test_kernels_give_the_normals_of_numpy(
    kernels: Any, seed: int, counter: int, n: int, dtype: str, rtol: float
) -> None:
    expected = numpy_random.normal(seed, counter, n, dtype, -2.0, 3.0)
    actual = kernels.normal(seed, counter, n, dtype, -2.0, 3.0)
    assert actual.dtype == expected.dtype
    assert actual.shape == (n,)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("kind", ["words", "bernoulli", "uniform", "normal"])
def test_a_place_that_says_how_far_a_stream_has_moved_on(kernels: Any, kind: str) -> None:
    args = {
        "bernoulli": (13107,),
        "uniform": ("float32", 0.0, 1.0),
        "normal": ("float32", 0.0, 1.0),
    }
    place = kernels.place()
    kernels.put(place, 5)
    actual = getattr(kernels, kind)(SEED, 3, 33, *args.get(kind, ()), moved=place)
    expected = getattr(numpy_random, kind)(SEED, 8, 33, *args.get(kind, ()))
    np.testing.assert_allclose(actual, expected, rtol=2e-7, atol=2e-7)
    kernels.put(place, -3)
    assert place.tolist() == [2**64 - 3]  # a stream that was set back


def test_emulator_sees_a_wrong_constant() -> None:
    wrong = cupy_random.SOURCE.replace("0x9E3779B97F4A7C15", "0x9E3779B97F4A7C17")
    assert bits_of(wrong, (0, 0), (0, 0, 0, 0)) != KNOWN_ANSWERS[0][2]
