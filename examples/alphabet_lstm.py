"""Learn the alphabet: from two letters the third, with two layers of LSTM, and say it from "AB".

python examples/alphabet_lstm.py    # 3 seconds
"""

import os
import string
import sys

import numpy as np

import xpnn
from xpnn import layers, optim

QUICK = bool(os.environ.get("XPNN_QUICK"))  # a few steps, to see that it runs
xpnn.set_seed(0)
letters = string.ascii_uppercase
one_hot = np.eye(26, dtype=np.float32)

pairs = np.asarray([[i, i + 1] for i in range(24)])
x, y = one_hot[pairs], np.arange(2, 26)  # (24, 2, 26): A B -> C, B C -> D, ...

model = xpnn.Sequential(
    [
        layers.LSTM(16, num_layers=2, return_sequences=False),
        layers.Dense(26),
    ]
)
model.compile(loss="cross_entropy", optimizer=optim.Adam(0.01), metrics=["accuracy"])
model.fit(x, y, batch_size=8, epochs=2 if QUICK else 200, verbose=0)
print(model.evaluate(x, y))

text = letters[:2]
while len(text) < 26:
    window = one_hot[[letters.index(letter) for letter in text[-2:]]]
    text += letters[int(model.predict(window[None]).argmax())]
print(text)
if not QUICK and text != letters:
    sys.exit("that is not the alphabet")
