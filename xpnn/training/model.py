"""Model: a layer that can be trained, evaluated, saved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from xpnn import backend
from xpnn.autograd.transforms import no_grad
from xpnn.backend import unwrap
from xpnn.callbacks import Callback
from xpnn.data import Batches
from xpnn.layers.containers import Chain
from xpnn.training.fitting import held_out, prepared
from xpnn.training.history import History
from xpnn.training.loop import measure, train
from xpnn.training.precision import each_of
from xpnn.training.saving import Saveable
from xpnn.training.summary import Summary, summary
from xpnn.training.trainable import Trainable

__all__ = ["Model", "Sequential"]

Array = Any


class Model(Saveable, Trainable):
    """A layer that can be trained.

    Write ``__init__`` (the layers) and ``forward``; the rest is here.

    Attributes
    ----------
    optimizer : Optimizer or None
        What ``compile`` chose; it may be set to another one.
    history : History or None
        That of the last ``fit``, which sets it.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn import layers, optim
    >>> class Net(xpnn.Model):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = layers.Dense(8, activation="tanh")
    ...         self.out = layers.Dense(1)
    ...     def forward(self, x):
    ...         return self.out(self.hidden(x))
    >>> xpnn.set_seed(0)
    >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> net = Net()
    >>> net.compile(loss="mean_squared_error", optimizer=optim.Adam(0.05))
    >>> history = net.fit(x, x * x, batch_size=16, epochs=60)
    >>> history["loss"][-1] < 0.01
    True
    """

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 32,
        epochs: int = 1,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        validation_steps: int | None = None,
        validate_every: int | None = None,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Any = None,
        accumulate: int = 1,
        prefetch: int | None = None,
        capture: bool = False,
        callbacks: Sequence[Callback] = (),
        resume: str | os.PathLike[str] | None = None,
        verbose: int = 1,
    ) -> History:
        """Train.

        Parameters
        ----------
        x : array, tuple of arrays, iterable or function
            Inputs, examples along the first axis; memory-mapped arrays are read batch by batch. Or,
            without y, an iterable of batches ``(x, y)`` or ``(x, y, weight)``, or a function that
            returns a new one for every epoch. Batches go to the model's device and dtype.
        y : array or tuple of arrays, optional
            Targets; of several outputs a tuple.
        batch_size, epochs : int
        initial_epoch : int
            The number of the first epoch, counted from 0, so that ``epochs - initial_epoch`` are
            done: to go on in the numbering of an earlier call.
        steps_per_epoch : int, optional
            How many batches make an epoch, if not all there are. What is left of the data goes into
            the next epoch; what ends is begun anew.
        validation_split : float
            The fraction at the end of the arrays (before they are shuffled) that is set apart and
            evaluated after every epoch.
        validation_data : (x, y), (x, y, weight), iterable or function, optional
            What is evaluated instead.
        validation_steps : int, optional
            How many batches of it are evaluated, if not all: the first ones each time. Data without
            an end needs it.
        validate_every : int, optional
            After how many steps it is evaluated within epochs too; see ``history.validations``.
        shuffle : bool
            Whether every epoch takes the examples of arrays in another order.
        sample_weight : array of shape (N,), optional
            The loss is the weighted mean over a batch. For sequences (N, T) if the loss has a value
            at each position.
        class_weight : dict, sequence or "balanced", optional
            Weights by label, multiplied with those of the examples.
        accumulate : int
            From how many batches the gradients are gathered for one step: that of one batch of all
            their examples, if the loss is a mean over them, and no layer looks at the whole batch.
        prefetch : int, optional
            How many batches a thread prepares and moves ahead. By default 2 where the model is on
            another device than the host, else none.
        capture : bool
            Whether a step on an NVIDIA GPU is recorded once and then replayed as one launch, which
            small networks gain most from; see :func:`xpnn.capture`. Elsewhere it changes nothing.
        callbacks : sequence of Callback
        resume : path, optional
            A folder in which a :class:`~xpnn.callbacks.Checkpoint` wrote, or one of its files: the
            run goes on from the newest one, or starts if there is none. Model, data and arguments
            must be those of the first run; ``epochs`` may be larger. The hyperparameters of the
            optimizer are those of the checkpoint. It is only read: what writes is the callback.
        verbose : {0, 1, 2}
            Nothing, a progress bar (on a terminal), or a line an epoch.

        Returns
        -------
        History
            The means of every epoch: ``loss``, the metrics, and both with ``val_``. Ctrl-C ends the
            run after the current step, and the history is returned, with ``interrupted`` True; a
            second one acts at once.

        Raises
        ------
        NonFiniteError
            If the loss becomes NaN or infinite; the last good weights are put back.
        DataError
            If there are no examples, or not as many targets, or a checkpoint is damaged.
        ConfigError
            If arguments contradict one another, or the checkpoint is of another run: then model,
            optimizer and random stream are as before.
        FileNotFoundError
            If ``resume`` names a ``.safetensors`` file that is not there.

        Notes
        -----
        To have good weights to put back, a run keeps copies of them, and of what the optimizer
        remembers, every 50 steps: that much memory more, twice as much for a moment.

        It starts without gradients, and leaves none. Weights in batches that lie on a GPU are not
        looked at, as it would have to wait: negative ones are refused elsewhere.

        Examples
        --------
        >>> import numpy as np, xpnn
        >>> model = xpnn.Sequential([xpnn.layers.Dense(1)])
        >>> model.compile("mse", "sgd")
        >>> def batches():
        ...     for i in range(3):
        ...         x = np.full((4, 2), i, "float32")
        ...         yield x, x[:, :1]
        >>> len(model.fit(batches, epochs=2)["loss"])
        2
        """
        self._compiled()
        run = prepared(
            self, x, y,
            batch_size=batch_size, epochs=epochs, initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch, validation_split=validation_split,
            validation_data=validation_data, validation_steps=validation_steps,
            validate_every=validate_every, shuffle=shuffle, sample_weight=sample_weight,
            class_weight=class_weight, accumulate=accumulate, prefetch=prefetch,
            capture=capture, callbacks=callbacks, resume=resume, verbose=verbose,
        )  # fmt: skip
        self.history = run.history
        return train(run)

    def evaluate(
        self, x: Any, y: Any = None, *, sample_weight: Any = None, batch_size: int = 256
    ) -> dict[str, float]:
        """Return loss and metrics on data, in prediction mode.

        Parameters
        ----------
        x, y, sample_weight
            As in :meth:`fit`. Batches must come to an end, as those of ``itertools.islice(x, 100)``
            do.
        batch_size : int

        Examples
        --------
        >>> import numpy as np, xpnn
        >>> model = xpnn.Sequential([xpnn.layers.Dense(2)])
        >>> model.compile("cross_entropy", metrics=["accuracy"])
        >>> sorted(model.evaluate(np.ones((4, 3)), np.zeros(4, int)))
        ['accuracy', 'loss']
        """
        self._compiled()
        data = x if y is None and sample_weight is None else (x, y, sample_weight)
        return measure(self, held_out(self, data, batch_size))

    def predict(self, x: Any, *, batch_size: int = 256) -> Any:
        """Return the outputs for inputs, in prediction mode, on the side where the inputs lie.

        Parameters
        ----------
        x : array or tuple of arrays

        Returns
        -------
        array
            A raw array of the library and on the device of ``x``; a tuple or a dict of such if the
            model has several outputs.
        """
        first = unwrap(x[0] if isinstance(x, tuple) else x)
        home = backend.device_of(first) if hasattr(first, "shape") else backend.as_device("cpu")
        was_training = self.training
        self.eval()
        outputs = []
        try:
            with self._at_home(), no_grad(), self.autocast():
                for (batch,) in Batches(x, batch_size=batch_size, **self._place()):
                    y = self._outputs(batch)
                    outputs.append(each_of(y, lambda part: backend.to_device(unwrap(part), home)))
        finally:
            self.train(was_training)
        if isinstance(outputs[0], dict):
            return {k: home.xp.concat([y[k] for y in outputs], axis=0) for k in outputs[0]}
        if isinstance(outputs[0], tuple):
            return tuple(home.xp.concat(parts, axis=0) for parts in zip(*outputs, strict=True))
        return home.xp.concat(outputs, axis=0)

    def summary(self, x: Any = None, *, input_shape: Any = None) -> Summary:
        """Return a table of the layers, which also is printed unless it is displayed anyway.

        At a prompt or in a notebook the value of a line is displayed: say ``print`` elsewhere.
        The model is left as it was: one that was not built is not, and nothing random is drawn.

        Parameters
        ----------
        x : array or tuple of arrays, optional
            Inputs, of which one example is run through the model; zeros of the shape that it was
            called with if not given. A model that never was called has no output shapes yet.
        input_shape : tuple of ints, or list of such, optional
            The shape of one example instead, such as (28, 28).

        Examples
        --------
        >>> import xpnn
        >>> table = xpnn.Sequential([xpnn.layers.Dense(2)]).summary(input_shape=(3,))
        layer       output  parameters  memory  dtype    device
        Sequential  (N, 2)
          0 Dense   (N, 2)           8    32 B  float32  cpu
        8 parameters (8 trainable, 0 frozen), on cpu
        memory: parameters 32 B, gradients 32 B, outputs of the layers 8 B for one example
        """
        return summary(self, x, input_shape)


class Sequential(Chain, Model):
    """Layers one after another, as a model that can be trained.

    Parameters
    ----------
    layers : iterable of Layer

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import layers
    >>> model = xpnn.Sequential([layers.Dense(500, activation="relu"), layers.Dense(10)])
    """
