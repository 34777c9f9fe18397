"""A model and a training loop of one's own, without fit."""

import numpy as np

import xpnn
from xpnn import data, layers, losses, optim

xpnn.set_seed(0)


class Net(xpnn.Model):
    """Two layers with a shortcut around the second."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(32, activation="tanh")
        self.second = layers.Dense(32, activation="tanh")
        self.out = layers.Dense(1)

    def forward(self, x):
        """Written forward only; the gradient comes from the tape."""
        h = self.first(x)
        return self.out(h + self.second(h))


x = np.linspace(-3, 3, 512, dtype="float32")[:, None]
y = np.sin(x)

net, optimizer = Net(), optim.Adam(1e-2)
for epoch in range(40):
    for xb, yb in data.Batches(x, y, batch_size=64, shuffle=True):
        loss = losses.mean_squared_error(net(xb), yb)
        loss.backward()
        optimizer.step(net)  # uses up the gradients
    if (epoch + 1) % 10 == 0:
        print(f"epoch {epoch + 1}: loss {float(loss):.5f}")

with xpnn.no_grad():
    error = float(losses.mean_squared_error(net.eval()(x), y))
print(f"mean squared error {error:.5f}")
assert error < 0.01
