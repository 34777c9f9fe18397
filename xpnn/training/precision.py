"""In which precision a model computes; sums need more digits than the numbers have."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from xpnn._dtypes import DTYPES, as_dtype
from xpnn._libraries import overflows
from xpnn._names import hint
from xpnn.autograd import autocast
from xpnn.backend import array_namespace
from xpnn.errors import ConfigError
from xpnn.optim import LossScaler

__all__ = ["Mixed", "each_of", "wide", "widened"]

_LOW = {"float32": None, "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


class Mixed:
    """What of a :class:`xpnn.Model` says in which precision it is trained."""

    optimizer: Any
    parameters: Any
    scaler: LossScaler | None = None
    _precision: str = "float32"
    _reached: bool = False  # whether a step entered `autocast`

    @property
    def precision(self) -> str:
        """The precision of ``fit``, ``evaluate`` and ``predict``; it may be set at any time.

        With "mixed_bfloat16" or "mixed_float16" products and convolutions are computed in 16 bits.
        Parameters, gradients, statistics, what ``predict`` returns, losses and metrics are of
        float32. With "mixed_float16" the loss is scaled by ``scaler``, a new
        :class:`~xpnn.optim.LossScaler`, in whose place another one may be put.
        """
        return self._precision

    @precision.setter
    def precision(self, precision: str | None) -> None:
        name = "float32" if precision is None else precision
        if name not in _LOW:
            msg = f"{type(self).__name__}: 'precision' must be one of {', '.join(_LOW)}, got"
            msg += f" {precision!r}.{hint(str(precision), _LOW)}"
            raise ConfigError(msg)
        self._precision = name
        self.scaler = LossScaler() if name == "mixed_float16" else None

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which the model computes: :class:`xpnn.autocast`, or none.

        A ``train_step`` of one's own computes in it, and leaves the rest to :meth:`backpropagate`
        and :meth:`apply_gradients`; then it may have any precision.
        """
        low = _LOW[self._precision]
        if low is None:
            return nullcontext()
        self.__dict__["_reached"] = True
        return autocast(low)

    def backpropagate(self, loss: Any) -> None:
        """Add the gradients of a loss to those there are, times the scale if there is a scaler."""
        if self.scaler is None:
            loss.backward()
            return
        with overflows():
            self.scaler.scale(loss).backward()

    def apply_gradients(self, optimizer: Any = None, to: Any = None) -> None:
        """Let an optimizer take a step by the gradients that there are; if they are all finite.

        Parameters
        ----------
        optimizer : Optimizer, optional
            If not that of the model.
        to : Layer or iterable of Parameter, optional
            What is updated, if not the model.
        """
        optimizer = self.optimizer if optimizer is None else optimizer
        if self.scaler is None:
            optimizer.step(self if to is None else to)
        else:
            self.scaler.step(optimizer, self if to is None else to)

    def _check_masters(self) -> None:
        """Raise an error if parameters are not of float32, which mixed precision starts from."""
        odd = {str(p.dtype) for p in self.parameters()} - {"float32"}
        if odd and _LOW[self._precision] is not None:
            msg = (
                f"fit: precision={self._precision!r} is for parameters of float32, and there are"
                f" some of {', '.join(sorted(odd))}. Leave out 'precision', or that dtype."
            )
            raise ConfigError(msg)

    def _check_reached(self) -> None:
        """Raise an error if a step of the user's own did not know of the precision."""
        if _LOW[self._precision] is None:
            return
        scaled = self.scaler is None or self.scaler.steps > 0
        if not (self._reached and scaled):
            msg = (
                f"fit: {type(self).__name__} has a train_step of its own, which precision="
                f"{self._precision!r} does not reach. Let it compute the loss within"
                " self.autocast(), and then call self.backpropagate(loss) and"
                " self.apply_gradients(); or train in float32."
            )
            raise ConfigError(msg)


def each_of(x: Any, f: Callable[[Any], Any]) -> Any:
    """Return ``f`` of an output, or of each if there are several, in a tuple or a dict."""
    if isinstance(x, dict):
        return {name: f(part) for name, part in x.items()}
    return tuple(f(part) for part in x) if isinstance(x, tuple) else f(x)


def wide(dtype: Any) -> Any:
    """Return float32 for float16 and bfloat16, any other dtype as it is.

    A sum of float16 is infinite from 65520 on, and one of ones stays at 2048.
    """
    few = dtype is not None and as_dtype(dtype).name in ("float16", "bfloat16")
    return DTYPES["float32"] if few else dtype


def widened(x: Any) -> Any:
    """Return an array in a dtype in which sums can be taken; what is no array as it is."""
    dtype = getattr(x, "dtype", None)
    if wide(dtype) is dtype:
        return x
    xp = array_namespace(x)
    return xp.astype(x, xp.float32)
