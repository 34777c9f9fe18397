"""The command line, as a user meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import xpnn
from xpnn import datasets
from xpnn.cli import main


def test_train_prints_the_accuracy_and_saves_a_model_that_loads(
    tmp_path: Path, capsys: Any
) -> None:
    assert main(["train", "mlp", "--epochs", "15", "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    accuracy = float(out.split("test accuracy: ")[1].split(" %")[0])
    assert accuracy > 95
    assert "xpnn train mlp --device cuda" in out
    model = xpnn.load(tmp_path / "run" / "model.safetensors")
    x, y = datasets.load_digits()
    assert (model.predict(x).argmax(-1) == y).mean() > 0.95


def test_networks_and_devices_are_listed(capsys: Any) -> None:
    assert main(["networks"]) == 0
    assert "mlp" in capsys.readouterr().out
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    assert "cpu                  works" in out
    assert "cuda" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "resnet9000"], "no network is called 'resnet9000'; there are"),
        (["train", "mlp", "--device", "tpu"], "unknown device 'tpu'"),
        (["train", "mlp", "--dtype", "int8"], "expected float16, float32 or float64, got int8"),
        (
            ["train", "mlp", "--batch-size", "0"],
            "'batch_size' must be a whole number, at least 1, got 0",
        ),
        (["train", "mlp", "--lr", "-1"], "Adam: 'lr' must be in"),
        (["train", "mlp", "--learning-rate", "-2"], "Adam: 'lr' must be in"),
    ],
)
def test_mistakes_are_one_line_and_exit_status_1(
    arguments: list[str], message: str, capsys: Any
) -> None:
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
