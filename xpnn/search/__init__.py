"""Search for good hyperparameters: by a grid or at random, in one process or several.

Settings come from :class:`Hyperparameters`; :class:`GridSearch` and :class:`RandomSearch` try them
and return :class:`Results`, a table with the best first.
"""

from __future__ import annotations

from xpnn.search.base import GridSearch, RandomSearch
from xpnn.search.ranges import Choices, Integers, LogUniform, Range, Uniform
from xpnn.search.results import Results, Trial
from xpnn.search.space import Hyperparameters, Setting

__all__ = [
    "Choices",
    "GridSearch",
    "Hyperparameters",
    "Integers",
    "LogUniform",
    "RandomSearch",
    "Range",
    "Results",
    "Setting",
    "Trial",
    "Uniform",
]
