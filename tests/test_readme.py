"""README.md: its programs run, and what it lists is what there is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

from xpnn.initializers import Initializer

TEXT = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
TABLE = TEXT.partition("## What there is\n")[2].partition("\n## ")[0]

# Bases, tools and what is made by other names; everything else that is public is listed.
UNLISTED = {
    "layers": "Layer Parameter Unsupervised functional_call",
    "losses": "check_labels check_targets get",
    "optim": "Group LossScaler Optimizer Schedule clip_by_global_norm clip_by_norm clip_by_value "
    "get schedules",
    "optim.schedules": "Schedule get",
    "activations": "get name_of",
    "initializers": "fans gain_of get",
    "metrics": "get name_of",
    "callbacks": "Callback",
    "plot": "",
    "search": "Range Results Setting Trial",
    "data": "Scaler as_arrays",
}


def listed() -> dict[str, list[str]]:
    """Return the names in the table by module."""
    found: dict[str, list[str]] = {}
    for module, names in re.findall(r"^\| `([\w.]+)`[^|]*\| (\w[^|]*) \|$", TABLE, re.MULTILINE):
        found.setdefault(module, []).extend(names.split(", "))
    return found


def public(module: ModuleType) -> set[str]:
    """Return the public names, without the classes of initializers: functions make those."""
    return {
        name
        for name in module.__all__
        if not (
            isinstance(getattr(module, name), type)
            and issubclass(getattr(module, name), Initializer)
        )
    }


def test_code_comes_early() -> None:
    assert TEXT[: TEXT.index("```python")].count("\n") < 35


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_the_programs_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": f"program_{number}"}
    exec(compile(PROGRAMS[number], f"README.md, program {number}", "exec"), space)
    out = capsys.readouterr().out
    said = re.findall(r"print\(.*\)  # .*?([\d.]+)$", PROGRAMS[number], re.MULTILINE)
    printed = re.findall(r"([\d.]+)\}?$", out, re.MULTILINE)
    assert len(said) == len(printed) == PROGRAMS[number].count("print(")
    for promise, value in zip(said, printed, strict=True):
        assert float(value) == pytest.approx(float(promise), abs=0.02)


def test_the_programs_are_there() -> None:
    assert len(PROGRAMS) == 6


@pytest.mark.parametrize("name", UNLISTED)
def test_the_table_lists_what_there_is(name: str) -> None:
    module = importlib.import_module(f"xpnn.{name}")
    names = listed()[name]
    assert len(names) == len(set(names))
    assert set(names) == public(module) - set(UNLISTED[name].split())


def test_the_table_has_no_other_modules() -> None:
    assert listed().keys() == UNLISTED.keys()
