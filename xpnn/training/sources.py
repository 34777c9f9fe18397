"""Where the batches of a run come from: arrays, or whatever gives batches one after another."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from contextvars import Context, copy_context
from typing import Any, NamedTuple

from xpnn import backend, kernels, random
from xpnn._dtypes import as_dtype
from xpnn.data import Batch, Batches, as_arrays, prefetched
from xpnn.data.batches import moved
from xpnn.errors import DataError
from xpnn.training.precision import wide
from xpnn.training.weights import check_weights

__all__ = ["Source", "as_batch", "is_data", "of_arrays", "of_batches"]

_END: Any = object()


class _Sent(NamedTuple):
    """A batch whose copies to a device may be under way."""

    batch: Batch
    arrive: Callable[[], None]  # lets what is computed from now on wait for them


class Source:
    """The batches of a run, epoch by epoch, on the device where they are needed.

    Every pass over the data draws its random numbers (its order, and what a generator of the user's
    draws) from a stream of its own, spawned when the pass is opened. So they do not depend on how
    far ahead batches are drawn, and a resumed run finds its place again: it opens the pass in the
    same state and leaves out the batches that were taken.

    Parameters
    ----------
    begin : callable
        ``begin(start)`` returns an iterator over the batches of a pass but the first ``start``.
    batches : int, optional
        How many a pass has, if that is known.
    steps : int, optional
        How many make an epoch. Passes then follow one another within epochs and across them.
        Without it an epoch is a pass.
    prefetch : int
        How many batches a thread draws ahead.
    lasting : bool
        Whether there can be a second pass.
    place : callable
        ``place(batch, upload)`` returns a batch where it is needed. ``upload``, if it is not None,
        copies arrays of the host there while something else is computed.
    device : Device, optional
        Where that is.
    """

    def __init__(
        self,
        begin: Callable[[int], Iterator[Batch]],
        *,
        batches: int | None = None,
        steps: int | None = None,
        prefetch: int = 0,
        lasting: bool = True,
        place: Callable[[Batch, Any], Batch] = lambda batch, upload: batch,
        device: Any = None,
    ) -> None:
        self.place, self.device = place, device
        self.begin, self.steps, self.prefetch, self.lasting = begin, steps, prefetch, lasting
        self.batches = batches if steps is None else steps
        self.name = "x"  # of the argument that was given
        self.targets: tuple[Any, ...] = ()  # all there are, where that is known beforehand
        self.fingerprint: dict[str, Any] = {"steps_per_epoch": steps}
        self._pass: Any = None
        self._opened: dict[str, Any] | None = None  # state of the random stream at the last opening
        self._taken = 0
        self._held: list[Batch] = []  # drawn already, for its shapes, and not taken yet
        self._restored = False

    # ----------------------------------------------------------------------------- passes

    def _open(self, start: int = 0) -> None:
        self.close()
        if self._opened is not None and not self.lasting and not start:
            msg = (
                f"fit: the batches of {self.name} are used up: an iterator can be gone through"
                " once. Give a function that returns a new one for every epoch."
            )
            if self.name == "x":
                msg += " If it goes on for so long, steps_per_epoch says how much is an epoch."
            raise DataError(msg)
        rng = random.get_rng()
        self._opened, self._taken = rng.state, start
        context = copy_context()
        context.run(random.set_rng, rng.spawn())
        upload = _uploader(self.device) if self.prefetch else None
        items = context.run(self.begin, start)
        drawn = _drawn_in(context, map(functools.partial(self._send, upload), items))
        self._pass = prefetched(drawn, self.prefetch) if self.prefetch else drawn

    def _send(self, upload: Any, batch: Batch) -> Batch | _Sent:
        placed = self.place(batch, upload)
        return placed if upload is None else _Sent(placed, upload.sent())

    def close(self) -> None:
        """End the pass, and the thread that draws ahead."""
        opened, self._pass, self._held = self._pass, None, []
        if opened is not None:
            opened.close()

    def _next(self) -> Any:
        if self._held:
            return self._held.pop()
        item = next(self._pass, _END)
        if isinstance(item, _Sent):
            item.arrive()
            return item.batch
        return item

    def epoch(self, done: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, of which ``done`` were taken before."""
        if not self._restored and (self.steps is None or self._pass is None):
            self._open()
        self._restored = False
        while self.steps is None or done < self.steps:
            batch = self._next()
            if batch is not _END:
                self._taken += 1
                done += 1
                yield batch
            elif not self._taken:
                msg = f"fit: {self.name} gave no batches."
                raise DataError(msg)
            elif self.steps is None:
                return
            else:
                self._open()

    def first(self) -> Batch:
        """Return some batch, for its shapes, and leave the position and the stream as they are."""
        rng = random.get_rng()
        state = rng.state
        if not self.lasting:
            if self._pass is None:
                self._open()
                self._restored = True
            batch = self._next()
            if batch is _END:
                msg = "fit: there is no batch left, to learn the shapes of the data from."
                raise DataError(msg)
            self._held = [batch]
            return batch
        context = copy_context()
        context.run(random.set_rng, rng.spawn())
        rng.state = state
        with closing(_drawn_in(context, context.run(self.begin, 0))) as drawn:
            return self.place(next(drawn), None)

    def cut(self, most: int) -> None:
        """Let a pass have no more than so many batches."""
        begin = self.begin
        self.begin = lambda start: itertools.islice(begin(start), most - start)
        self.batches = most if self.batches is None else min(most, self.batches)

    # ----------------------------------------------------------------------------- position

    def state(self) -> dict[str, Any]:
        """Return where the pass is, as JSON."""
        return {"opened": self._opened, "taken": self._taken}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Open the pass of a state, at its position."""
        if state["opened"] is not None:
            random.get_rng().state = state["opened"]
            self._open(state["taken"])
            self._restored = True


def _drawn_in(context: Context, items: Iterator[Any]) -> Any:
    """Yield what an iterator yields, each item computed in a context."""
    try:
        while (item := context.run(next, items, _END)) is not _END:
            yield item
    finally:
        if hasattr(items, "close"):
            items.close()


# ------------------------------------------------------------------------------- what is given


def is_data(x: Any) -> bool:
    """Tell an array, or a tuple of arrays, from something that gives batches."""
    if isinstance(x, tuple) and x and not isinstance(x, Batch):
        return all(hasattr(part, "shape") for part in x)
    return hasattr(x, "shape")


def of_arrays(
    data: Batch,
    *,
    batch_size: int,
    shuffle: bool = False,
    steps: int | None = None,
    prefetch: int = 0,
    device: Any = None,
    dtype: Any = None,
) -> Source:
    """Return the source of batches cut from arrays."""
    present = [part is not None for part in data]
    given = (part for part in data if part is not None)
    batches = Batches(*given, batch_size=batch_size, shuffle=shuffle)

    def begin(start: int) -> Iterator[Batch]:
        cut = batches.pass_from(start)
        return (Batch(*_spread(parts, present)) for parts in cut)

    source = Source(
        begin, batches=len(batches), steps=steps, prefetch=prefetch,
        place=functools.partial(_placed, device, dtype), device=device,
    )  # fmt: skip
    if data.y is not None:
        source.targets = batches.arrays[1]
    source.fingerprint |= {
        "dtype": _name_of(dtype),
        "examples": batches.examples,
        "batch_size": batch_size,
        "shuffle": bool(shuffle),
        "weights": data.weight is not None,
    }
    return source


def _placed(device: Any, dtype: Any, batch: Batch, upload: Any) -> Batch:
    """Return a batch where it is needed; its weights may be larger than float16 can tell."""
    move = moved if upload is None else functools.partial(_uploaded, upload)
    x, y = (move(part, device, dtype) for part in (batch.x, batch.y))
    return Batch(x, y, move(batch.weight, device, wide(dtype)))


def _uploader(device: Any) -> Any:
    """Return what copies arrays of the host to a device on the side, or None."""
    if device is None:
        return None
    target = backend.as_device(device)
    upload = getattr(kernels.load(target.xp.__name__), "Upload", None)
    return None if upload is None else upload(target.native)


def _uploaded(upload: Any, x: Any, device: Any, dtype: Any) -> Any:
    """Return what :func:`moved` does; what lies on the host is on its way."""
    if isinstance(x, tuple):
        return tuple(_uploaded(upload, part, device, dtype) for part in x)
    if x is None or backend.device_of(x) != "cpu":
        return moved(x, device, dtype)
    floats = dtype is not None and as_dtype(x.dtype).kind == "f"
    return upload(backend.unwrap(x), _name_of(dtype) if floats else None)


def _name_of(dtype: Any) -> str | None:
    return None if dtype is None else as_dtype(dtype).name


def _spread(parts: tuple[Any, ...], present: list[bool]) -> Iterator[Any]:
    left = iter(parts)
    return (next(left) if there else None for there in present)


def of_batches(
    given: Any,
    *,
    weigh: Callable[[Batch], Batch] | None = None,
    steps: int | None = None,
    prefetch: int = 0,
    device: Any = None,
    dtype: Any = None,
) -> Source:
    """Return the source of batches that an iterable yields, or one that a function returns."""
    make = given if callable(given) and not isinstance(given, Iterable) else lambda: given
    if not callable(given) and not isinstance(given, Iterable):
        msg = (
            "fit: expected arrays x and y, or an iterable of batches (x, y), or a function that"
            f" returns one, got {type(given).__name__}."
        )
        raise DataError(msg)

    def begin(start: int) -> Iterator[Batch]:
        try:
            items = iter(make())
        except TypeError as error:
            msg = f"fit: the function that was given for batches returned no iterable: {error}."
            raise DataError(msg) from error
        left_out = itertools.islice(items, start, None) if start else items
        return map(convert, left_out)

    def convert(item: Any) -> Batch:
        batch = as_batch(item)
        if batch.weight is not None:
            check_weights(batch.weight)
        if weigh is not None:
            batch = weigh(batch)
        return batch

    length = len(given) if hasattr(given, "__len__") else None
    lasting = not isinstance(given, Iterator)
    source = Source(
        begin, batches=length, steps=steps, prefetch=prefetch, lasting=lasting,
        place=functools.partial(_placed, device, dtype), device=device,
    )  # fmt: skip
    source.fingerprint["dtype"] = _name_of(dtype)
    return source


def as_batch(item: Any) -> Batch:
    """Return what an iterable of batches yields as a Batch: ``(x, y)``, ``(x, y, weight)`` or x."""
    if isinstance(item, Batch):
        parts: tuple[Any, ...] = item
    elif isinstance(item, (tuple, list)):
        parts = tuple(item)
    else:
        parts = (item,)
    if not 1 <= len(parts) <= 3:
        msg = (
            f"fit: expected batches (x, y) or (x, y, weight), got {len(parts)} parts. Several"
            " inputs are a tuple in it, ((a, b), y)."
        )
        raise DataError(msg)
    batch = Batch(*(None if part is None else as_arrays(part) for part in parts))
    arrays = [a for part in batch for a in (part if isinstance(part, tuple) else (part,))]
    lengths = {tuple(a.shape)[:1] for a in arrays if a is not None}
    if len(lengths) > 1 or () in lengths or (0,) in lengths:
        shapes = ", ".join(str(tuple(a.shape)) for a in arrays if a is not None)
        msg = f"fit: expected a batch of arrays with as many examples each, got shapes {shapes}."
        raise DataError(msg)
    return batch
