"""The rules of the house: who imports whom, who names an array library, how long files are."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import xpnn

ROOT = Path(xpnn.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
HERE = Path(__file__).parent
LONGEST = 400

# A module imports from its own room and from the rooms to its left (above it here).
ORDER = [
    "errors",
    "_extras",
    "_dtypes",
    "_names",
    "_cuda",
    "replay",
    "_libraries",
    "_namespaces",
    "backend",
    "workers",
    "parallel",
    "precision",
    "kernels",
    "memory",
    "machine",
    "random",
    "primitives",
    "autograd",
    "ops",
    "functional",
    "activations",
    "initializers",
    "losses",
    "metrics",
    "layers",
    "optim",
    "data",
    "datasets",
    "io",
    "plot",
    "callbacks",
    "training",
    "search",
    "sklearn",
    "zoo",
    "cli",
    "__main__",
]
USERS = ("cli", "__main__")  # come in by the front door, like everybody outside

ARRAY_LIBRARIES = {
    *("numpy", "cupy", "cupyx", "torch", "jax", "jaxlib", "scipy", "numba"),
    *("array_api_compat", "array_api_strict", "array_api_extra", "ml_dtypes"),
}
MAY_NAME_ANY = {
    "_cuda": "what CuPy finds and lacks",
    "_libraries": "an adapter an array library",
    "_namespaces": "scalars that NumPy gives for arrays",
    "backend": "devices, dtypes and moves between libraries",
    "kernels": "native overlays, a module a library",
}
MAY_NAME_NUMPY = {
    "data": "mini-batches are cut on the host",
    "datasets": "files are read on the host",
    "io": "safetensors are read and written on the host",
    "random": "the host's bits",
}

every_file = pytest.mark.parametrize(
    "path", FILES, ids=lambda p: p.relative_to(ROOT.parent).as_posix()
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def room(module: str) -> str:
    """Return the name below ``xpnn`` to which a module belongs; empty for the front door."""
    return module.partition(".")[2].partition(".")[0]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, also inside functions, also by importlib."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*start, node.module] if node.module else start)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in MODULES else source
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__", "find_spec"):
                yield str(node.args[0].value)


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import one another (Tarjan's strong components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(v: str) -> None:
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in graph.get(v, ()):
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            group = stack[stack.index(v) :]
            del stack[stack.index(v) :]
            if len(group) > 1 or v in graph.get(v, ()):
                found.append(sorted(group))

    for v in graph:
        if v not in index:
            visit(v)
    return found


# ------------------------------------------------------------------------------- imports


@every_file
def test_every_module_has_its_place_in_the_house(path: Path) -> None:
    assert path == ROOT / "__init__.py" or room(module_name(path)) in ORDER


@every_file
def test_imports_go_to_the_left(path: Path) -> None:
    here = room(module_name(path))
    if not here:
        return  # the front door may import all
    wrong = [
        name
        for name in imports(path)
        if name.partition(".")[0] == "xpnn" and not is_left(room(name), here)
    ]
    assert not wrong, f"{here} may only import what stands to its left"


def is_left(there: str, here: str) -> bool:
    return ORDER.index(there) <= ORDER.index(here) if there else here in USERS


def test_no_modules_import_one_another() -> None:
    graph = {
        name: {target for target in imports(path) if target in MODULES}
        for name, path in MODULES.items()
    }
    assert cycles(graph) == []


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]
    assert cycles({"a": {"a"}}) == [["a"]]


@every_file
def test_few_modules_name_an_array_library(path: Path) -> None:
    here = room(module_name(path))
    named = {name.partition(".")[0] for name in imports(path)} & ARRAY_LIBRARIES
    if here in MAY_NAME_ANY:
        return
    allowed = {"numpy"} if here in MAY_NAME_NUMPY else set()
    assert named <= allowed, "ask the arrays for their namespace, or backend for the device's"


def test_the_permissions_are_those_of_rooms_that_exist() -> None:
    assert {*MAY_NAME_ANY, *MAY_NAME_NUMPY} <= set(ORDER)
    assert not set(MAY_NAME_ANY) & set(MAY_NAME_NUMPY)


# --------------------------------------------------------------------------------- files


@every_file
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@every_file
def test_nothing_is_left_to_do(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for word in ("TODO", "FIXME", "XXX"):
        assert word not in text


def is_mutable(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", "") in ("list", "dict", "set", "bytearray")
    return isinstance(node, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp))


@every_file
def test_no_default_argument_is_mutable(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                assert not is_mutable(default), f"line {node.lineno}"


# ------------------------------------------------------------------------------- __all__


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split("."))


PUBLIC = [name for name, path in MODULES.items() if is_public(name) and tree(path).body]


def defined(path: Path) -> set[str]:
    """Return the public functions and classes that a module defines at its top level."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in tree(path).body if isinstance(node, kinds)}
    return {name for name in names if not name.startswith("_")}


def load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:  # a kernel whose library is not installed
        pytest.skip(str(error))


@pytest.mark.parametrize("name", PUBLIC)
def test_public_modules_list_what_they_offer(name: str) -> None:
    module = load(name)
    assert hasattr(module, "__all__"), "no __all__"
    listed = set(module.__all__)
    assert len(module.__all__) == len(listed), "a name is listed twice"
    assert {n for n in listed if not hasattr(module, n)} == set(), "listed and not there"
    assert defined(MODULES[name]) - listed == set(), "public and not listed"


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_listed_is_public(name: str) -> None:
    dunders = {"__array_api_version__", "__array_namespace_info__"}
    listed = getattr(load(name), "__all__", [])
    assert {n for n in listed if n.startswith("_")} <= dunders


# --------------------------------------------------------------------------------- the tests

_ASKS = re.compile(r"(importorskip|usable)\('(torch|jax|ml_dtypes)\b")
_MARKS = re.compile(r"mark\.(libraries|oracle|gpu|extras)\b")


@pytest.mark.parametrize("path", sorted(HERE.glob("test_*.py")), ids=lambda p: p.name)
def test_what_asks_for_another_library_is_marked(path: Path) -> None:
    """Or it would be left out where these libraries are installed."""
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = " ".join(map(ast.unparse, node.decorator_list))
            assert _MARKS.search(marks) or not _ASKS.search(ast.unparse(node)), node.name
