"""What is not collected: doctests that need a library that is not installed."""

from importlib.util import find_spec

_NEEDS = {"xpnn/sklearn": "sklearn", "xpnn/plot": "matplotlib"}
collect_ignore = [folder for folder, library in _NEEDS.items() if not find_spec(library)]
collect_ignore_glob = [] if find_spec("numba") else ["xpnn/kernels/numba_*.py"]
