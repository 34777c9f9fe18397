"""A layer of one's own: written forward only, it is differentiated, trained and saved as any other.

The layer is "snake", x + sin^2(a x) / a with a frequency `a` learnt for every feature (Ziyin,
Hartwig and Ueda 2020). A network of it goes on with a periodic function where its data ends; one of
tanh does not.

    python examples/own_layer.py
"""

import os

import numpy as np

import xpnn
from xpnn import initializers, layers, losses, optim

QUICK = bool(os.environ.get("XPNN_QUICK"))  # a few steps, to see that it runs
xpnn.set_seed(0)


class Snake(layers.Layer):
    """x + sin^2(a x) / a, for arrays whose last axis holds the features."""

    # What __init__ takes is the configuration of the layer: it goes into saved files, so it is of
    # kinds that JSON knows.
    def __init__(self, frequency=1.0):
        super().__init__()
        self.frequency = frequency

    # Called once, with the shape of the first input. A Parameter that is an attribute is found by
    # optimizers, by `save`, by `to("cuda")`.
    def build(self, shape):
        self.a = layers.Parameter(initializers.Constant(self.frequency)((shape[-1],)))

    # Any functions of the array-API standard, taken from the namespace of x: so the layer runs on
    # NumPy, CuPy, PyTorch and JAX arrays alike. There is no backward to write.
    def forward(self, x):
        xp = xpnn.array_namespace(x)
        return x + xp.sin(self.a * x) ** 2 / self.a


# Are the gradients right? `functional_call` runs a layer with other arrays in place of its
# parameters, which makes it a function of them; check_grad compares with finite differences.
snake = Snake(2.0)
x, a = np.linspace(-1, 1, 12).reshape(4, 3), np.asarray([0.5, 1.0, 2.0])
snake(x)  # builds it
xpnn.check_grad(lambda x, a: xpnn.functional_call(snake, {"a": a}, x), x, a, order=2)
print("gradients of first and second order agree with finite differences")


def train(make_activation):
    """Return a network fitted to three periods of a sine."""
    model = xpnn.Sequential(
        [
            layers.Dense(64),
            make_activation(),
            layers.Dense(1),
        ]
    )
    steps = 20 if QUICK else 1600
    schedule = optim.schedules.CosineWarmup(0.01, total_steps=steps)
    model.compile(loss="mean_squared_error", optimizer=optim.AdamW(schedule, weight_decay=0.01))
    x = np.linspace(-3 * np.pi, 3 * np.pi, 400, dtype=np.float32)[:, None]
    model.fit(x, np.sin(x), batch_size=100, epochs=steps // 4, verbose=0)
    return model


def error(model, low, high):
    """Return the mean squared error on a stretch of the line."""
    x = np.linspace(low, high, 200, dtype=np.float32)[:, None]
    return float(losses.mean_squared_error(model.predict(x), np.sin(x)))


beyond = {}
for name, make in (("tanh", lambda: layers.Activation("tanh")), ("snake", lambda: Snake(1.0))):
    model = train(make)
    inside = error(model, -3 * np.pi, 3 * np.pi)
    beyond[name] = error(model, 3 * np.pi, 5 * np.pi)
    print(f"{name}: squared error {inside:.4f} where it has seen data, {beyond[name]:.4f} beyond")
assert QUICK or beyond["snake"] < beyond["tanh"] / 2

# The file holds the class's name, its configuration and its parameters.
model.save("snake.safetensors")
again = xpnn.load("snake.safetensors")
assert np.array_equal(again.predict(x[:, :1]), model.predict(x[:, :1]))
again.summary()
