"""What CuPy finds on this machine, what it lacks, and the line that mends it."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import re
import threading
import traceback
import weakref
from typing import Any, NoReturn

from xpnn.errors import OutOfMemoryError

__all__ = [
    "device_facts",
    "facts",
    "free_memory",
    "keep_until",
    "lacks",
    "memory_stats",
    "out_of_memory",
    "packages",
    "pinned",
    "recordings",
    "retell",
    "trouble",
]

_PACKAGES = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x")
_PROBE = """
#include <cuda_fp16.h>
extern "C" __global__ void xpnn_probe(float* x) { *x = 1.0f; }
"""


@functools.cache
def packages() -> list[str]:
    """Return the packages that are installed and bring a CuPy each."""
    return [name for name in _PACKAGES if _version(name)]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(version: int) -> str:
    """Return a version of CUDA, 13020, as it is written, 13.2."""
    return f"{version // 1000}.{version % 1000 // 10}"


def trouble() -> str:
    """Return why CUDA cannot be used here, with the cure, or an empty string if it can."""
    found = packages()
    if len(found) > 1:
        return (
            f"{' and '.join(found)} are installed, of which only one may be. Remove all with"
            f" pip uninstall {' '.join(found)}, then install the one for your driver:"
            " pip install 'xpnn[cuda13]' (CUDA 13) or 'xpnn[cuda12]' (CUDA 12)."
        )
    try:
        cupy = importlib.import_module("cupy")
    except Exception as error:  # a broken CUDA library raises OSError, not ImportError
        return (
            f"CuPy is not installed or does not import ({error}). Install it with"
            " pip install 'xpnn[cuda13]' (CUDA 13) or 'xpnn[cuda12]' (CUDA 12)."
        )
    if cupy.is_available():
        return ""
    runtime = cupy.cuda.runtime
    has, wants = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if 0 < has // 1000 < wants // 1000:
        return (
            f"the driver is too old: it is for CUDA {_text(has)}, CuPy {cupy.__version__} for CUDA"
            f" {_text(wants)}. Install a newer driver, or a CuPy for this one: pip uninstall"
            f" {' '.join(found or ['cupy'])}, then pip install 'xpnn[cuda{has // 1000}]'."
        )
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        why = "" if has else " There seems to be no NVIDIA driver: nvidia-smi should list the GPU."
        return f"CuPy {cupy.__version__} is installed but finds no driver or device: {error}.{why}"
    return (
        f"CuPy {cupy.__version__} is installed but {count} CUDA devices are visible."
        " CUDA_VISIBLE_DEVICES may hide them."
    )


def lacks() -> list[str]:
    """Return what is missing beside a device that works, each with the line that brings it."""
    found = []
    package = next(iter(packages()), f"cupy-cuda{_runtime() // 1000}x")
    line = f"pip install '{package}[ctk]' brings the parts of the CUDA toolkit that CuPy needs."
    if reason := _compiles():
        found.append(
            f"CuPy compiles no kernels, for lack of NVRTC or CUDA's headers: {reason} {line}"
        )
    return found


def _runtime() -> int:
    return int(importlib.import_module("cupy").cuda.runtime.runtimeGetVersion())


def _compiles() -> str:
    cupy = importlib.import_module("cupy")
    try:
        cupy.RawModule(code=_PROBE, options=("--std=c++17",)).compile()
    except Exception as error:  # whatever NVRTC, or the search for its headers, raises
        return _line(error)
    return ""


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:200] + " ..." if len(text) > 200 else text or type(error).__name__) + "."


def facts() -> dict[str, Any]:
    """Return what all CUDA devices share: versions."""
    runtime = importlib.import_module("cupy").cuda.runtime
    return {
        "cupy": importlib.import_module("cupy").__version__,
        "package": next(iter(packages()), "unknown"),
        "cuda": _text(runtime.runtimeGetVersion()),
        "driver": _text(runtime.driverGetVersion()),
    }


def device_facts(device: Any) -> dict[str, Any]:
    """Return name, memory in bytes and compute capability of a device."""
    properties = importlib.import_module("cupy").cuda.runtime.getDeviceProperties(device.id)
    name = properties["name"]
    with device:
        free, total = device.mem_info
    return {
        "name": name.decode() if isinstance(name, bytes) else name,
        "free": int(free),
        "total": int(total),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": int(properties["multiProcessorCount"]),
    }


# ------------------------------------------------------------------------------------- memory

_SHORT = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "STATUS_ALLOC_FAILED")

# What recordings compute in: each has a ``pool``, whose memory is theirs as long as they live.
recordings: weakref.WeakSet[Any] = weakref.WeakSet()


def out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """Return what is raised in the place of an error that says that a GPU has no memory left.

    None for any other error. What the functions that failed held is let go, as whoever keeps an
    error (a notebook does) would keep it with them, and free memory goes back to the device.
    """
    ours = isinstance(error, OutOfMemoryError)
    theirs = type(error).__module__.startswith("cupy") and isinstance(error, MemoryError)
    if not (ours or theirs or any(name in str(error) for name in _SHORT)):
        return None
    found = error if isinstance(error, OutOfMemoryError) else OutOfMemoryError(_told(error))
    traceback.clear_frames(error.__traceback__)
    free_memory()
    return found


def retell(error: MemoryError) -> NoReturn:
    """Raise a MemoryError again: that of a GPU with what is known of it, and the cures."""
    found = out_of_memory(error)
    if found is None:
        raise error
    try:
        raise found
    finally:
        found.__context__ = None  # whose frames hold the arrays of what failed


def _told(error: BaseException) -> str:
    wanted = re.search(r"allocating ([\d,]+) bytes", str(error))
    size = _size(int(wanted[1].replace(",", ""))) if wanted else "more than there was"
    stats = memory_stats()
    limit = f", limited to {_size(stats['limit'])}" if stats["limit"] else ""
    device = importlib.import_module("cupy").cuda.runtime.getDevice()
    return (
        f"out of memory on cuda:{device}: {size} wanted. Arrays of this process use"
        f" {_size(stats['in_use'])} of {_size(stats['held'])} that it holds{limit}; the device has"
        f" {_size(stats['free'])} of {_size(stats['total'])} free. Cures: a smaller batch (fit"
        " gathers gradients of several with 'accumulate'), xpnn.checkpoint around parts of the"
        " model, a dtype of 16 bits; or give memory back with xpnn.free_memory('cuda'), and see"
        " with nvidia-smi who else uses the device."
    )


def _size(n: int) -> str:
    """Return a number of bytes as people write it."""
    size, units = float(n), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{n:,} bytes" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def memory_stats() -> dict[str, int]:
    """Return the bytes of the current device: what pools hold, and what there is."""
    cupy = importlib.import_module("cupy")
    pool = cupy.get_default_memory_pool()
    free, total = cupy.cuda.Device().mem_info
    return {
        "held": int(pool.total_bytes()),
        "in_use": int(pool.used_bytes()),
        "recordings": sum(room.bytes() for room in list(recordings)),
        "limit": int(pool.get_limit()),
        "free": int(free),
        "total": int(total),
    }


def free_memory() -> None:
    """Give memory in which no array lies back to the device, and pinned memory to the host."""
    cupy = importlib.import_module("cupy")
    cupy.get_default_memory_pool().free_all_blocks()
    cupy.get_default_pinned_memory_pool().free_all_blocks()


# -------------------------------------------------------------------------- memory of the host

_on_their_way: list[tuple[Any, Any]] = []
_lock = threading.Lock()


def pinned(shape: Any, dtype: Any) -> Any:
    """Return an array of the host that a GPU can copy to and from while the host goes on.

    CuPy gives its memory out again as soon as nobody holds the array, whether it was copied or not:
    hand it to :func:`keep_until`, too.
    """
    return importlib.import_module("cupyx").empty_pinned(shape, dtype)


def keep_until(event: Any, memory: Any) -> None:
    """Hold what is copied from or to until an event of its stream says that this is done."""
    with _lock:
        _on_their_way[:] = [pair for pair in _on_their_way if not pair[0].done]
        _on_their_way.append((event, memory))
