"""How CUDA kernels share out rows to teams of threads; see ``cuda/teams.cuh``."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnn.kernels.cupy_launch import DTYPES, Source, contiguous

__all__ = ["Teams", "aligned", "are_rows", "by_rows"]

Array = Any

_BLOCK = 128  # threads, where a warp or a part of it computes a row
_MOST = 512  # in a block that computes a row
_LONGEST = 1 << 30  # kernels count the elements of a row in 32 bits


def by_rows(x: Array, axes: int = 1) -> tuple[int, int]:
    """Return how many rows an array has, and how long they are, if they are its last axes."""
    columns = math.prod(x.shape[x.ndim - axes :])
    return x.size // columns, columns


def are_rows(x: Array, axes: int = 1) -> bool:
    """Return whether an array is one of real numbers, with rows that kernels can compute."""
    return x.dtype.name in DTYPES and x.size > 0 and by_rows(x, axes)[1] < _LONGEST


def aligned(x: Array) -> Array:
    """Return an array whose elements lie in their order from a multiple of 16 bytes on."""
    x = contiguous(x)
    return x if x.data.ptr % 16 == 0 else x.copy()


class Teams(NamedTuple):
    """Threads for rows.

    Attributes
    ----------
    packs : int
        How many of 16 bytes a thread keeps; 0, if a row does not fit into a block's registers.
    size : int
        Threads a row.
    block : int
        Threads.
    each : int
        Rows a block.
    """

    packs: int
    size: int
    block: int
    each: int

    @classmethod
    def of(cls, x: Array, columns: int) -> Teams:
        """Return those for the rows of an array: as few threads as have enough to read at once."""
        packs = _packs(x, columns)
        if packs <= 64:
            return cls.small(2, packs, _BLOCK)
        if packs <= 128:
            return cls.small(4, packs, _BLOCK)
        for kept in (4, 8):
            if packs <= kept * _MOST:
                return cls.large(kept, packs)
        return cls(0, _MOST, _MOST, 1)

    @classmethod
    def with_sums(cls, x: Array, columns: int) -> Teams:
        """Return those that keep sums over rows beside the rows, which begin with their packs."""
        together = 16 // x.dtype.itemsize
        kept, packs = 2 if together == 8 else 4, -(-columns // together)
        if packs <= 32 * kept:
            return cls.small(kept, packs, 256)
        return cls.large(kept, packs) if packs <= kept * _MOST else cls(0, _MOST, _MOST, 1)

    @classmethod
    def small(cls, kept: int, packs: int, block: int) -> Teams:
        """Return teams in a warp, of a power of two threads."""
        size = 1 << (-(-packs // kept) - 1).bit_length()
        return cls(kept, size, block, block // size)

    @classmethod
    def large(cls, kept: int, packs: int) -> Teams:
        """Return a team of a block of whole warps."""
        size = -(-packs // (32 * kept)) * 32
        return cls(kept, size, size, 1)

    def launch(
        self, source: Source, name: str, dtype: Any, shape: tuple[int, int], *args: Any
    ) -> None:
        """Run a kernel for (rows, columns), that for as many packs as a thread keeps."""
        self.launch_any(source, f"{name}_{self.packs}", dtype, shape, *args)

    def launch_any(
        self, source: Source, name: str, dtype: Any, shape: tuple[int, int], *args: Any
    ) -> None:
        """Run a kernel that keeps nothing."""
        source.launch(name, dtype, -(-shape[0] // self.each), self.block, *args, *shape, self.size)


def _packs(x: Array, columns: int) -> int:
    """Return into how many packs rows are cut, at most."""
    together = 16 // x.dtype.itemsize
    odd = columns % together
    return int((columns + 2 * together - 2) // together if odd else columns // together)
