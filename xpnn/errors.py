"""The exceptions of xpnn: each is an :class:`XpnnError` and the built-in error a caller expects."""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DTypeError",
    "DataError",
    "DeviceError",
    "GraphError",
    "MissingLibraryError",
    "NonFiniteError",
    "OutOfMemoryError",
    "ShapeError",
    "XpnnError",
]


class XpnnError(Exception):
    """Base of every error that xpnn raises on purpose."""


class DeviceError(XpnnError, RuntimeError):
    """A device is unknown or unusable, or arrays of two devices or libraries meet."""


class DTypeError(XpnnError, TypeError):
    """An array has a dtype that the operation cannot take, or a library lacks the dtype."""


class ShapeError(XpnnError, ValueError):
    """An array has a rank or an axis length that the operation cannot take."""


class GraphError(XpnnError, RuntimeError):
    """The tape cannot do what was asked: no graph, freed graph, or a value that would be lost."""


class DataError(XpnnError, ValueError):
    """Data or a file is empty, truncated, altered or out of range."""


class ConfigError(XpnnError, ValueError):
    """A parameter of a layer, an optimizer or a run has a value that it cannot take."""


class NonFiniteError(XpnnError, FloatingPointError):
    """A loss became NaN or infinite."""


class OutOfMemoryError(XpnnError, MemoryError):
    """A device has not as much memory as was asked for."""


class MissingLibraryError(XpnnError, ImportError):
    """An optional library is not installed; the message gives the pip line that brings it."""
