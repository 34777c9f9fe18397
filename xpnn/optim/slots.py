"""What an optimizer keeps for one parameter, and where it lies."""

from __future__ import annotations

import sys
from typing import Any

from xpnn import backend, kernels
from xpnn._dtypes import as_dtype
from xpnn.backend import SCALAR_TYPES, ArrayWrapper
from xpnn.errors import DTypeError, ShapeError

__all__ = ["Slot", "State", "as_array"]

Array = Any
State = dict[str, Array]


class Slot:
    """A parameter, its state, and how many updates it has had.

    ``settle`` fits the state to the parameter as it is now: makes it, or moves it to the device to
    which the parameter went.
    """

    __slots__ = (
        *("param", "data", "state", "updates", "group"),
        *("cls", "device", "dtype", "kernel", "kind", "names", "shape", "taken", "work", "xp"),
    )
    xp: Any
    shape: Any
    dtype: Any  # of the parameter
    work: Any  # of the state and the arithmetic
    taken: Any  # of gradients
    device: Any
    cls: Any
    kind: str  # equal, and the same object, for all that a kernel can update together
    names: tuple[str, ...]  # of the state arrays
    kernel: Any

    def __init__(
        self, param: Any, state: State | None = None, updates: int = 0, group: Any = None
    ) -> None:
        self.param = param
        self.data: Array = None  # the array that was last in the parameter
        self.state = state or {}
        self.updates = updates
        self.group = group  # whose hyperparameters are used; None for the optimizer's

    def fits(self, data: Array, g: Any, names: tuple[str, ...]) -> bool:
        """Return whether nothing has changed since ``settle``, and the gradient is like it."""
        return (
            data is self.data
            and type(g) is self.cls
            and g.shape == self.shape
            and g.dtype == self.taken
            and g.device == self.device
            and names == self.names
        )

    def settle(self, names: tuple[str, ...], rules: Any, label: str) -> None:
        """Make the state that is missing, and move what there is to where the parameter is.

        ``rules`` is the optimizer that says how state starts, and which kernel it has.
        """
        data = self.param.data
        dtype = as_dtype(data.dtype)
        if dtype.kind != "f":
            msg = f"{label} is {dtype}; an optimizer updates real floating-point numbers."
            raise DTypeError(msg)
        for name, x in self.state.items():
            if name not in rules.scalar_state and tuple(x.shape) != tuple(data.shape):
                msg = (
                    f"{label} has shape {tuple(data.shape)}, but its state was made for shape"
                    f" {tuple(x.shape)}. Start with a new optimizer."
                )
                raise ShapeError(msg)
        moved = self.data is None or type(data) is not self.cls or data.device != self.device
        if not moved and data.dtype == self.dtype and names == self.names:
            self.data, self.shape = data, data.shape
            return
        self.xp = xp = backend.array_namespace(data)
        half = dtype.itemsize < 4
        module = kernels.load(xp.__name__) if rules.elementwise else None
        self.kernel = getattr(module, "elementwise_update", None)
        if half and not hasattr(self.kernel, "half_precision"):
            self.kernel = None
        self.cls, self.device, self.shape, self.dtype = (
            type(data),
            data.device,
            data.shape,
            data.dtype,
        )
        self.work = backend.native_dtype(xp, "float32") if half else data.dtype
        self.state = {name: self._beside(data, name, rules) for name in names}
        self.names, self.data = names, data
        self._expect(self.work)

    def take(self, g: Array) -> Array:
        """Return a gradient in a dtype in which it can be used; others like it will be taken."""
        whole = self.kernel is not None and g.dtype == self.dtype
        self._expect(self.dtype if whole else self.work)
        return self.cast(g, self.taken)

    def _expect(self, dtype: Any) -> None:
        self.taken = dtype
        dtypes = f"{as_dtype(self.dtype)} {as_dtype(dtype)}"
        self.kind = sys.intern(f"{self.xp.__name__} {self.device} {dtypes}")

    def _beside(self, data: Array, name: str, rules: Any) -> Array:
        """Return the state array of a name on the device of ``data``: a copy, or a new one."""
        place, x = backend.device_of(data), self.state.get(name)
        shape = () if name in rules.scalar_state else self.shape
        start = rules.state_start(name) if x is None else 0.0
        if name in rules.scalar_state and hasattr(self.kernel, "host_scalars"):
            number = start if x is None else x
            return backend.asarray(number, device="cpu", dtype=as_dtype(self.work).name)
        with place.library.scope(place.native):
            if start:
                new = self.xp.full(shape, start, dtype=self.work, device=self.device)
            else:
                new = self.xp.zeros(shape, dtype=self.work, device=self.device)
            if x is None:
                return new
            return backend.put(new, ..., backend.asarray(x, device=place, dtype=self.work))

    def cast(self, x: Array, dtype: Any = None) -> Array:
        """Return ``x`` in ``dtype``, by default that of the arithmetic."""
        dtype = dtype or self.work
        if x.dtype == dtype:
            return x
        with backend.on_device_of(x):
            return self.xp.astype(x, dtype)

    def copied(self) -> State:
        """Return a copy of the state, all of it beside the parameter."""
        copies = {}
        for name, x in self.state.items():
            x = backend.asarray(x, copy=True)
            if self.data is not None and type(x) is not type(self.data):  # a number on the host
                x = backend.asarray(x, device=backend.device_of(self.data))
            copies[name] = x
        return copies

    def owns_data(self) -> bool:
        """Return whether only the parameter holds its array: writing into it goes unseen."""
        return _holders(self) <= _ALONE and getattr(self.data, "base", None) is None


def _holders(slot: Slot) -> int:
    return sys.getrefcount(slot.data)


def as_array(x: Array) -> Array:
    """Return a 0-d array for the scalar that NumPy makes of one."""
    return x[...] if type(x) in SCALAR_TYPES else x


_probe = Slot(ArrayWrapper())
_probe.data = _probe.param.data = object()
_ALONE = _holders(_probe)  # the parameter and the slot
