"""Models as estimators of scikit-learn, for its pipelines, searches and scores.

``import xpnn.sklearn`` needs scikit-learn, the extra ``sklearn``; ``import xpnn`` does not.
"""

from __future__ import annotations

from xpnn._extras import require

require("sklearn", "sklearn", "xpnn.sklearn")

from xpnn.sklearn.classifier import Classifier  # noqa: E402 - after the word on what is missing
from xpnn.sklearn.regressor import Regressor  # noqa: E402

__all__ = ["Classifier", "Regressor"]
