"""What a layer is made of: parameters, layers and buffers, by name; moving and loading them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from xpnn import backend, replay
from xpnn._dtypes import as_dtype
from xpnn.autograd.tensor import Tensor
from xpnn.errors import DataError

__all__ = ["Parameter", "Parts", "Unmatched", "put_all"]

Array = Any


class Parameter(Tensor):
    """A Tensor that a layer owns and an optimizer changes.

    Parameters
    ----------
    array : array
    trainable : bool
        Whether it collects gradients.

    Examples
    --------
    >>> from xpnn.layers import Parameter
    >>> Parameter([1.0, 2.0]).requires_grad
    True
    """

    __slots__ = ()

    def __init__(self, array: Any, trainable: bool = True) -> None:
        super().__init__(array, requires_grad=trainable)


class Parts:
    """The tree of a layer's parts: the half of :class:`Layer` that computes nothing."""

    buffers: ClassVar[tuple[str, ...]] = ()
    _device: Any = None
    # Which attributes hold parts, and whether they are lists of them, as a training step walks the
    # tree three times. Setting or deleting any attribute makes it None, to be found again.
    _places: tuple[tuple[str, bool], ...] | None = None
    _nests: bool = True  # whether a layer can be among them; holds where `_places` is known

    # ------------------------------------------------------------------------------ parts

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.buffers and (recording := replay.current()) is not None:
            recording.replaces(self, name, self.__dict__.get(name))
        object.__setattr__(self, name, value)
        self.__dict__["_places"] = None

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self.__dict__["_places"] = None

    def _find_places(self) -> tuple[tuple[str, bool], ...]:
        # A tuple is what it is; a list may hold parts later, and so is looked into at every walk.
        places = []
        for name, value in vars(self).items():
            if isinstance(value, (Parameter, Parts)) or name in self.buffers:
                places.append((name, False))
            elif isinstance(value, list) or (
                isinstance(value, tuple) and any(map(_is_part, value))
            ):
                places.append((name, True))
        found = self.__dict__["_places"] = tuple(places)
        self.__dict__["_nests"] = any(
            several or isinstance(vars(self)[name], Parts) for name, several in places
        )
        return found

    def _parts(self) -> Iterable[tuple[str, Any]]:
        """Return own parameters, layers and buffers by name, in the order they were set."""
        found: list[tuple[str, Any]] = []
        places, values = self._places, self.__dict__
        for name, several in self._find_places() if places is None else places:
            value = values[name]
            if several:
                found += [(f"{name}.{i}", part) for i, part in enumerate(value) if _is_part(part)]
            else:
                found.append((name, value))
        return found

    def _inside(self) -> Iterable[Any]:
        """Return own parameters, layers and buffers without their names, and what is beside them.

        A step walks a model more than once, and would spend more on the names than on the way.
        """
        found: list[Any] = []
        places, values = self._places, self.__dict__
        for name, several in self._find_places() if places is None else places:
            if several:
                found += values[name]
            else:
                found.append(values[name])
        return found

    def layers(self) -> Iterator[Any]:
        """Yield this layer and every layer inside it, outermost first, each once."""
        seen: set[int] = set()
        stack: list[Any] = [self]
        while stack:
            layer = stack.pop()
            if id(layer) not in seen:
                seen.add(id(layer))
                yield layer
                if layer._nests or layer._places is None:
                    stack += [part for part in layer._inside() if isinstance(part, Parts)][::-1]

    def _unbuilt(self) -> list[Any]:
        """Return the layers, of this and those inside, that have yet to make their parameters."""
        # A container that was not called itself may hold layers that are built.
        return [
            x
            for x in self.layers()
            if x._shapes is None and type(x).build is not type(x)._build_nothing
        ]

    def _named(self, prefix: str = "") -> Iterator[tuple[str, Any, str, Any]]:
        """Yield name, owner, attribute and value of every parameter and buffer."""
        for name, value in self._parts():
            if isinstance(value, Parts):
                yield from value._named(f"{prefix}{name}.")
            else:
                yield prefix + name, self, name, value

    def named_parameters(self) -> dict[str, Parameter]:
        """Return the parameters by name, such as ``"0.weight"``, each once."""
        seen: set[int] = set()
        found = {}
        for name, _, _, value in self._named():
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                found[name] = value
        return found

    def parameters(self) -> list[Parameter]:
        """Return all parameters, each once, in the order in which they were made."""
        found: dict[int, Parameter] = {}
        self._collect(found)
        return list(found.values())

    def _collect(self, found: dict[int, Parameter]) -> None:
        """Add the parameters to those found so far."""
        for part in self._inside():
            if isinstance(part, Parameter):
                found.setdefault(id(part), part)
            elif isinstance(part, Parts):
                part._collect(found)

    @property
    def params(self) -> list[Parameter]:
        """All parameters."""
        return self.parameters()

    @property
    def grads(self) -> list[Any]:
        """The gradient of each parameter, or None."""
        return [p.grad for p in self.parameters()]

    @property
    def param_grads(self) -> list[tuple[Parameter, Any]]:
        """Pairs of a parameter and its gradient."""
        return [(p, p.grad) for p in self.parameters()]

    def zero_grad(self) -> None:
        """Forget the gradients that have arrived."""
        for p in self.parameters():
            p.grad = None

    def to(self, device: Any) -> Any:
        """Move parameters, gradients and buffers to a device; returns the layer."""
        target = backend.as_device(device)
        for layer in self.layers():
            layer._device = target
        for _, owner, name, value in self._named():
            if isinstance(value, Parameter):
                value.data = backend.to_device(value.data, target)
                if value.grad is not None:
                    value.grad = backend.to_device(value.grad.detach(), target)
            elif value is not None:
                setattr(owner, name, backend.to_device(value, target))
        return self

    # -------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Array]:
        """Return parameters and buffers by name: raw arrays, not copies."""
        return {name: backend.unwrap(value) for name, _, _, value in self._named()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Unmatched:
        """Copy values into parameters and buffers, each to the device and dtype it has there.

        Parameters
        ----------
        state : dict of arrays
            Of any library.
        strict : bool
            False takes those whose names are in both, and leaves the rest as it is.

        Returns
        -------
        Unmatched
            The names that were missing in ``state``, and those that were unexpected.

        Raises
        ------
        DataError
            If names are missing or unexpected (with ``strict``), shapes differ, or numbers are of
            another kind: all are listed, and nothing is loaded.
        """
        places, unmatched = self._match(state, strict, f"{type(self).__name__}.load_state_dict")
        found = []
        for name, owner, attribute, old in places:
            raw = backend.unwrap(old)
            new = backend.asarray(
                backend.to_numpy(state[name]),
                device=backend.device_of(raw), dtype=raw.dtype, copy=True,
            )  # fmt: skip
            found.append((owner, attribute, old, new))
        put_all(found)
        return unmatched

    def _match(self, state: Mapping[str, Any], strict: bool, who: str) -> tuple[list[Any], Any]:
        """Return name, owner, attribute and value of what there is in ``state``, if all fits."""
        own = {name: place for name, *place in self._named() if place[-1] is not None}
        unmatched = Unmatched(
            [name for name in own if name not in state],
            [name for name in state if name not in own],
        )
        wrong = [f"missing {name}" for name in unmatched.missing] if strict else []
        wrong += [f"unexpected {name}" for name in unmatched.unexpected] if strict else []
        places = [(name, *place) for name, place in own.items() if name in state]
        first: dict[Any, str] = {}  # what is shared has several names
        for name, owner, attribute, old in places:
            if not hasattr(new := state[name], "dtype"):
                wrong.append(f"{name}: expected an array, got {type(new).__name__}")
                continue
            if tuple(old.shape) != tuple(new.shape):
                wrong.append(f"{name}: expected shape {tuple(old.shape)}, got {tuple(new.shape)}")
            a, b = as_dtype(old.dtype), as_dtype(new.dtype)
            if a.kind.replace("u", "i") != b.kind.replace("u", "i"):
                wrong.append(f"{name}: expected {a}, got {b}")
            place = id(old) if isinstance(old, Parameter) else (id(owner), attribute)
            if not _same(new, state[first.setdefault(place, name)]):
                wrong.append(f"{name}: it is {first[place]} here, and another array there")
        if wrong:
            hint = ""
            if unbuilt := self._unbuilt():
                name = type(unbuilt[0]).__name__
                hint = f" {name} has no parameters yet: call it once to build it, then load."
            msg = f"{who}: {'; '.join(sorted(wrong))}.{hint}"
            raise DataError(msg)
        return places, unmatched


class Unmatched(NamedTuple):
    """What :meth:`Parts.load_state_dict` found on one side only."""

    missing: list[str]
    unexpected: list[str]


def put_all(places: Iterable[tuple[Any, str, Any, Any]]) -> None:
    """Put new arrays into the parameters and buffers that lie at an attribute of an owner."""
    for owner, attribute, old, new in places:
        if isinstance(old, Parameter):
            old.data = new
        else:
            setattr(owner, attribute, new)


def _same(x: Any, y: Any) -> bool:
    """Return whether two arrays, of any library, are of one dtype and equal, NaN to NaN."""
    if x is y:
        return True
    if not hasattr(y, "dtype") or x.shape != y.shape or as_dtype(x.dtype) is not as_dtype(y.dtype):
        return False
    a, b = backend.to_numpy(x), backend.to_numpy(y)
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _is_part(value: Any) -> bool:
    return isinstance(value, (Parameter, Parts))
