"""What is not collected: modules whose import needs a library that is not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("sklearn") else ["xpnn/sklearn"]
