"""A training loop of one's own: what `fit` does, step by step, for when it should do otherwise.

A model with a shortcut, written forward only; AdamW with a learning rate that warms up and falls,
without weight decay for the biases; gradients of several small batches added up, and clipped;
measured on validation data after every epoch; the best weights kept.

    python examples/custom_loop.py
"""

import math
import os

import xpnn
from xpnn import data, datasets, layers, losses, metrics, optim

QUICK = bool(os.environ.get("XPNN_QUICK"))  # a few steps, to see that it runs
EPOCHS, BATCH, ACCUMULATE = 2 if QUICK else 25, 32, 2

xpnn.set_seed(0)
# xpnn.set_device("cuda")  # the one line that moves all of this to an NVIDIA GPU


class Net(xpnn.Model):
    """Three layers with a shortcut around the second."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(96, activation="gelu")
        self.second = layers.Dense(96, activation="gelu")
        self.drop = layers.Dropout(0.2)
        self.out = layers.Dense(10)

    def forward(self, x):
        h = self.first(x)
        return self.out(self.drop(h + self.second(h)))


x, y = datasets.load_digits()
x, x_test, y, y_test = data.split(x.reshape(-1, 64), y, fraction=0.2)
x, x_val, y, y_val = data.split(x, y, fraction=0.1)

# Batches draws a new order in every pass, and moves each batch to the device.
device = xpnn.get_device()
train = data.Batches(x, y, batch_size=BATCH, shuffle=True, device=device)
validation = data.Batches(x_val, y_val, batch_size=256, device=device)
test = data.Batches(x_test, y_test, batch_size=256, device=device)

net = Net()
net(xpnn.to_device(x[:1], device))  # layers know their sizes once they have been called
biases = [p for p in net.parameters() if p.ndim == 1]

steps = EPOCHS * math.ceil(len(train) / ACCUMULATE)
schedule = optim.schedules.CosineWarmup(1e-2, total_steps=steps, warmup_steps=steps // 10)
optimizer = optim.AdamW(schedule, weight_decay=0.05, clip_global_norm=1.0)
optimizer.add_group(biases, weight_decay=0.0)


def measure(batches):
    """Return mean loss and accuracy over batches, without dropout and without a tape."""
    net.eval()
    loss = right = count = 0.0
    with xpnn.no_grad():
        for xb, yb in batches:
            logits = net(xb)
            loss += float(losses.cross_entropy(logits, yb, reduction="sum"))
            right += float(metrics.accuracy(logits, yb)) * yb.shape[0]
            count += yb.shape[0]
    net.train()
    return loss / count, right / count


best, best_weights = math.inf, None
for epoch in range(EPOCHS):
    total = 0.0
    for i, (xb, yb) in enumerate(train, start=1):
        loss = losses.cross_entropy(net(xb), yb, label_smoothing=0.05)
        (loss / ACCUMULATE).backward()  # gradients add up until a step uses them
        total = total + loss.detach()  # stays on the device: reading it would wait
        if i % ACCUMULATE == 0 or i == len(train):
            lr = optimizer.lr
            optimizer.step(net)
    val_loss, val_accuracy = measure(validation)
    if val_loss < best:
        best, best_weights = val_loss, net.state_dict()  # later steps do not change these arrays
    print(
        f"epoch {epoch + 1:2}: lr {lr:.5f}, loss {float(total) / len(train):.4f},"
        f" val_loss {val_loss:.4f}, val_accuracy {val_accuracy:.3f}"
    )

net.load_state_dict(best_weights)
loss, accuracy = measure(test)
print(f"test: loss {loss:.4f}, accuracy {accuracy:.3f}, weights of the best validation loss")
assert QUICK or accuracy > 0.95
