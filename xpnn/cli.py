"""The command line: ``xpnn train NAME``, ``xpnn networks``, ``xpnn devices``."""

from __future__ import annotations

import argparse
import inspect
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import xpnn
from xpnn import backend, zoo
from xpnn.errors import NonFiniteError, XpnnError

__all__ = ["main"]

_TRAIN = """\
Train a network by its name, measure it on test data that it has not seen, and save it.

The seed decides everything: the same line gives the same weights, on every device up to rounding.
With --checkpoint-every a run that was killed goes on by the same line and --resume, and leaves the
files of a run that never was.
"""
_FOLDER = """\
files in the folder:
  model.safetensors      weights and architecture; xpnn.load reads it
  history.json, .csv     loss and metrics of every epoch
  running.csv            the same, while a run goes on, and of one that failed
  checkpoint-*           with --checkpoint-every: the whole run, the last two
  *.png                  curves, confusions, filters, ..., where matplotlib is installed

examples:
  xpnn train mlp
  xpnn train lenet5 --data mnist --device cuda
  xpnn train lstm --data mnist --set hidden=256 --checkpoint-every 500 --resume
  xpnn train mlp_dropout --data my.npz --epochs 20 --out runs/mine
"""
_DATA = (
    "digits (comes with xpnn), mnist, fashion, or a file .npz with x_train, y_train, x_test and"
    " y_test, or x and y; for word2vec a file .txt; default: the network's"
)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="xpnn", description="Deep learning in the array-API standard.")
    parser.add_argument("--version", action="version", version=f"xpnn {xpnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train a network by name and save it",
        description=_TRAIN,
        epilog=_FOLDER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.set_defaults(run=_train)
    train.add_argument("name", metavar="NAME", help="see `xpnn networks`")
    train.add_argument("--data", help=_DATA)
    train.add_argument("--epochs", type=int, metavar="N", help="default: the network's")
    train.add_argument("--batch-size", type=int, metavar="N", help="default: the network's")
    train.add_argument(
        "--set", action="append", nargs="+", default=[], metavar="NAME=VALUE",
        help="settings of the network; `xpnn networks NAME` lists them",
    )  # fmt: skip
    train.add_argument("--lr", "--learning-rate", metavar="RATE", help="short for --set lr=RATE")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    train.add_argument(
        "--device", default="cpu", help="cpu, cuda, cuda:1, torch:cpu, ...; default: cpu"
    )
    train.add_argument(
        "--dtype", default="float32", help="float16, float32 or float64; default: float32"
    )
    train.add_argument(
        "--precision", metavar="NAME",
        help="mixed_bfloat16 or mixed_float16: products in 16 bits, for GPUs; default: float32",
    )  # fmt: skip
    train.add_argument("--out", metavar="DIR", help="default: runs/NAME")
    train.add_argument(
        "--checkpoint-every", type=int, metavar="STEPS",
        help="write the whole run down every so many steps",
    )  # fmt: skip
    train.add_argument(
        "--resume", action="store_true",
        help="go on from the newest checkpoint in DIR; start if there is none",
    )  # fmt: skip
    train.add_argument(
        "--overwrite", action="store_true", help="delete the checkpoints of another run in DIR"
    )
    loud = train.add_mutually_exclusive_group()
    loud.add_argument(
        "-q", "--quiet", action="store_const", const=0, default=1, dest="verbose",
        help="only the report at the end",
    )  # fmt: skip
    loud.add_argument(
        "-v", "--verbose", action="store_const", const=2, dest="verbose", help="a line an epoch"
    )

    networks = commands.add_parser(
        "networks", help="list the networks that can be trained by name, or describe one"
    )
    networks.set_defaults(run=_networks)
    networks.add_argument("name", nargs="?", metavar="NAME", help="describe this one")
    devices = commands.add_parser(
        "devices",
        help="list the devices that work here, what is known of them, and what others lack",
    )
    devices.set_defaults(run=_devices)
    return parser


def _train(options: argparse.Namespace) -> int:
    recipe = zoo.get(options.name)
    backend.set_device(options.device)
    backend.set_dtype(options.dtype)
    pairs = [pair for several in options.set for pair in several]
    if options.lr is not None:
        pairs.append(f"lr={options.lr}")
    folder = f"runs/{recipe.name}" if options.out is None else options.out
    with warnings.catch_warnings():
        # A loss that becomes no number is an error, which says more.
        warnings.filterwarnings("ignore", ".*encountered", RuntimeWarning)
        found = zoo.train(
            recipe.name,
            data=options.data,
            epochs=options.epochs,
            batch_size=options.batch_size,
            settings=zoo.parse(recipe, pairs),
            seed=options.seed,
            precision=options.precision,
            out=folder,
            checkpoint_every=options.checkpoint_every,
            resume=options.resume,
            overwrite=options.overwrite,
            verbose=options.verbose,
            started=_started(recipe) if options.verbose else None,
        )
    _report(found, Path(folder))
    return 130 if found.interrupted else 0


def _started(recipe: zoo.Recipe) -> Callable[[zoo.Splits, int, int], None]:
    def started(splits: zoo.Splits, epochs: int, batch_size: int) -> None:
        print(f"{recipe.name}: {recipe.about}")
        parts = (zoo.Splits(part, part, part).examples for part in splits)
        train, validation, test = (f"{n:,}" for n in parts)
        print(
            f"training on {backend.get_device()}: {train} examples, {validation} to validate,"
            f" {test} to test; {epochs} epochs in batches of {batch_size}",
            flush=True,
        )

    return started


def _report(found: zoo.Outcome, folder: Path) -> None:
    verb = "interrupted after" if found.interrupted else "trained in"
    line = f"{verb} {found.seconds:.1f} s: {found.history.epochs} epochs, {found.steps:,} steps"
    if found.best_epoch is not None:
        monitor = found.recipe.monitor
        value = found.history[monitor][found.best_epoch - 1]
        line += f"; best {monitor} {value:.4g} in epoch {found.best_epoch}"
    print(line)
    examples = zoo.Splits(found.splits.test, *found.splits[1:]).examples
    scores = {name: _shown(name, value) for name, value in found.scores.items()}
    if "accuracy" in scores:
        print(f"test accuracy: {scores.pop('accuracy')} of {examples:,} held-out examples")
    if scores:
        print("test " + ", ".join(f"{name} {value}" for name, value in scores.items()))
    if not found.files:
        print(f"nothing was written to {folder}")
        return
    print(f"in {folder}: {', '.join(path.name for path in found.files)}")
    if found.note:
        print(found.note)
    if found.interrupted:
        if any(path.name.startswith("checkpoint-") for path in found.files):
            print("the same line with --resume goes on")
        return
    print(f"load the model with xpnn.load({str(folder / 'model.safetensors')!r})")
    if backend.get_device() == "cpu":
        print(
            "on an NVIDIA GPU: pip install 'xpnn[cuda13]' (or cuda12), then "
            f"xpnn train {found.recipe.name} --device cuda"
        )


def _shown(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name in ("accuracy", "error") else f"{value:.4g}"


def _networks(options: argparse.Namespace) -> int:
    if options.name is not None:
        recipe = zoo.get(options.name)
        print(f"{recipe.name}: {inspect.getdoc(recipe.build)}\n")
        more = f" (more on small data, to {recipe.least_steps} steps)" * bool(recipe.least_steps)
        print(
            f"epochs {recipe.epochs}{more}, batch size {recipe.batch_size}, data {recipe.dataset}"
        )
        print(f"settings: {zoo.listed(recipe)}")
        return 0
    width = max(map(len, zoo.RECIPES))
    for name, recipe in sorted(zoo.RECIPES.items()):
        print(f"{name:{width}}  {recipe.about}")
    return 0


def _devices(options: argparse.Namespace) -> int:
    print(xpnn.device_report())
    return 0


def _complain(error: Any) -> None:
    print(f"xpnn: {' '.join(str(error).split())}", file=sys.stderr)


# How NumPy calls arrays that no memory could hold, for which it has no MemoryError.
_NO_SUCH_SIZE = ("Maximum allowed dimension exceeded", "array is too big")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0 if all went well, 1 if something failed on the way, 2 if what was asked for cannot be done,
    130 after Ctrl-C and 141 if nobody reads the output any more, as other programs do.
    """
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A letter in the name of a folder that a terminal cannot show must not cost the report.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer must not be written when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except MemoryError as error:
        _complain(error if isinstance(error, XpnnError) else f"out of memory. {error}")
        return 1
    except (NonFiniteError, OSError) as error:
        _complain(error)
        return 1
    except XpnnError as error:
        _complain(error)
        return 2
    except ValueError as error:
        if not str(error).startswith(_NO_SUCH_SIZE):
            raise
        _complain(f"out of memory. {error}")
        return 1
    return status
