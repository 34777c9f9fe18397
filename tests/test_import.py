"""``import xpnn`` is light, and imports no array library but NumPy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import xpnn
from xpnn._extras import require
from xpnn.errors import MissingLibraryError

LAZY = (
    "cupy",
    "torch",
    "jax",
    "array_api_strict",
    "numba",
    "matplotlib",
    "scipy",
    "pandas",
    "sklearn",
    "joblib",
)


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.libraries
def test_no_other_array_library_is_imported() -> None:
    loaded = run("import sys, xpnn; print(*{name.partition('.')[0] for name in sys.modules})")
    assert not set(LAZY) & set(loaded.split())


@pytest.mark.libraries
def test_nor_is_one_by_a_first_step_on_the_cpu() -> None:
    lines = (
        "import sys, xpnn",
        "from xpnn import ops",
        "x = xpnn.Tensor([1.0, 2.0], requires_grad=True)",
        "ops.sum(ops.exp(x) * x).backward()",
        "xpnn.get_rng().normal((2,))",
        "repr(x), xpnn.get_device(), x.device",
        "print(*{name.partition('.')[0] for name in sys.modules})",
    )
    assert not set(LAZY) & set(run("\n".join(lines)).split())


def test_the_import_takes_less_than_a_quarter_of_a_second(tmp_path: Path) -> None:
    """Of the processor, beside NumPy, which nobody can spare; compiled, the best of five."""
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    code = (
        "import time, numpy; start = time.process_time();"
        " import xpnn; print(time.process_time() - start)"
    )
    assert min(float(run(code, **compiled)) for _ in range(5)) < 0.25


@pytest.mark.parametrize("name", xpnn.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert hasattr(xpnn, name)


def test_public_names_are_sorted_and_listed_once() -> None:
    assert list(xpnn.__all__) == sorted(set(xpnn.__all__))


def test_the_version_is_one_of_python_packages() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?", xpnn.__version__)


def test_the_installed_package_has_the_same_version() -> None:
    try:
        installed = metadata.version("xpnn")
    except metadata.PackageNotFoundError:
        pytest.skip("xpnn is not installed, it runs from its source")
    assert installed == xpnn.__version__


def test_type_checkers_are_told_that_it_is_typed() -> None:
    assert (Path(xpnn.__file__).parent / "py.typed").is_file()


def test_running_without_asserts_and_docstrings_works() -> None:
    code = "import xpnn; print(float(xpnn.grad(lambda x: x * x)(3.0)))"
    done = subprocess.run(
        [sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "6.0"), done.stderr


def test_a_missing_library_is_named_with_the_line_that_brings_it() -> None:
    with pytest.raises(MissingLibraryError, match=r"pictures needs no_such_library.*xpnn\[plot\]"):
        require("no_such_library.pyplot", "plot", "pictures")
    assert require("json", "plot", "pictures").loads("1") == 1
