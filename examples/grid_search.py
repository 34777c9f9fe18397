"""Search for hyperparameters: a grid, then settings at random; the best model is kept.

python examples/grid_search.py    # 5 seconds
"""

import os

import xpnn
from xpnn import datasets, layers, optim
from xpnn.data import split
from xpnn.search import GridSearch, Hyperparameters, Integers, LogUniform, RandomSearch

QUICK = bool(os.environ.get("XPNN_QUICK"))  # a few steps, to see that it runs
EPOCHS = 1 if QUICK else 4

xpnn.set_seed(0)
x, y = datasets.load_digits()
x, x_test, y, y_test = split(x, y, fraction=0.2)


def build(hp):
    """Return a compiled model of a setting."""
    model = xpnn.Sequential(
        [
            layers.Flatten(),
            layers.Dense(hp.hidden, activation=hp.activation),
            layers.Dense(10),
        ]
    )
    model.compile("cross_entropy", optim.Adam(hp.lr), metrics=["accuracy"])
    return model


# Every setting of a grid. What is called as an argument of fit, batch_size here, is given to it.
grid = Hyperparameters(lr=[0.01, 0.001], hidden=[16, 64], activation="relu", batch_size=[32, 128])
search = GridSearch(build, grid, monitor="val_accuracy")  # n_jobs=2 for two processes
results = search.fit(x, y, validation_split=0.2, epochs=EPOCHS)
print(results)

# At random, from ranges. With path="folder" a search that was ended goes on where it was.
space = Hyperparameters(
    lr=LogUniform(1e-4, 1e-1),
    hidden=Integers(8, 128, log=True),
    activation=["relu", "tanh"],
)
search = RandomSearch(build, space, n=8, monitor="val_accuracy", keep_model=True)
results = search.fit(x, y, validation_split=0.2, epochs=EPOCHS)
print(results)  # results.to_csv("search.csv") writes it to a file
print("best:", results.best.setting)
print("on test data:", results.best_model.evaluate(x_test, y_test))
