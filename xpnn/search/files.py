"""The folder of a search: what it is, and a line for every trial that has ended.

``search.json`` says which search the folder belongs to; ``trials.jsonl`` gets a line, and is pushed
to the disk, as soon as a trial ends. A last line without its line break was torn when the program
was killed: it is cut off, and its trial runs again. Anything else that is damaged is an error.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from xpnn import io
from xpnn.errors import ConfigError, DataError

__all__ = ["Folder"]


class Folder:
    """Where a search notes what it has done.

    Parameters
    ----------
    path : path
        Made if it does not exist.
    about : dict
        JSON that says which search it is.

    Raises
    ------
    ConfigError
        If it is no folder.
    DataError
        If another search has written to the folder, or its files are damaged.
    """

    def __init__(self, path: str | os.PathLike[str], about: dict[str, Any]) -> None:
        self.path = Path(path)
        if not os.fspath(path):
            msg = "'path' must be a folder, got an empty name. The current one is '.'."
            raise ConfigError(msg)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"'path' must be a folder, or one that can be made: {path}: {error.strerror}."
            raise ConfigError(msg) from error
        self._lines, self._best = self.path / "trials.jsonl", self.path / "best.safetensors"
        self._open(self.path / "search.json", about)

    def _open(self, file: Path, about: dict[str, Any]) -> None:
        if not file.exists():
            if self._lines.exists():
                msg = f"{self.path}: there are trials and no search.json that says what they are."
                raise DataError(msg)
            io.write_text(file, json.dumps(about, indent=1))
            return
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            msg = (
                f"{file}: it should say which search the folder belongs to, and is"
                f" {f'no JSON ({error})' if file.stat().st_size else 'empty'}. Give another folder,"
                " or delete this one if its trials are no longer needed."
            )
            raise DataError(msg) from error
        here = json.loads(json.dumps(about))
        if there != here:
            there = there if isinstance(there, dict) else {}
            names: list[str] = []
            while isinstance(there, dict) and isinstance(here, dict):
                both = {**here, **there}
                name = next(k for k in both if there.get(k, both) != here.get(k, both))
                names.append(name)
                there, here = there.get(name), here.get(name)
            msg = (
                f"{self.path}: this folder belongs to another search: its {'.'.join(names)!r} is"
                f" {_short(there)}, here it is {_short(here)}. Give another folder."
            )
            raise DataError(msg)

    def read(self) -> dict[int, dict[str, Any]]:
        """Return what was noted of each trial, by its number; the last line about it counts."""
        if not self._lines.exists():
            return {}
        content = self._lines.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self._lines, len(whole))
        found = {}
        for i, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                found[int(record["trial"])] = record
                _ = record["setting"], record["values"], record["score"], record["error"]
            except (ValueError, KeyError, TypeError) as error:
                msg = (
                    f"{self._lines}: line {i} is damaged ({type(error).__name__}: {error}). Delete"
                    " it to have its trial run again."
                )
                raise DataError(msg) from error
        return found

    def write(self, record: dict[str, Any]) -> None:
        """Add a line and wait until it is on the disk."""
        with open(self._lines, "ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def write_model(self, number: int, arrays: dict[str, Any], about: dict[str, Any]) -> None:
        """Write the weights of the best trial so far."""
        io.write(self._best, arrays, {"trial": number, **about})

    def read_model(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return what :meth:`write_model` wrote, if it did: arrays, and what is said about them."""
        return io.read(self._best) if self._best.exists() else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
