"""docs/gpu.md: its programs run, one after the other, on the CPU and on a GPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers import usable

PATH = Path(__file__).parent.parent / "docs" / "gpu.md"
TEXT = PATH.read_text(encoding="utf-8")
# As many empty lines before each as on the page, for the line numbers of errors.
PROGRAMS = [
    "\n" * TEXT[: block.start(1)].count("\n") + block[1]
    for block in re.finditer(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_programs_run(device: str) -> None:
    usable(device)
    assert len(PROGRAMS) > 4
    assert 'DEVICE = "cpu"' in PROGRAMS[0]
    names: dict[str, Any] = {}
    for program in PROGRAMS:
        program = program.replace('DEVICE = "cpu"', f'DEVICE = "{device}"')
        exec(compile(program, str(PATH), "exec"), names)
    assert names["history"]["loss"][-1] < names["history"]["loss"][0]
    assert names["step"].recordings == (device != "cpu")
    assert names["scores"].device == device
