"""The command line, as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnn
from xpnn import cli, datasets, zoo
from xpnn.cli import main
from xpnn.zoo import run

ROOT = Path(xpnn.__file__).parents[1]
DRAW = run.draw
SMALL = ["--set", "hidden=8", "--epochs", "2", "--batch-size", "50"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder of its own, and do not draw: it takes longer than the runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "draw", lambda *args, **options: [])


def process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start ``xpnn`` on its own; warnings are errors there too."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "xpnn", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


# -------------------------------------------------------------------------------------- training


def test_train_prints_the_accuracy_and_saves_a_model_that_loads(capsys: Any) -> None:
    assert main(["train", "mlp", "--epochs", "15", "--set", "hidden=128"]) == 0
    out = capsys.readouterr().out
    accuracy = float(out.split("test accuracy: ")[1].split(" %")[0])
    assert accuracy > 93
    assert "training on cpu: 1,294 examples, 144 to validate, 359 to test; 15 epochs" in out
    assert "best val_loss 0." in out
    assert "in runs/mlp: model.safetensors, history.json, history.csv\n" in out
    assert "xpnn train mlp --device cuda" in out
    model = xpnn.load(Path("runs/mlp/model.safetensors"))
    x, y = datasets.load_digits()
    assert (model.predict(x).argmax(-1) == y).mean() > 0.93
    history = json.loads(Path("runs/mlp/history.json").read_text())
    assert history["epochs"] == len(history["history"]["val_accuracy"]) == 15


def test_all_that_can_be_said_is_heard(capsys: Any) -> None:
    x = np.random.default_rng(0).random((60, 5))
    np.savez("my.npz", x=x, y=(x[:, 0] > 0.5).astype(int))
    line = [
        "train", "mlp_dropout", "--data", "my.npz", "--epochs", "3", "--batch-size", "7", "--seed",
        "5", "--dtype", "float64", "--out", "here", "--checkpoint-every", "10", "--set",
        "hidden=4", "p_input=0", "--set", "p_hidden=0.1", "--lr", "0.02",
    ]  # fmt: skip
    assert main([*line, "-v"]) == 0
    out = capsys.readouterr().out
    assert "43 examples, 5 to validate, 12 to test; 3 epochs in batches of 7" in out
    assert out.count("\nepoch ") == 3
    assert "checkpoint-00000020.safetensors" in out
    model = xpnn.load("here/model.safetensors")
    assert [str(p.dtype) for p in model.parameters()] == ["float64"] * 6
    assert model[2].weight.shape == (5, 4)
    assert (model[1].p, model[3].p) == (0.0, 0.1)
    assert main([*line, "--resume", "-q"]) == 0
    again = capsys.readouterr().out
    assert again.startswith("trained in ")
    assert again.split("test accuracy")[1] == out.split("test accuracy")[1]


def test_a_terminal_that_cannot_show_a_name_shows_the_report(monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    out, err = process("train", "logistic_regression", "--epochs", "1", "--out", "é").communicate()
    assert (err, "in \\xe9: model.safetensors" in out) == ("", True)


def test_quiet_is_the_report_alone(capsys: Any) -> None:
    assert main(["train", "logistic_regression", "--epochs", "1", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("trained in ")
    assert lines[0].endswith("in epoch 1")
    assert "1 epochs, 13 steps" in lines[0]


def test_a_run_that_was_killed_is_resumed_by_the_same_line() -> None:
    line = ["train", "mlp", *SMALL, "--epochs", "30"]
    assert main([*line, "--out", "a", "-q"]) == 0
    resumed = [*line, "--out", "b", "--checkpoint-every", "20", "--resume"]
    child = process(*resumed)
    limit = time.monotonic() + 120
    while not list(Path("b").glob("checkpoint-*.safetensors")) and time.monotonic() < limit:
        time.sleep(0.01)
    child.kill()
    child.communicate()
    assert main([*resumed, "-q"]) == 0
    for name in ("model.safetensors", "history.json", "history.csv"):
        assert (Path("a") / name).read_bytes() == (Path("b") / name).read_bytes(), name


def test_checkpoints_of_another_run_are_neither_mixed_nor_lost(capsys: Any) -> None:
    line = ["train", "mlp", *SMALL, "--out", "a", "--checkpoint-every", "20"]
    assert main(line) == 0
    before = sorted(Path("a").iterdir())
    capsys.readouterr()
    assert main(line) == 2
    found = capsys.readouterr()
    assert "a holds checkpoints of another run" in found.err
    assert "--resume" in found.err
    assert "--overwrite" in found.err
    assert found.out == ""
    assert sorted(Path("a").iterdir()) == before
    assert main([*line, "--overwrite", "--seed", "3"]) == 0
    capsys.readouterr()
    assert main([*line, "--resume", "--batch-size", "9"]) == 2
    assert "is of another run" in capsys.readouterr().err
    assert main([*line, "--resume", "--seed", "3", "--lr", "0.5"]) == 2
    assert "of another run: lr was 0.001 and is 0.5" in capsys.readouterr().err
    assert main([*line, "--resume", "--seed", "4"]) == 2
    assert "of another run: seed was 3 and is 4" in capsys.readouterr().err
    assert main([*line, "--resume", "--seed", "3", "--epochs", "4"]) == 2
    assert "of another run: steps was 52 and is 104" in capsys.readouterr().err
    assert main([*line, "--resume", "--seed", "3"]) == 0


def test_ctrl_c_ends_a_run_cleanly() -> None:
    child = process(
        "train", "mlp", *SMALL, "--epochs", "100000", "--checkpoint-every", "20", "--out", "a"
    )
    limit = time.monotonic() + 120
    while not list(Path("a").glob("checkpoint-*.safetensors")) and time.monotonic() < limit:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=120)
    assert (child.returncode, "Traceback" in err) == (130, False)
    assert "interrupted after" in out
    assert "the same line with --resume goes on" in out
    assert xpnn.load("a/model.safetensors").parameters()


def test_ctrl_c_elsewhere_is_one_line(monkeypatch: Any, capsys: Any) -> None:
    def interrupted(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "train", interrupted)
    assert main(["train", "mlp"]) == 130
    assert capsys.readouterr().err == "xpnn: interrupted\n"


@pytest.mark.extras
def test_pictures_are_named(capsys: Any, monkeypatch: Any) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(run, "draw", DRAW)
    assert main(["train", "logistic_regression", "--epochs", "1", "-q", "--out", "a"]) == 0
    assert "history.csv, curves.png, confusion.png, filters.png\n" in capsys.readouterr().out
    assert {path.name for path in Path("a").glob("*.png")} == {
        "curves.png", "confusion.png", "filters.png",
    }  # fmt: skip


@pytest.mark.extras
@pytest.mark.parametrize("name", ["vae", "wgan_gp", "autoencoder", "deep_belief_network"])
@pytest.mark.parametrize("shape", [(12,), (6, 6, 2)])
def test_no_pictures_of_what_is_no_image(
    name: str, shape: tuple[int, ...], capsys: Any, monkeypatch: Any
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(run, "draw", DRAW)
    np.savez("my.npz", x=np.random.default_rng(0).random((40, *shape)), y=np.arange(40) % 2)
    assert main(["train", name, "--data", "my.npz", "--epochs", "1", "-q", "--out", "a"]) == 0
    assert (
        "in a: model.safetensors, history.json, history.csv, curves.png" in capsys.readouterr().out
    )
    assert not {"filters", "reconstructions", "samples"} & {p.stem for p in Path("a").glob("*.png")}


def test_without_matplotlib_a_line_says_so(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(run, "draw", DRAW)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["train", "logistic_regression", "--epochs", "1", "-q", "--out", "a"]) == 0
    assert "\nwithout pictures: a picture needs matplotlib" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------- lists


def test_networks_are_listed_a_line_each(capsys: Any) -> None:
    assert main(["networks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(zoo.RECIPES)
    assert any(line.startswith("lenet5 ") and "LeNet-5: two convolutions" in line for line in lines)


def test_a_network_is_described(capsys: Any) -> None:
    assert main(["networks", "lenet5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("lenet5: LeNet-5: ")
    assert "LeCun et al. 1998" in out
    assert "settings: lr=0.001, filters=20,50, hidden=500, activation=relu, dropout=0.5" in out
    assert "epochs 10 (more on small data, to 1500 steps), batch size 100, data digits" in out


def test_devices_are_listed(capsys: Any) -> None:
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    assert "cpu                  works" in out
    assert f"NumPy {np.__version__}; " in out
    assert "cuda" in out


def test_nobody_reads_on() -> None:
    """As with ``xpnn networks | head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    child = subprocess.run(
        [sys.executable, "-W", "error", "-m", "xpnn", "networks"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=writer, stderr=subprocess.PIPE,
        check=False,
    )  # fmt: skip
    os.close(writer)
    assert (child.returncode, child.stderr) == (141, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["networks", "--help"]])
def test_help_is_there(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: xpnn")
    assert max(map(len, out.splitlines())) <= 100


# -------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet9000"], "no network is called 'resnet9000'; there are autoencoder, batch"),
        (["lennet"], ", word2vec. Did you mean 'lenet5'?"),
        (["mlp", "--device", "tpu"], "unknown device 'tpu'"),
        (["mlp", "--dtype", "int8"], "expected float16, float32 or float64, got int8"),
        (["mlp", "--batch-size", "0"], "mlp: 'batch_size' must be a whole number >= 1, got 0"),
        (["mlp", "--epochs", "-1"], "mlp: 'epochs' must be a whole number >= 0, got -1"),
        (["mlp", "--seed", "-1"], "expected an integer seed"),
        (["mlp", "--lr", "-1"], "'lr' must be in"),
        (["mlp", "--learning-rate", "fast"], "'lr' must be a number, got 'fast'"),
        (["mlp", "--set", "depth=3"], "mlp has no setting 'depth'; there are lr=0.001, hidden="),
        (["mlp", "--set", "hidden=ten"], "'hidden' must be a whole number, got 'ten'. Its defau"),
        (["mlp", "--set", "hidden"], "expected a setting as name=value, got 'hidden'"),
        (["mlp", "--set", "hidden=0"], "must be at least 1, got 0"),
        (["mlp", "--set", "patience=-1"], "'patience' must be a whole number >= 0, got -1"),
        (["mlp", "--data", "cifar"], "no data is called 'cifar'; there are digits, mnist, fashi"),
        (["mlp", "--data", "no.npz"], "there is no file 'no.npz'"),
        (["mlp", "--data", "bad.npz"], "bad.npz: this is no .npz file"),
        (["word2vec", "--data", "no.txt"], "xpnn: no.txt: this text cannot be read: No such file"),
        (["mlp", "--data", "mnist"], "load_mnist: no mirror delivered train-images-idx3-ubyte.gz"),
        (["lenet5", "--data", "flat.npz"], "lenet5: expected images of shape (H, W)"),
        (["mlp", "--out", "bad.npz"], "'out' must be a folder, or one that can be made"),
        (["mlp", "--out", ""], "'out' must be a folder, got an empty name"),
        (["mlp", "--checkpoint-every", "0"], "'checkpoint_every' must be a whole number >= 1"),
        (["mlp", "--resume", "--overwrite"], "'resume' goes on with the checkpoints that 'overwr"),
    ],
    ids=" ".join,
)
def test_mistakes_are_one_line_and_exit_status_2(
    arguments: list[str], message: str, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(datasets.mnist, "_MIRRORS", ())
    monkeypatch.delenv("XPNN_DATA", raising=False)
    monkeypatch.setenv("XPNN_CACHE", "nothing")
    Path("bad.npz").write_text("bad")
    np.savez("flat.npz", x=np.ones((30, 4)), y=np.arange(30) % 3)
    assert main(["train", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("xpnn: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "xpnn: the following arguments are required: COMMAND. See xpnn --help."),
        (["fit"], "xpnn: argument COMMAND: invalid choice: 'fit'"),
        (["train"], "xpnn train: the following arguments are required: NAME. See xpnn train --he"),
        (["train", "mlp", "--epochs", "x"], "xpnn train: argument --epochs: invalid int value: 'x"),
        (["train", "mlp", "-q", "-v"], "not allowed with argument"),
        (["train", "mlp", "--size", "3"], "xpnn: unrecognized arguments: --size 3"),
    ],
)
def test_lines_that_cannot_be_read(arguments: list[str], message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_run_that_fails_on_the_way_has_exit_status_1(capsys: Any, monkeypatch: Any) -> None:
    assert main(["train", "mlp", "--lr", "1e30", *SMALL]) == 1
    err = capsys.readouterr().err
    assert "the loss became" in err
    assert len(err.splitlines()) == 1

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device", "runs/mlp/model.safetensors")

    for name, size in (("mlp", 10**14 - 1), ("lstm", 2**62)):
        assert main(["train", name, "--set", f"hidden={size}"]) == 1
        err = capsys.readouterr().err
        assert err.startswith(("xpnn: out of memory. Unable to", "xpnn: out of memory. Maximum"))
        assert len(err.splitlines()) == 1

    monkeypatch.setattr(zoo, "train", full)
    assert main(["train", "mlp"]) == 1
    expected = "xpnn: [Errno 28] No space left on device: 'runs/mlp/model.safetensors'\n"
    assert capsys.readouterr().err == expected


def test_the_epilog_names_what_there_is() -> None:
    lines = [line.split() for line in cli._FOLDER.splitlines() if line.startswith("  xpnn train")]
    options = {word for action in cli._parser()._actions[-1].choices["train"]._actions
               for word in action.option_strings}  # fmt: skip
    for line in lines:
        assert line[2] in zoo.RECIPES
        assert {word for word in line if word.startswith("-")} <= options
