"""The binding of cuBLASLt as far as it goes without a GPU: finding it, and describing products."""

from __future__ import annotations

import ctypes
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import xpnn
from xpnn.errors import MissingLibraryError
from xpnn.kernels import cublaslt

ROOT = Path(xpnn.__file__).parents[1]


def test_importing_looks_for_no_library() -> None:
    code = (
        "import ctypes, sys\n"
        "def refuse(*args): raise AssertionError(args)\n"
        "ctypes.CDLL = refuse\n"
        "import xpnn.kernels.cupy\n"
        "assert not {'cupy', 'cuda.pathfinder'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'cupy-cuda13x\[ctk\]'"):
        cublaslt._path()
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so")
    assert cublaslt._path() == "libcublasLt.so", "the system knows where"


@pytest.mark.parametrize("error", [ImportError, RuntimeError, OSError, ChildProcessError])
def test_a_finder_that_fails_leaves_it_to_the_system(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> Any:
        raise error(name)

    finder = SimpleNamespace(load_nvidia_dynamic_lib=load)
    monkeypatch.setattr(importlib, "import_module", lambda name: finder)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so")
    assert cublaslt._path() == "libcublasLt.so"


def test_the_layout_of_what_the_heuristic_answers() -> None:
    fields = {name: getattr(cublaslt._Heuristic, name).offset for name in ("workspace", "status")}
    assert fields == {"workspace": 64, "status": 72}
    assert ctypes.sizeof(cublaslt._Heuristic) == 96


def test_the_library_takes_every_attribute_that_is_set() -> None:
    try:
        cublaslt._library()
    except (MissingLibraryError, OSError):
        pytest.skip("cuBLASLt is not installed (pip install nvidia-cublas cuda-pathfinder)")
    operation = cublaslt._create("MatmulDesc", cublaslt._TF32, 0)
    layout = cublaslt._create("MatrixLayout", 14, 3, 4, 5)
    preference = cublaslt._create("MatmulPreference")
    int32, uint32, uint64 = ctypes.c_int32(1), ctypes.c_uint32(6), ctypes.c_uint64(512)
    settings = {
        "MatmulDesc": (operation, {3: int32, 4: int32, 7: uint32, 8: uint64}),
        "MatrixLayout": (layout, {5: int32, 6: ctypes.c_int64(15)}),
        "MatmulPreference": (preference, {1: uint64, **dict.fromkeys((3, 5, 6, 7, 8), uint32)}),
    }
    for kind, (what, values) in settings.items():
        for attribute, value in values.items():
            cublaslt._set(kind, what, attribute, value, ())
        with pytest.raises(RuntimeError, match=r"SetAttribute: CUBLAS_STATUS_INVALID_VALUE \(7\)"):
            cublaslt._set(kind, what, min(values), ctypes.c_int8(1), ())
        assert not getattr(cublaslt._library(), f"cublasLt{kind}Destroy")(what)
