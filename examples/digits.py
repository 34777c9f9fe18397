"""Train on the embedded digits, save, load, predict.

python examples/digits.py    # 3 seconds
"""

import xpnn
from xpnn import datasets, layers, optim
from xpnn.data import split

xpnn.set_seed(0)
# xpnn.set_device("cuda")  # the one line that moves all of this to an NVIDIA GPU

x, y = datasets.load_digits()
x, x_test, y, y_test = split(x, y, fraction=0.2)

model = xpnn.Sequential(
    [
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(10),
    ]
)
model.compile(loss="cross_entropy", optimizer=optim.Adam(1e-3), metrics=["accuracy"])
model.fit(x, y, batch_size=32, epochs=20, validation_data=(x_test, y_test))
model.summary()
print(model.evaluate(x_test, y_test))

model.save("digits.safetensors")
again = xpnn.load("digits.safetensors")
print("first digits:", again.predict(x_test[:10]).argmax(-1), "truth:", y_test[:10])
