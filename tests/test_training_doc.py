"""docs/training.md: its programs and commands run, and print what they are said to print."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from xpnn.cli import main

PATH = Path(__file__).parent.parent / "docs" / "training.md"
TEXT = PATH.read_text(encoding="utf-8")
BLOCKS = list(re.finditer(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
START, *PROGRAMS = [
    # As many empty lines before it as on the page, for the line numbers of errors.
    "\n" * (TEXT[: block.start(2)].count("\n")) + block[2]
    for block in BLOCKS
    if block[1] == "python"
]
COMMANDS = [line for block in BLOCKS if block[1] == "sh" for line in block[2].splitlines()]
NEEDS = {"sklearn": "xpnn.sklearn", "matplotlib": "import plot"}  # what programs have these words


def as_parameter(program: str) -> Any:
    needs = [library for library, words in NEEDS.items() if words in program]
    marks = [pytest.mark.extras] if needs else []
    line = len(program) - len(program.lstrip("\n")) + 1
    return pytest.param(program, needs, id=f"line {line}", marks=marks)


@pytest.mark.parametrize(("program", "needs"), [*map(as_parameter, PROGRAMS)])
def test_the_programs_run(
    program: str, needs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in needs:
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    printed: list[Any] = []
    space: dict[str, Any] = {"__name__": "training", "print": printed.append}
    for part in (START, program):
        exec(compile(part, str(PATH), "exec"), space)
    said = re.findall(r"^ *print\(.*\)  # (?:.* )?(\S+)$", program, re.MULTILINE)
    assert len(said) == len(printed) == program.count("print(")
    for promise, value in zip(said, printed, strict=True):
        if str(value) != promise:
            assert float(value) == pytest.approx(float(promise), abs=0.02)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(command)
    assert program == "xpnn"
    assert main(arguments) == 0


def test_they_run_one_after_the_other() -> None:
    """No program gives another meaning to a name of the first, which all the others use."""

    def bound(program: str) -> set[str]:
        nodes = ast.parse(program).body
        names = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        assigned = [node for node in nodes if isinstance(node, ast.Assign)]
        stored = [n for node in assigned for n in ast.walk(node) if isinstance(n, ast.Name)]
        return names | {n.id for n in stored if isinstance(n.ctx, ast.Store)}

    assert bound(START) == {"x", "y", "x_test", "y_test", "network"}
    for program in PROGRAMS:
        assert not bound(START) & bound(program), program


def test_it_is_a_page_of_programs() -> None:
    assert len(PROGRAMS) == 12
    assert len(COMMANDS) == 4
    assert len(TEXT.splitlines()) < 300
