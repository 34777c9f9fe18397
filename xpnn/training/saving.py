"""Models in files: saved with their architecture, or their weights alone."""

from __future__ import annotations

import os
from typing import Any

from xpnn import backend, io
from xpnn.errors import DataError
from xpnn.layers.base import Layer

__all__ = ["Saveable", "load"]


class Saveable:
    """What of a :class:`xpnn.Model` writes and reads files."""

    def save(self: Any, path: str | os.PathLike[str]) -> None:
        """Write architecture, parameters and buffers to one ``.safetensors`` file, atomically.

        A model of a class of one's own is loaded again where that class is defined, under its name.
        """
        if not self.parameters():
            msg = "save: the model has no parameters yet. Call it once, or fit it, to build it."
            raise DataError(msg)
        self._complete()
        io.write(path, self.state_dict(), {"model": self.to_config()})


def load(path: str | os.PathLike[str], *, device: Any = None) -> Any:
    """Rebuild a model that ``model.save`` wrote.

    It predicts at once. Loss, optimizer and metrics are not in the file: ``compile`` it to train it
    further or to evaluate it.

    Parameters
    ----------
    path : path
    device : str or Device, optional
        Where the parameters go; the default device if not given.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If the file is damaged or is not a model of xpnn.
    ConfigError
        If the model is of a class of one's own that has not been defined.
    """
    arrays, config = io.read(path)
    if not isinstance(config, dict) or "model" not in config:
        msg = f"{path}: this file holds no model."
        raise DataError(msg)
    with backend.device(device or backend.get_device()):
        model = Layer.from_config(config["model"])
        model.load_state_dict(arrays)
    return model
