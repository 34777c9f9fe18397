"""The examples: each runs, a few steps of it, as a program of its own with warnings as errors.

``XPNN_QUICK=1`` in the environment is how an example is told to take few steps.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import usable

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))

# Shakespeare is not in the repository: another text will do to see that it runs.
ARGUMENTS = {"char_lm": ("--text", str(ROOT / "README.md"))}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPNN_QUICK", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")


def run(name: str, folder: Path, *arguments: str, said: str = "", program: Any = None) -> str:
    """Run an example, or a program made of it, in a folder and return what it printed."""
    usable("cpu")
    program = program or ROOT / "examples" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), *ARGUMENTS.get(name, ()), *arguments],
        cwd=folder, input=said, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", [path.stem for path in EXAMPLES])
def test_examples_run(name: str, tmp_path: Path) -> None:
    assert re.search(r"\d", run(name, tmp_path)), "it reports no number"


@pytest.mark.parametrize("name", ["alphabet_lstm", "gradient_penalty", "own_layer"])
def test_short_ones_reach_what_they_promise(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XPNN_QUICK")
    run(name, tmp_path)


@pytest.mark.parametrize("name", ["chatbot", "custom_loop"])
def test_one_line_moves_an_example(name: str, tmp_path: Path) -> None:
    text = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    line = '# xpnn.set_device("cuda")'
    assert text.count(line) == 1
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "data")
    program = tmp_path / f"{name}.py"
    program.write_text(text.replace(line, 'xpnn.set_device("strict:device1")'), encoding="utf-8")
    run(name, tmp_path, program=program)


def test_the_model_of_characters_on_another_device(tmp_path: Path) -> None:
    here, there = run("char_lm", tmp_path), run("char_lm", tmp_path, "--device", "strict:device1")
    epoch = r"epoch 1: loss .*? bits"
    assert re.findall(epoch, here) == re.findall(epoch, there) != []


def test_the_chatbot_talks(tmp_path: Path) -> None:
    said = "hello\nwhat is the capital of peru?\n\n"
    trained, _, talk = run("chatbot", tmp_path, "--talk", said=said).partition("Say something")
    assert "trained: " in trained
    assert talk.count("\n> ") == 3
    warm = ("--talk", "--temperature", "0.5")
    trained, _, talk = run("chatbot", tmp_path, *warm, said="Anything else?").partition("Say")
    assert trained == ""  # it is the one that was saved
    assert talk.count("\n> ") == 2  # one question, and none at the end of the input


def test_questions_of_trec_are_read(tmp_path: Path) -> None:
    lines = ["NUM:date When did Hawaii become a state ?\n", "HUM:ind Who killed Gandhi ?\n"]
    half = "".join(line * 20 for line in lines)  # of which every twentieth is taken
    (tmp_path / "train_5500.label").write_text(half * 2, encoding="latin-1")
    (tmp_path / "TREC_10.label").write_text(half, encoding="latin-1")
    out = run("sentence_classification", tmp_path, "--trec", str(tmp_path))
    assert "4 questions to learn from, 2 to test" in out


@pytest.mark.extras
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, device: str, tmp_path: Path) -> None:
    usable(device)
    if device == "cuda" and os.environ.get("XPNN_EMULATE_CUDA"):
        pytest.skip("the kernel of a notebook is another process, where CUDA is not emulated")
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.source.startswith('DEVICE = "cpu"')
    first.source = first.source.replace('"cpu"', f'"{device}"', 1)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources=resources
    ).execute()
    printed = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert [out for out in printed if out.get("name") == "stderr"] == []
    text = "".join(out.get("text", "") for out in printed)
    assert f"on {device}" in text
    assert re.search(r"accuracy 0\.\d+; 100\.0%", text)
