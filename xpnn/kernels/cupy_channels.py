"""How CUDA kernels go over arrays channel by channel."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnn.kernels.cupy_launch import Source

__all__ = ["Layout", "launch", "of_channels", "sources"]

Array = Any

_channels = Source("channels")
_BLOCK = 256  # threads, as many as the kernels have room for
_BLOCKS = 1 << 11


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _channels.codes()


class Layout(NamedTuple):
    """Where the channels of an array lie; see ``cuda/channels.cu``."""

    rows: int
    channels: int
    inner: int
    lanes: int
    grid: tuple[int, int]
    wide: bool

    @classmethod
    def of(cls, axis: int, *arrays: Array, steps: int = 8) -> Layout:
        """Return that of arrays of one shape, whose channels are on an axis.

        A thread takes at least ``steps`` rows, if others have something to do as well.
        """
        x = arrays[0]
        channels, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
        together = 16 // x.dtype.itemsize
        last = axis == x.ndim - 1
        moves = (channels if last else inner) % together == 0
        moves = moves and all(a.data.ptr % 16 == 0 for a in arrays)
        v = together if moves else 1
        if last:
            packs, rows, inner = channels // v, x.size // channels, 0
            lanes = min(1 << (packs - 1).bit_length(), 32)
        else:
            packs, rows, inner, lanes = channels, x.size // channels // v, inner // v, 1
        down = -(-packs // lanes)
        parts = min(-(-rows * lanes // (_BLOCK * steps)), max(_BLOCKS // down, 1))
        return cls(rows, channels, inner, lanes, (down, parts), moves)

    @property
    def parts(self) -> int:
        """How many blocks share out the rows of a channel."""
        return self.grid[1]


def launch(name: str, dtype: Any, layout: Layout, *args: Any) -> None:
    """Run a kernel over all rows of an array."""
    name = f"{name}_wide" if layout.wide else name
    _channels.launch(name, dtype, layout.grid, _BLOCK, *args, *layout[:4])


def of_channels(name: str, dtype: Any, channels: int, *args: Any) -> None:
    """Run a kernel in which a warp computes a channel."""
    _channels.launch(name, dtype, -(-channels // 4), 128, *args)
