"""The command line: ``xpnn train NAME``, ``xpnn networks``, ``xpnn devices``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import xpnn
from xpnn import backend, random, zoo
from xpnn._libraries import LIBRARIES
from xpnn.errors import XpnnError

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xpnn", description=xpnn.__doc__)
    parser.add_argument("--version", action="version", version=f"xpnn {xpnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train a network by name and save it")
    train.add_argument("name", help="see `xpnn networks`")
    train.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, torch:cpu, ...")
    train.add_argument("--dtype", default="float32", help="float16, float32 or float64")
    train.add_argument("--epochs", type=int, help="default: the recipe's")
    train.add_argument("--batch-size", type=int, help="default: the recipe's")
    train.add_argument("--lr", "--learning-rate", type=float, help="default: the recipe's")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=Path, default=Path(), help="folder for model.safetensors")

    commands.add_parser("networks", help="list the networks that can be trained by name")
    commands.add_parser("devices", help="list the devices that work here, and what others lack")
    return parser


def _train(options: argparse.Namespace) -> None:
    recipe = zoo.get(options.name)
    backend.set_device(options.device)
    backend.set_dtype(options.dtype)
    random.set_seed(options.seed)
    (x, y), _, (x_test, y_test) = splits = recipe.data(recipe.dataset)
    settings = {} if options.lr is None else {"lr": options.lr}
    model = recipe.build(splits.shape, splits.classes, **settings)
    epochs = recipe.epochs if options.epochs is None else options.epochs
    batch_size = recipe.batch_size if options.batch_size is None else options.batch_size
    print(f"{recipe.name}: {recipe.about}")
    print(f"training on {backend.get_device()}, {len(x):,} examples, {epochs} epochs")
    started = time.perf_counter()
    history = model.fit(
        x, y, batch_size=batch_size, epochs=epochs, validation_data=(x_test, y_test)
    )
    seconds = time.perf_counter() - started
    print(f"trained in {seconds:.1f} s: {history}")
    found = model.evaluate(x_test, y_test)
    print(f"test accuracy: {100 * found['accuracy']:.2f} % of {len(x_test):,} held-out examples")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "model.safetensors"
    model.save(path)
    print(f"saved to {path}; load it with xpnn.load({str(path)!r})")
    if backend.get_device() == "cpu":
        print(
            "on an NVIDIA GPU: pip install 'xpnn[cuda13]' (or cuda12), then "
            f"xpnn train {recipe.name} --device cuda"
        )


def _networks() -> None:
    width = max(map(len, zoo.RECIPES))
    for name, recipe in sorted(zoo.RECIPES.items()):
        print(f"{name:{width}}  {recipe.about}")


def _devices() -> None:
    for name in backend.available_devices():
        print(f"{name:20} works")
    for name, library in LIBRARIES.items():
        if reason := library.status():
            print(f"{name:20} {reason}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "train":
            _train(options)
        elif options.command == "networks":
            _networks()
        else:
            _devices()
    except XpnnError as error:
        print(f"xpnn: {error}", file=sys.stderr)
        return 1
    return 0
