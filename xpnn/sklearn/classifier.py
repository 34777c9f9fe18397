"""Classifier: a model that tells classes, as an estimator of scikit-learn."""

from __future__ import annotations

import functools
from typing import Any

from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, column_or_1d, validate_data

from xpnn import backend, functional, losses
from xpnn.errors import ConfigError, DataError
from xpnn.sklearn.base import _ACTIVATION, _HIDDEN, _INPUTS, Estimator

__all__ = ["Classifier"]

# Of a loss: the activation of the last layer of the network that is made here, and what makes
# probabilities of outputs, if they are none yet.
_LOSSES: dict[Any, tuple[str, Any]] = {
    losses.cross_entropy: ("linear", functional.softmax),
    losses.categorical_cross_entropy: ("softmax", None),
    losses.binary_cross_entropy_with_logits: ("linear", functional.sigmoid),
    losses.binary_cross_entropy: ("sigmoid", None),
}
_ONE_OUTPUT = (losses.binary_cross_entropy_with_logits, losses.binary_cross_entropy)


def _plain(loss: Any) -> Any:
    """Return the function of a loss whose arguments may have been given."""
    return loss.func if isinstance(loss, functools.partial) else loss


def _gives_probabilities(classifier: Any) -> bool:
    loss = _loss_of(classifier.model_) if classifier._is_fitted() else classifier._loss()
    return _plain(loss) in _LOSSES


def _loss_of(model: Any) -> Any:
    """Return the loss of a compiled model, or None if it has one of its own."""
    return model.criterion.parts[0].loss if model.criterion else None


class Classifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A model that tells classes, as an estimator of scikit-learn.

    Parameters
    ----------
    model : None, callable, list of layers or Layer, optional
        None makes dense layers of the sizes ``hidden``. A function of the shape of an example and
        the number of outputs returns a model, as the networks of :mod:`xpnn.zoo` do; one that it
        has compiled keeps its loss and optimizer unless others are given here. Layers or a model
        are taken for their configuration: their weights are not used, nor changed.
    hidden : sequence of int
    activation : str
        Of the hidden layers.
    loss : str, pair or callable, optional
        Default: "cross_entropy". With "binary_cross_entropy_with_logits" and
        "binary_cross_entropy" the model has one output for two classes. Other losses than
        cross-entropies are given labels, and there is no :meth:`predict_proba`.
    optimizer : str, pair or Optimizer, optional
        Default: "adam".
    lr : float or Schedule, optional
        The learning rate, in place of the optimizer's own.
    epochs, batch_size : int
    validation_fraction : float
        How much of the data is set apart, with the same share of every class, and evaluated after
        every epoch.
    patience : int, optional
        After how many epochs without a smaller loss on it training ends; the weights of the best
        epoch are kept.
    callbacks : list of Callback, optional
        Copied for every fit.
    device : str or Device, optional
        Where to compute; xpnn's default device if not given. Data and predictions are NumPy arrays
        all the same.
    dtype : str, optional
        In which dtype to compute. If not given that of ``X``, as everywhere in scikit-learn:
        float64, unless it is float32, which is faster and enough.
    random_state : int, RandomState instance or None
        Of initial weights, shuffles and dropout. None takes a new part of xpnn's own stream, so
        that ``xpnn.set_seed`` decides.
    warm_start : bool
        Whether fit goes on with the weights there are.
    verbose : {0, 1, 2}
        As for :meth:`xpnn.Model.fit`.
    class_weight : dict, "balanced" or None
        The weight of the examples of each class; "balanced" makes all classes weigh the same.

    Attributes
    ----------
    model_ : Model
        What was trained.
    classes_ : array
        The labels, in the order of the columns of :meth:`predict_proba`.
    history_ : History
        Of the last fit.
    n_iter_ : int
        Epochs that the weights have seen.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Notes
    -----
    A pickle holds the configuration and the weights of the model; they are loaded to the default
    device. With all examples in one batch weights of examples are the same as repeating them.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from xpnn import datasets
    >>> from xpnn.sklearn import Classifier
    >>> x, y = datasets.load_digits()
    >>> classifier = Classifier(hidden=(32,), epochs=5, lr=0.01, random_state=0)
    >>> bool(cross_val_score(classifier, x.reshape(len(x), -1), y, cv=2).min() > 0.8)
    True
    """

    default_loss = "cross_entropy"
    classes_: Any

    def __init__(
        self,
        model: Any = None,
        *,
        hidden: Any = _HIDDEN,
        activation: Any = _ACTIVATION,
        loss: Any = None,
        optimizer: Any = None,
        lr: Any = None,
        epochs: int = 100,
        batch_size: int = 64,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        callbacks: Any = None,
        device: Any = None,
        dtype: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            model, hidden=hidden, activation=activation, loss=loss, optimizer=optimizer, lr=lr,
            epochs=epochs, batch_size=batch_size, validation_fraction=validation_fraction,
            patience=patience, callbacks=callbacks, device=device, dtype=dtype,
            random_state=random_state, warm_start=warm_start, verbose=verbose,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Classifier:
        """Train on data.

        Parameters
        ----------
        X : array of shape (n, features), or with more axes for a ``model`` that takes them
        y : array of shape (n,)
            Labels of any kind.
        sample_weight : array of shape (n,), optional
            How much each example counts.

        Returns
        -------
        Classifier
            Itself.

        Raises
        ------
        DataError
            If there are not two classes.
        ConfigError
            If parameters do not belong together, or the model has not an output for each class.
        """
        return self._train(X, y, sample_weight, fresh=not (self.warm_start and self._is_fitted()))

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Classifier:
        """Go once over data, starting with the weights there are; nothing is set apart of it.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        classes : array, optional
            All labels that will come; needed in the first call, unless all are in ``y``.
        """
        if self.class_weight == "balanced":
            msg = (
                "Classifier.partial_fit: class_weight='balanced' needs all the data. Give the"
                " weights as a dict."
            )
            raise ConfigError(msg)
        fresh = not self._is_fitted()
        return self._train(X, y, sample_weight, fresh=fresh, classes=classes, once=True)

    def _train(
        self, X: Any, y: Any, sample_weight: Any, *, fresh: bool, classes: Any = None,
        once: bool = False,
    ) -> Classifier:  # fmt: skip
        x, y = validate_data(self, X, y, reset=fresh, **_INPUTS)
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        encoder = LabelEncoder().fit(y if classes is None else classes)
        if not fresh:
            if classes is not None and list(encoder.classes_) != list(self.classes_):
                msg = f"Classifier: the classes were {self.classes_}, and are now {classes}."
                raise DataError(msg)
            encoder.classes_ = self.classes_
        labels, n = encoder.transform(y), len(encoder.classes_)
        if n < 2:
            msg = f"Classifier: expected two classes or more, got {n} class in y."
            raise DataError(msg)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, x)
        if self.class_weight is not None:
            of_classes = compute_sample_weight(self.class_weight, y)
            weights = of_classes if weights is None else weights * of_classes
        one = _plain(self._loss()) in _ONE_OUTPUT
        if one and n > 2:
            msg = f"Classifier: this loss is of two classes, y has {n}. Take 'cross_entropy'."
            raise ConfigError(msg)
        self.classes_ = encoder.classes_
        targets = labels[:, None].astype(x.dtype) if one else labels
        self._learn(
            x, targets, weights, outputs=1 if one else n, fresh=fresh, strata=labels, once=once
        )
        return self

    def _last(self) -> str:
        return _LOSSES.get(_plain(self._loss()), ("linear", None))[0]

    @available_if(_gives_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class: (n, features) -> (n, classes)."""
        p = self._outputs(X)
        to_probabilities = _LOSSES[_plain(_loss_of(self.model_))][1]
        p = p if to_probabilities is None else to_probabilities(p)
        return p if p.shape[1] > 1 else backend.array_namespace(p).concat([1 - p, p], axis=1)

    def predict(self, X: Any) -> Any:
        """Return the most likely label of each example."""
        likely = self.predict_proba(X) if _gives_probabilities(self) else self._outputs(X)
        return self.classes_[likely.argmax(axis=1)]
