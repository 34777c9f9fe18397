"""What there is to compute with: devices, libraries, versions, and what is missing."""

from __future__ import annotations

import platform
import sys
from typing import Any

from xpnn import _cuda, parallel
from xpnn._libraries import LIBRARIES
from xpnn.backend import Device
from xpnn.kernels import cublaslt, cudnn, numpy_status

__all__ = ["DeviceReport", "device_report"]

_GIB = 2**30


class DeviceReport(dict[str, Any]):
    """What :func:`device_report` found: a dict of plain values, whose text is for people."""

    def __str__(self) -> str:
        lines = [f"xpnn {self['xpnn']}, Python {self['python']}, {self['platform']}"]
        for name, found in self["devices"].items():
            first, *others = _about(name, found, self["threads"], self["cuda"])
            lines.append(f"{name:20} works{first}")
            lines += [" " * 21 + line for line in others]
        lines += [f"{name:20} {reason}" for name, reason in self["unusable"].items()]
        return "\n".join([*lines, *(f"hint: {hint}" for hint in self["hints"])])


def device_report() -> DeviceReport:
    """Return what there is to compute with: for ``print``, and for bug reports.

    Libraries that are installed are imported to find out, so the first call may take seconds.

    Returns
    -------
    DeviceReport
        A dict of what JSON can hold: ``xpnn``, ``python``, ``platform``; ``threads`` that
        computations on the CPU use; ``devices``, what is known of each that works; ``cuda``, what
        all GPUs share, or None; ``unusable``, why other libraries are not used; ``hints``.

    Examples
    --------
    >>> import xpnn
    >>> report = xpnn.device_report()
    >>> report["devices"]["cpu"]["blas"]["threads"] > 0
    True
    >>> print(report)  # doctest: +SKIP
    xpnn 0.1.0, Python 3.13.1, Linux x86_64
    cpu                  works, 8 threads
    ...
    """
    unusable = {name: why for name, library in LIBRARIES.items() if (why := library.status())}
    devices: dict[str, Any] = {}
    for name, library in LIBRARIES.items():
        if name not in unusable:
            for native in library.devices():
                devices[str(Device(library, native))] = _facts(name, native)
    cuda, hints = None, numpy_status.lacks(devices["cpu"])
    if "cuda" not in unusable:
        missing = cublaslt.trouble()
        cuda = _cuda.facts() | {"cublaslt": not missing, "cudnn": cudnn.status()}
        hints += _cuda.lacks() + ([missing] if missing else [])
    return DeviceReport(
        xpnn=sys.modules["xpnn"].__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        threads=parallel.get_num_threads(),
        devices=devices,
        cuda=cuda,
        unusable=unusable,
        hints=hints,
    )


def _facts(library: str, native: Any) -> dict[str, Any]:
    if library == "cpu":
        return numpy_status.facts()
    return _cuda.device_facts(native) if library == "cuda" else {}


def _about(name: str, found: dict[str, Any], threads: int, cuda: Any) -> list[str]:
    """Return what is said of a device that works, line by line."""
    if name == "cpu":
        blas, numba = found["blas"], found["numba"]
        kernels = f", kernels for {blas['kernels']}" if blas["kernels"] else ""
        return [
            f", {threads} thread{'s' * (threads != 1)}",
            found["name"] + (", with AVX-512" if found["avx512"] else ""),
            f"NumPy {found['numpy']}; {blas['name']} {blas['version']}, {blas['threads']}"
            f" threads{kernels}; " + (f"Numba {numba} compiles kernels" if numba else "no Numba"),
        ]
    if not name.startswith("cuda"):
        return [""]
    memory = f"{found['free'] / _GIB:.1f} of {found['total'] / _GIB:.1f} GiB free"
    blas = "found" if cuda["cublaslt"] else "not found"
    return [
        f": {found['name']}, {memory}, compute capability {found['compute_capability']}",
        f"driver for CUDA {cuda['driver']}; CuPy {cuda['cupy']} for CUDA {cuda['cuda']}",
        f"cuBLASLt {blas}; cuDNN: {cuda['cudnn']}",
    ]
