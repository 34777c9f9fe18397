"""A language model of characters: an LSTM learns tiny Shakespeare, and writes some.

It is trained as models of long texts are: the text is cut into `batch` strips that are read
side by side, a window of `window` characters a step. The state is handed on from window to window;
the gradient is not ("truncated backpropagation through time"). Its loss on the last tenth of the
text, which it has not seen, is compared with what counting characters gives.

    python examples/char_lm.py                     # 12 minutes on one core
    python examples/char_lm.py --hidden 512 --layers 2 --dropout 0.4 --epochs 30 --device cuda

On the held-out tenth, in bits per character: frequencies 4.83, frequencies of pairs 3.58, gzip
3.19; this network of 350,000 parameters after 8 epochs 2.170 (1.504 nats). For comparison, the
README of nanoGPT reports 1.88 nats for a transformer after 3 minutes on a laptop, and 1.47 at best
for one of ten million parameters on a GPU, in windows of 64 and 256 characters without a state.
"""

import argparse
import gzip
import math
import os
import time
from pathlib import Path

import numpy as np

import xpnn
from xpnn import activations, datasets, layers, losses, optim, random
from xpnn.data import Vocabulary

QUICK = bool(os.environ.get("XPNN_QUICK"))  # a few steps, to see that it runs

options = argparse.ArgumentParser(description="Learn tiny Shakespeare, character by character.")
options.add_argument("--text", type=Path, help="a file to learn in place of Shakespeare")
options.add_argument("--hidden", type=int, default=256, help="units of each LSTM layer")
options.add_argument("--layers", type=int, default=1)
options.add_argument("--dropout", type=float, default=0.1)
options.add_argument("--epochs", type=int, default=8)
options.add_argument("--batch", type=int, default=32, help="strips read side by side")
options.add_argument("--window", type=int, default=64, help="characters a step")
options.add_argument("--lr", type=float, default=4e-3, help="the highest learning rate")
options.add_argument("--temperature", type=float, default=0.8, help="of the text it writes")
options.add_argument("--device", default="cpu")
options = options.parse_args()

xpnn.set_seed(0)
xpnn.set_device(options.device)


class CharacterModel(xpnn.Model):
    """Logits of the next character after each: (N, T) integers -> (N, T, symbols), and states."""

    def __init__(self, symbols, hidden, num_layers, dropout):
        super().__init__()
        self.embed = layers.Embedding(symbols, 64)
        self.read = layers.LSTM(
            hidden,
            num_layers=num_layers,
            dropout=dropout if num_layers > 1 else 0.0,
            return_state=True,
        )
        self.drop = layers.Dropout(dropout)
        self.out = layers.Dense(symbols)

    def forward(self, ids, state=(None, None)):
        y, *state = self.read(self.embed(ids), *state)
        return self.out(self.drop(y)), state


def strips(ids, batch):
    """Return inputs and targets, the same text one character on: (batch, length) each."""
    length = (len(ids) - 1) // batch
    x, y = ids[: batch * length], ids[1 : batch * length + 1]
    return x.reshape(batch, length), y.reshape(batch, length)


def windows(x, y, size):
    """Yield windows of both, from left to right: each goes on where the last one ended."""
    device = xpnn.get_device()
    for start in range(0, x.shape[1], size):
        part = slice(start, start + size)
        yield xpnn.to_device(x[:, part], device), xpnn.to_device(y[:, part], device)


def bits_per_character(model, ids, batch=8, window=256):
    """Return the mean of -log2 p(next character) over a text read from left to right."""
    model.eval()
    state, total = (None, None), 0.0
    x, y = strips(ids, batch)
    with xpnn.no_grad():
        for xb, yb in windows(x, y, window):
            logits, state = model(xb, state)
            total += float(losses.cross_entropy(logits, yb, reduction="sum"))
    model.train()
    return total / x.size / math.log(2)


def write(model, vocabulary, start, length, temperature):
    """Return a text: draw a character, show it to the model with the state so far, and so on."""
    chosen, state = list(start), (None, None)
    ids = vocabulary.encode(start)[None]
    model.eval()
    with xpnn.no_grad():
        for _ in range(length):
            logits, state = model(xpnn.to_device(ids, xpnn.get_device()), state)
            p = activations.softmax(logits[0, -1, :] / temperature)
            ids = random.Discrete(p).draw((1, 1), device="cpu")
            chosen += vocabulary.decode(ids[0])
    model.train()
    return "".join(chosen)


def baselines(train, test, symbols):
    """Yield what needs no network, in bits per character of the held-out text."""
    single = np.bincount(train, minlength=symbols) + 1.0
    yield "frequencies of characters", -np.log2(single / single.sum())[test].mean()
    pairs = np.ones((symbols, symbols))
    np.add.at(pairs, (train[:-1], train[1:]), 1.0)
    p = pairs / pairs.sum(axis=1, keepdims=True)
    yield "frequencies of pairs", -np.log2(p)[test[:-1], test[1:]].mean()
    packed = gzip.compress(test.astype(np.uint8).tobytes(), 9, mtime=0)
    yield "gzip -9", 8 * len(packed) / len(test)


text = options.text.read_text("utf-8") if options.text else datasets.load_shakespeare()
vocabulary = Vocabulary.of(text)
ids = vocabulary.encode(text)
train, test = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]
if QUICK:
    train, test, options.epochs, options.hidden = train[:10_000], test[:2_000], 1, 32

print(f"{len(text):,} characters, {len(vocabulary)} different ones")
for name, bits in baselines(train, test, len(vocabulary)):
    print(f"{name}: {bits:.3f} bits per character")

model = CharacterModel(len(vocabulary), options.hidden, options.layers, options.dropout)
x, y = strips(train, options.batch)
steps = options.epochs * math.ceil(x.shape[1] / options.window)
schedule = optim.schedules.CosineWarmup(options.lr, total_steps=steps, warmup_steps=steps // 20)
optimizer = optim.Adam(schedule, clip_global_norm=1.0)

began = time.perf_counter()
for epoch in range(options.epochs):
    state, loss_sum, count = (None, None), 0.0, 0
    for xb, yb in windows(x, y, options.window):
        logits, state = model(xb, state)
        loss = losses.cross_entropy(logits, yb)
        loss.backward()
        optimizer.step(model)
        state = [s.detach() for s in state]  # the gradient ends here, what it remembers does not
        loss_sum, count = loss_sum + loss.detach(), count + 1
    held_out = bits_per_character(model, test)
    print(
        f"epoch {epoch + 1}: loss {float(loss_sum) / count:.3f}, held out {held_out:.3f} bits per"
        f" character ({held_out * math.log(2):.4f} nats), {time.perf_counter() - began:.0f} s",
        flush=True,
    )

model.save("char_lm.safetensors")
print(write(model, vocabulary, "\n", 60 if QUICK else 600, options.temperature))
