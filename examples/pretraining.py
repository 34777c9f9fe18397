"""A deep belief network: pre-trained layer by layer without labels, then trained on 100 labels.

python examples/pretraining.py    # 11 seconds
"""

import os

import xpnn
from xpnn import data, datasets, layers, optim

QUICK = bool(os.environ.get("XPNN_QUICK"))  # a few steps, to see that it runs
xpnn.set_seed(0)

x, y = datasets.load_digits()
x, x_test, y, y_test = data.split(x.reshape(-1, 64), y, fraction=0.3)
few, labels = x[:100], y[:100]


def network():
    """Return two machines and a classifier."""
    return xpnn.Sequential(
        [
            layers.RBM(128, weight_init="glorot_uniform"),
            layers.RBM(64, weight_init="glorot_uniform"),
            layers.Dense(10, weight_init="zeros"),
        ]
    )


pretrained = network()
for name, history in xpnn.pretrain(pretrained, x, epochs=2 if QUICK else 30, lr=0.1).items():
    first, *_, last = history["pseudo_likelihood"]
    print(f"layer {name}: pseudo-likelihood {first:.1f}, then {last:.1f}")

for name, model in (("from random", network()), ("pre-trained", pretrained)):
    model.compile(loss="cross_entropy", optimizer=optim.Adam(3e-3), metrics=["accuracy"])
    model.fit(few, labels, batch_size=20, epochs=2 if QUICK else 60)
    print(f"{name}: accuracy {model.evaluate(x_test, y_test)['accuracy']:.3f} with 100 labels")
