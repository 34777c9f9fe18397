"""Windows over images: their sizes, and how the CUDA kernels that move them are launched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from xpnn.kernels.cupy_launch import Source, threads_for

__all__ = [
    "REAL",
    "Pair",
    "Pairs",
    "Window",
    "by_places",
    "columns_source",
    "divides",
    "launch",
    "sources",
]

Array = Any
Pair = tuple[int, int]
Pairs = tuple[Pair, Pair]

columns_source = Source("columns")
REAL = ("float16", "bfloat16", "float32", "float64")
_BLOCK = 256
_BLOCKS = 1 << 20  # at most: more places than that many blocks hold are taken in turns
_MANY = 1 << 13


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return columns_source.codes()


def divides(channels: int, arrays: Iterable[Array | None]) -> bool:
    """Return whether threads may move sixteen bytes of neighbouring channels at once."""
    given = [x for x in arrays if x is not None]
    width = 16 // given[0].dtype.itemsize
    return channels % width == 0 and all(x.data.ptr % 16 == 0 for x in given)


class Window(NamedTuple):
    """Sizes of images, of the windows over them, and of their steps."""

    size: Pair
    outputs: Pair
    taps: Pair
    stride: Pair
    dilation: Pair
    before: Pair
    after: Pair

    @classmethod
    def over(
        cls, x: Array, taps: Pair, stride: Pair, padding: Pairs, dilation: Pair = (1, 1)
    ) -> Window:
        """Return the windows of all places at which they lie within padded images."""
        size = x.shape[1:3]
        axes = zip(size, taps, stride, padding, dilation, strict=True)
        down, across = ((n + sum(p) - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in axes)
        before, after = zip(*padding, strict=True)
        return cls(size, (down, across), taps, stride, dilation, before, after)

    def are_pixels(self) -> bool:
        """Return whether each window is a pixel, and each pixel a window."""
        every = self.stride == (1, 1) and self.outputs == self.size
        return self.taps == (1, 1) and self.before == (0, 0) and every

    def are_images(self) -> bool:
        """Return whether each window is an image."""
        one = self.dilation == (1, 1) and self.outputs == (1, 1)
        return self.taps == self.size and self.before == (0, 0) and one

    def numbers(self) -> tuple[int, ...]:
        """Return what kernels are told: they do not go beyond the last window."""
        return tuple(n for pair in self[:-1] for n in pair)


def by_places(places: int, row: int) -> tuple[int, int, int]:
    """Return the grid, the block, and how many threads a place gets, of ``row`` things each."""
    most = 32 if places > _MANY else _BLOCK  # then a thread does more at a place, and finds it once
    lanes = min(1 << (row - 1).bit_length(), most)
    block = threads_for(places * lanes, _BLOCK)
    return min(-(-places // (block // lanes)), _BLOCKS), block, lanes


def launch(
    name: str,
    arrays: tuple[Any, ...],
    numbers: tuple[int, ...],
    places: int,
    row: int,
    channels: int,
    groups: int,
    window: Window,
) -> None:
    """Run a kernel of ``cuda/columns.cu``.

    Its threads take one of the ``row`` things of a place, or some neighbouring ones where memory
    allows it; not of depthwise convolution with several features a channel, the last number.
    """
    together = channels if numbers else channels // groups
    if numbers[-1:] in ((), (1,)) and divides(together, arrays):
        name, row = f"{name}_wide", row * arrays[0].dtype.itemsize // 16
    grid, block, lanes = by_places(places, row)
    columns_source.launch(
        name, arrays[0].dtype, grid, block,
        *arrays, *numbers, places, lanes, channels, groups, *window.numbers(),
    )  # fmt: skip
