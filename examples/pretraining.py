"""A deep belief network: pre-trained layer by layer without labels, then trained on 100 labels."""

import xpnn
from xpnn import data, datasets, layers, optim

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


def pretrain(model, x, epochs=30):
    """Train each layer on what the layers below make of x."""
    for layer in model:
        if isinstance(layer, layers.Unsupervised):
            optimizer = optim.SGD(0.1)
            for _ in range(epochs):
                for (batch,) in data.Batches(x, batch_size=20, shuffle=True):
                    layer.loss(batch).backward()
                    optimizer.step(layer)
            print(f"{layer}: pseudo-likelihood {float(layer.pseudo_likelihood(x)):.1f}")
            with xpnn.no_grad():
                x = layer(x).data
    return model


for name, model in (("from random", network()), ("pre-trained", pretrain(network(), x))):
    model.compile(loss="cross_entropy", optimizer=optim.Adam(3e-3), metrics=["accuracy"])
    model.fit(few, labels, batch_size=20, epochs=60)
    print(f"{name}: accuracy {model.evaluate(x_test, y_test)['accuracy']:.3f} with 100 labels")
