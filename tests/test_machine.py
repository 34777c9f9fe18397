"""What is told of the machine: as data, as text, and what is missing with its cure."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from xpnn import _cuda
from xpnn.errors import MissingLibraryError
from xpnn.kernels import cublaslt, numpy_status


def test_the_report_is_data_and_text() -> None:
    usable("cpu")
    report = xpnn.device_report()
    assert json.loads(json.dumps(report)) == report
    assert report["xpnn"] == xpnn.__version__
    assert list(report["devices"]) == xpnn.available_devices()
    cpu = report["devices"]["cpu"]
    assert cpu["numpy"] == np.__version__
    assert cpu["blas"]["threads"] >= 1
    text = str(report)
    assert f"NumPy {np.__version__}; {cpu['blas']['name']} {cpu['blas']['version']}, " in text
    for name in report["unusable"]:
        assert f"\n{name:20} " in text
    for hint in report["hints"]:
        assert f"\nhint: {hint}" in text


BLAS = {"name": "openblas", "version": "0.3.31", "threads": 2, "kernels": "Haswell"}
CPU: dict[str, Any] = {"avx512": True, "blas": BLAS, "numba": "0.61"}


def test_narrow_kernels_of_openblas_are_told_where_wide_ones_would_run() -> None:
    (hint,) = numpy_status.lacks(CPU)
    assert "OpenBLAS 0.3.31 multiplies with its kernels for Haswell" in hint
    assert "OPENBLAS_CORETYPE=SkylakeX before Python starts" in hint
    assert not numpy_status.lacks(CPU | {"avx512": False})
    assert not numpy_status.lacks(CPU | {"blas": BLAS | {"kernels": "SkylakeX"}})
    assert not numpy_status.lacks(CPU | {"blas": BLAS | {"name": "mkl"}})


def test_numba_is_offered() -> None:
    (hint,) = numpy_status.lacks(CPU | {"avx512": False, "numba": None})
    assert "pip install 'xpnn[fast]'" in hint


@pytest.mark.gpu
def test_a_gpu_is_described() -> None:
    usable("cuda")
    report = xpnn.device_report()
    gpu = report["devices"]["cuda:0"]
    assert 0 < gpu["free"] <= gpu["total"]
    assert float(gpu["compute_capability"]) >= 5.0
    text = str(report)
    assert f"cuda:0               works: {gpu['name']}, " in text
    cuda = report["cuda"]
    assert f"driver for CUDA {cuda['driver']}; CuPy {cuda['cupy']} for CUDA {cuda['cuda']}" in text


@pytest.mark.gpu
def test_what_a_gpu_lacks_is_told_with_the_line_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usable("cuda")
    cupy = sys.modules["cupy"]
    assert _cuda.lacks() == []
    assert cublaslt.trouble() == ""
    assert xpnn.device_report()["cuda"]["cublaslt"]

    def refuse(self: Any, log_stream: Any = None) -> None:
        msg = "cannot open source file cuda_fp16.h"
        raise RuntimeError(msg)

    monkeypatch.setattr(cupy.RawModule, "compile", refuse)
    monkeypatch.setattr(_cuda, "packages", lambda: ["cupy-cuda12x"])
    (hint,) = _cuda.lacks()
    assert "NVRTC or CUDA's headers: cannot open source file cuda_fp16.h." in hint
    assert "pip install 'cupy-cuda12x[ctk]'" in hint


@pytest.mark.gpu
def test_a_gpu_without_products_is_told_what_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    usable("cuda")

    def nowhere() -> str:
        msg = "Products of matrices on CUDA need cuBLASLt, which was not found."
        raise MissingLibraryError(msg)

    monkeypatch.setattr(cublaslt, "_path", nowhere)
    monkeypatch.setattr(cublaslt, "_library", cublaslt._library.__wrapped__)
    report = xpnn.device_report()
    assert not report["cuda"]["cublaslt"]
    assert "need cuBLASLt, which was not found." in report["hints"][-1]
    assert "cuBLASLt not found" in str(report)
