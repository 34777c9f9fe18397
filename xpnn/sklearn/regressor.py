"""Regressor: a model that tells numbers, as an estimator of scikit-learn."""

from __future__ import annotations

from typing import Any

from sklearn.base import RegressorMixin
from sklearn.utils.validation import _check_sample_weight, validate_data

from xpnn.errors import DataError
from xpnn.sklearn.base import _INPUTS, Estimator

__all__ = ["Regressor"]


class Regressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """A model that tells numbers, one or several an example, as an estimator of scikit-learn.

    Parameters
    ----------
    model, hidden, activation, optimizer, lr, epochs, batch_size, validation_fraction, patience,\
    callbacks, device, dtype, random_state, warm_start, verbose
        As for :class:`Classifier`; ``model`` has an output for each number.
    loss : str, pair or callable, optional
        Default: "mean_squared_error".

    Attributes
    ----------
    model_ : Model
        What was trained.
    n_outputs_ : int
        Numbers an example.
    history_, n_iter_, n_features_in_, feature_names_in_
        As for :class:`Classifier`.

    Notes
    -----
    Neither inputs nor targets are scaled. Training is fastest when both have a standard deviation
    near 1: a pipeline with ``StandardScaler``, in a ``TransformedTargetRegressor``, sees to that.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from xpnn.sklearn import Regressor
    >>> x, y = make_regression(200, 5, random_state=0)
    >>> regressor = Regressor(epochs=50, lr=0.03, random_state=0)
    >>> make_pipeline(StandardScaler(), regressor).fit(x, y).score(x, y) > 0.95
    True
    """

    default_loss = "mean_squared_error"
    n_outputs_: int

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """Train on data.

        Parameters
        ----------
        X : array of shape (n, features), or with more axes for a ``model`` that takes them
        y : array of shape (n,) or (n, outputs)
        sample_weight : array of shape (n,), optional
            How much each example counts.

        Returns
        -------
        Regressor
            Itself.
        """
        fresh = not (self.warm_start and self._is_fitted())
        return self._train(X, y, sample_weight, fresh=fresh)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """Go once over data, starting with the weights there are; nothing is set apart of it."""
        return self._train(X, y, sample_weight, fresh=not self._is_fitted(), once=True)

    def _train(
        self, X: Any, y: Any, sample_weight: Any, *, fresh: bool, once: bool = False
    ) -> Regressor:
        x, y = validate_data(self, X, y, reset=fresh, multi_output=True, y_numeric=True, **_INPUTS)
        targets = y.astype(x.dtype).reshape(len(y), -1)
        outputs = targets.shape[1]
        if not fresh and outputs != self.n_outputs_:
            msg = f"Regressor: y had {self.n_outputs_} numbers an example, and has {outputs} now."
            raise DataError(msg)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, x)
        self.n_outputs_, self._flat = outputs, y.ndim == 1
        self._learn(x, targets, weights, outputs=outputs, fresh=fresh, once=once)
        return self

    def predict(self, X: Any) -> Any:
        """Return the numbers of each example, in the shape of those it was trained on."""
        y = self._outputs(X)
        return y[:, 0] if self._flat else y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
