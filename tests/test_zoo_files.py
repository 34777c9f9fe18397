"""The folder of a run: nothing is lost or mixed, whatever becomes of the next run in it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import xpnn
from xpnn import zoo
from xpnn.callbacks import Callback
from xpnn.cli import main
from xpnn.errors import ConfigError
from xpnn.zoo import run

RESULTS = ["history.csv", "history.json", "model.safetensors"]
SMALL = ["--set", "hidden=8", "--epochs", "2", "--batch-size", "50", "-q"]


@pytest.fixture(autouse=True)
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run in a folder of its own; "draw" pictures of the names in the list that is returned."""
    names: list[str] = []

    def draw(*given: Any) -> list[Path]:
        paths = [given[4] / f"{name}.png" for name in names]
        for path in paths:
            path.write_text(f"of {given[0].name}")
        return paths

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "draw", draw)
    return names


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize(
    "wrong",
    [
        ["mlp", "--data", "nope"],
        ["mlp", "--set", "hidden=-1"],
        ["mlp", "--lr", "-1"],
        ["mlp", "--device", "tpu"],
        ["transformer", "--set", "num_heads=7"],  # refused in the first step
    ],
    ids=" ".join,
)
def test_a_line_that_is_refused_changes_nothing(wrong: list[str]) -> None:
    every = ["--checkpoint-every", "20"]
    assert main(["train", "mlp", *SMALL, *every, "--out", "a"]) == 0
    before = contents("a")
    assert sum(name.startswith("checkpoint-") for name in before) == 2
    assert main(["train", *wrong, *every, "--out", "a", "--overwrite", "-q"]) == 2
    assert contents("a") == before
    assert main(["train", *wrong, *every, "--out", "new/er", "-q"]) == 2
    assert not Path("new").exists()


def test_overwriting_deletes_the_old_checkpoints_also_without_new_ones() -> None:
    assert main(["train", "mlp", *SMALL, "--checkpoint-every", "20", "--out", "a"]) == 0
    assert main(["train", "mlp", *SMALL, "--overwrite", "--out", "a"]) == 0
    assert sorted(contents("a")) == RESULTS


@pytest.mark.parametrize("every", [[], ["--checkpoint-every", "5", "--overwrite"]])
def test_a_run_that_fails_leaves_the_results_of_the_one_before(
    every: list[str], drawn: list[str], capsys: Any
) -> None:
    drawn.append("curves")
    assert main(["train", "mlp", *SMALL, *every, "--out", "a"]) == 0
    before = contents("a")
    capsys.readouterr()
    assert main(["train", "mlp", *SMALL, *every, "--out", "a", "--lr", "1e30"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    after = contents("a")
    for name in (*RESULTS, "curves.png"):
        assert after[name] == before[name]
    assert after["running.csv"].startswith(b"epoch,step")  # how far it came
    assert main(["train", "mlp", *SMALL, *every, "--out", "a"]) == 0  # no ceremony
    assert contents("a") == before


def test_the_history_can_be_read_while_a_run_goes_on(monkeypatch: Any) -> None:
    seen: list[int] = []

    class Reader(Callback):
        rank = 101

        def on_epoch_end(self, run: Any, values: Any) -> None:
            seen.append(len(Path("a/running.csv").read_text().splitlines()))

    monkeypatch.setattr(run, "IterationPatience", lambda *_, **__: Reader())
    zoo.train("mlp", epochs=3, settings={"hidden": 8, "patience": 1}, out="a", verbose=0)
    assert seen == [2, 3, 4]
    assert sorted(contents("a")) == RESULTS


def test_pictures_of_an_earlier_run_go_with_it(drawn: list[str], capsys: Any) -> None:
    drawn[:] = ["curves", "confusion"]
    assert main(["train", "mlp", *SMALL, "--out", "a"]) == 0
    Path("a/my.png").write_text("mine")
    drawn[:] = ["curves", "samples"]
    capsys.readouterr()
    assert main(["train", "vae", "--epochs", "1", "-q", "--out", "a"]) == 0
    assert "history.csv, curves.png, samples.png\n" in capsys.readouterr().out
    assert sorted(contents("a")) == sorted([*RESULTS, "curves.png", "samples.png", "my.png"])
    assert contents("a")["curves.png"] == b"of vae"


def interrupting(step: int) -> Any:
    def press(self: Any, run: Any, values: Any) -> None:
        if run.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return press


def test_a_run_that_was_interrupted_replaces_all_results(
    drawn: list[str], monkeypatch: Any, capsys: Any
) -> None:
    drawn.append("confusion")
    line = ["train", "mlp", *SMALL, "--out", "a"]
    assert main([*line, "--seed", "1"]) == 0
    monkeypatch.setattr(run._Asked, "on_step_end", interrupting(30))
    capsys.readouterr()
    assert main(line) == 130
    out = capsys.readouterr().out
    assert "in a: model.safetensors, history.json, history.csv\n" in out
    assert "--resume" not in out  # there is no checkpoint
    assert sorted(contents("a")) == RESULTS
    assert main([*line, "--checkpoint-every", "20"]) == 130
    assert "the same line with --resume goes on" in capsys.readouterr().out
    assert "checkpoint-00000030.safetensors" in contents("a")


def test_a_run_that_was_interrupted_after_a_step_is_written_down(monkeypatch: Any) -> None:
    line = ["train", "mlp", *SMALL, "--checkpoint-every", "20", "--out"]
    assert main([*line, "a"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(run._Asked, "on_epoch_end", interrupting(26))
        assert main([*line, "b"]) == 130
    assert "checkpoint-00000026.safetensors" in contents("b")
    assert main([*line, "b", "--resume"]) == 0
    assert all(contents("a")[name] == contents("b")[name] for name in RESULTS)


def test_pretraining_that_was_interrupted_writes_nothing(monkeypatch: Any, capsys: Any) -> None:
    class Press(Callback):
        on_step_end = interrupting(3)

    line = ["train", "rbm", *SMALL, "--checkpoint-every", "20", "--out", "a"]
    whole = run.pretrain
    monkeypatch.setattr(run, "pretrain", lambda *x, **o: whole(*x, **o, callbacks=[Press()]))
    assert main(line) == 130
    out = capsys.readouterr().out
    assert "interrupted after" in out
    assert "nothing was written to a\n" in out
    assert "--resume" not in out
    assert not Path("a").exists()


# ------------------------------------------------------------------------------------ resuming


def test_a_run_of_another_dtype_is_not_gone_on_with(capsys: Any) -> None:
    line = ["train", "mlp", *SMALL, "--checkpoint-every", "20", "--out", "a"]
    assert main(line) == 0
    assert main([*line, "--resume", "--dtype", "float64"]) == 2
    assert "another run: dtype was 'float32' and is 'float64'" in capsys.readouterr().err


def test_a_run_may_go_on_without_writing_more_checkpoints() -> None:
    line = ["train", "mlp", *SMALL, "--out"]
    every = ["--checkpoint-every", "20"]
    assert main([*line, "a", *every]) == 0
    Path("a/model.safetensors").unlink()
    before = contents("a")
    assert main([*line, "b"]) == 0
    assert main([*line, "a", "--resume"]) == 0
    assert contents("a") == before | contents("b")


def test_a_checkpoint_at_the_very_end_of_an_epoch() -> None:
    def train(out: str, **options: Any) -> None:
        zoo.train("mlp", epochs=2, batch_size=50, settings={"hidden": 8}, out=out, verbose=0,
                  **options)  # fmt: skip

    train("a", checkpoint_every=26)  # as many as there are in an epoch
    before = contents("a")
    for path in sorted(Path("a").glob("checkpoint-*")):
        if "26" not in path.name:
            path.unlink()
    train("a", resume=True)
    for name in RESULTS:
        assert contents("a")[name] == before[name]


# --------------------------------------------------------------------------------------- names


def test_an_empty_name_is_no_folder(capsys: Any) -> None:
    assert main(["train", "mlp", *SMALL, "--out", ""]) == 2
    assert "'out' must be a folder, got an empty name." in capsys.readouterr().err
    assert not list(Path().iterdir())
    with pytest.raises(ConfigError, match="'out' must be a folder, got an empty name"):
        zoo.train("mlp", out="", verbose=0)


def test_a_folder_that_cannot_be_written_to(monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != Path("locked"))
    Path("locked").mkdir()
    with pytest.raises(ConfigError, match="'out' must be a folder that can be written to"):
        zoo.train("mlp", out="locked")


def test_the_model_of_a_run_loads() -> None:
    zoo.train("mlp", epochs=0, settings={"hidden": 8}, out="a", verbose=0)
    assert sorted(contents("a")) == RESULTS
    assert xpnn.load("a/model.safetensors").parameters()
