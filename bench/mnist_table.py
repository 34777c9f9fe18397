"""Every network by name on MNIST: its test error, beside what others report.

python bench/mnist_table.py                  all that have no result yet, one after the other
python bench/mnist_table.py lenet5 lstm      these, also if they have one
python bench/mnist_table.py mlp --epochs 2   a quick look, which is not kept
python bench/mnist_table.py --table          docs/results.md from the results there are

A result is a file bench/results/mnist/NAME.json, written as soon as it is there. XPNN_DATA names
the folder of the files, or they are downloaded. Networks learn from 50,000 images; the last 10,000
of the training set validate. The test images are looked at once, after training.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

import xpnn
from xpnn import zoo
from xpnn.zoo.data import images, unlabelled

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "mnist"
TABLE = ROOT / "docs" / "results.md"
PLAIN = "-without-pretraining"  # a network beside itself
NAMES = sorted(
    [n for n, recipe in zoo.RECIPES.items() if recipe.data in (images, unlabelled)]
    + [n + PLAIN for n in ("deep_belief_network", "stacked_denoising_autoencoder")]
)
PACKAGES = ("numpy", "cupy-cuda13x", "cupy-cuda12x", "torch", "jax")


class Elsewhere(NamedTuple):
    """A test error that others report, in percent."""

    error: str
    source: str


_TUTORIALS = "[Theano tutorials](https://github.com/lisa-lab/DeepLearningTutorials)"
ELSEWHERE = {
    "logistic_regression": Elsewhere("7.49", f"{_TUTORIALS}: SGD, 74 epochs"),
    "mlp": Elsewhere("1.65", f"{_TUTORIALS}: one layer of 500 tanh, 828 epochs"),
    "mlp_dropout": Elsewhere(
        "1.32",
        "[yadll](https://github.com/pchavanne/yadll), tutorial: dropout 0.4 and 0.2, 466 epochs",
    ),
    "mlp_dropconnect": Elsewhere(
        "1.20",
        "[Wan et al. 2013](https://proceedings.mlr.press/v28/wan13.html): two layers of 800, a mask"
        " an example, mean of five",
    ),
    "lenet5": Elsewhere("0.91 to 0.93", f"{_TUTORIALS}: tanh, 200 epochs; by machine"),
    "stacked_denoising_autoencoder": Elsewhere(
        "1.30", f"{_TUTORIALS}: three layers, batches of 1, 15 epochs each and 36"
    ),
    "deep_belief_network": Elsewhere(
        "1.34", f"{_TUTORIALS}: three layers of 1000, 100 epochs each and 46"
    ),
}


def run(name: str, seed: int, epochs: int | None, device: str) -> dict[str, Any]:
    """Train a network with its own settings; return what was reached."""
    xpnn.set_device(device)
    settings = {"pretrain_epochs": 0} if name.endswith(PLAIN) else {}
    network = name.removesuffix(PLAIN)
    found = zoo.train(network, data="mnist", seed=seed, epochs=epochs, settings=settings, verbose=2)
    recipe = found.recipe
    settings = recipe.settings | settings
    return {
        "name": name,
        "about": recipe.about,
        "scores": found.scores,
        "best_epoch": found.best_epoch,
        "epochs": found.history.epochs,
        "steps": found.steps,
        "batch_size": recipe.batch_size,
        "settings": {key: value for key, value in settings.items() if value is not None},
        "seconds": found.seconds,
        "seed": seed,
        "device": str(xpnn.get_device()),
        "machine": machine(),
        "python": platform.python_version(),
        "xpnn": xpnn.__version__,
        "versions": {p: v for p in PACKAGES if (v := version(p))},
    }


def machine() -> str:
    threads = os.environ.get("OPENBLAS_NUM_THREADS")
    blas = (
        f"{threads} BLAS thread{'s' * (threads != '1')}" if threads else "BLAS threads by default"
    )
    return f"{platform.machine()}, {os.cpu_count()} cores, {blas}"


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def line(result: dict[str, Any]) -> str:
    """Return what a result says in a line."""
    shown = reached(result["scores"])
    return f"{result['name']}: {shown}, {result['epochs']} epochs, {result['seconds']:.0f} s"


def reached(scores: dict[str, float]) -> str:
    """Return the test error, or what else was measured."""
    if "error" in scores:
        return f"{100 * scores['error']:.2f} %"
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items())


def results() -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    return sorted(found, key=lambda result: (result["scores"].get("error", 1.0), result["name"]))


def table(found: list[dict[str, Any]]) -> str:
    """Return docs/results.md."""
    rows = [
        "| network | test error | epochs | minutes | elsewhere | where, and what is different |",
        "|---|---|---|---|---|---|",
    ]
    for result in found:
        other = ELSEWHERE.get(result["name"], Elsewhere("", ""))
        cells = [
            "`{}`{}".format(*_parted(result["name"])),
            reached(result["scores"]),
            f"{result['epochs']} of {result['batch_size']}",
            f"{result['seconds'] / 60:.1f}",
            f"{other.error} %" if other.error else "",
            other.source,
        ]
        rows.append(f"| {' | '.join(cells)} |")
    places = sorted({place(result) for result in found})
    return "\n".join([_HEAD, *rows, "", "Measured with:", *(f"- {p}" for p in places), ""])


def _parted(name: str) -> tuple[str, str]:
    """Return the name of a network, and what is different."""
    return name.removesuffix(PLAIN), " without pre-training" * name.endswith(PLAIN)


def place(result: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    where = f"{result['device']}, {result['machine']}"
    return f"{where}; Python {result['python']}, xpnn {result['xpnn']}, {versions}"


_HEAD = """\
# What the networks reach on MNIST

`python bench/mnist_table.py` trains all networks of `xpnn networks` that take images, with their
own settings and seed 0, on 50,000 images in [0, 1] without any other preprocessing; 10,000
validate, and the 10,000 of the test set are looked at once, after training.
`xpnn train NAME --data mnist` does the same for one of them. Another seed moves an error by about
0.1 %: a smaller difference says nothing. The column "epochs" says how many, and of which batch
size; pre-training comes on top of them and is in the minutes, which are those of a machine that may
have had other work.
"""


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--epochs", type=int, help="a quick look: the result is not kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--table", action="store_true", help=f"write {TABLE.name}, train nothing")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"no network for images is called {', '.join(unknown)}; see --help")
    if options.table:
        TABLE.write_text(table(results()))
        print(f"{len(results())} of {len(NAMES)} networks in {TABLE.relative_to(ROOT)}")
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in options.names or NAMES:
        path = RESULTS / f"{name}.json"
        if path.exists() and not options.names and options.epochs is None:
            continue
        result = run(name, options.seed, options.epochs, options.device)
        if options.epochs is None:
            path.write_text(json.dumps(result, indent=2) + "\n")
        print(line(result), flush=True)


if __name__ == "__main__":
    main()
