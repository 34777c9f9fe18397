"""A gradient inside a loss: a Wasserstein GAN with gradient penalty learns to draw a ring.

The critic is held to slopes of 1: its loss contains the gradient of its output by its input, and is
differentiated once more, by its weights. xpnn.zoo.WassersteinGAN does the same for images.

    python examples/gradient_penalty.py    # 7 seconds
"""

import math
import os

import numpy as np

import xpnn
from xpnn import layers, ops, optim
from xpnn.optim.schedules import CosineWarmup

QUICK = bool(os.environ.get("XPNN_QUICK"))  # a few steps, to see that it runs
STEPS = 20 if QUICK else 1000  # of the critic, two for one of the generator
xpnn.set_seed(0)
rng = xpnn.get_rng()


def real(n):
    """Draw points of a ring of radius 1, 0.05 thick."""
    angle = 2 * math.pi * rng.uniform(n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.05 * rng.normal((n, 2))


def network(outputs):
    """Two hidden layers."""
    hidden = [layers.Dense(64, activation="relu", weight_init="he_uniform") for _ in range(2)]
    return xpnn.Sequential([*hidden, layers.Dense(outputs)])


def slopes(x):
    """Return the norm of the critic's gradient at each point, itself on the tape."""
    gradient = xpnn.grad(lambda x: ops.sum(critic(x)))(x)
    return ops.sqrt(ops.sum(gradient**2, axis=1) + 1e-12)


def describe(points):
    """Return how far points are from the ring, and the smallest share of an eighth of it."""
    away = np.abs(np.linalg.norm(points, axis=1) - 1).mean()
    eighth = np.floor(np.arctan2(points[:, 1], points[:, 0]) / (math.pi / 4)).astype(int)
    return float(away), float(np.bincount(eighth % 8, minlength=8).min() / len(points))


def samples(n):
    """Return what the generator makes of random codes, off the tape."""
    with xpnn.no_grad():
        return generator(rng.normal((n, 2))).data


generator, critic = network(2), network(1)
of_generator, of_critic = (  # at a rate that stays, the two would go on chasing each other
    optim.Adam(CosineWarmup(5e-3, steps), beta1=0.0, beta2=0.9) for steps in (STEPS // 2, STEPS)
)
before, _ = describe(samples(1000))

for step in range(1, STEPS + 1):
    x, fake = real(128), samples(128)
    share = rng.uniform((128, 1))
    penalty = ops.mean((slopes(share * x + (1 - share) * fake) - 1) ** 2)
    distance = ops.mean(critic(x)) - ops.mean(critic(fake))
    (penalty - distance).backward()
    of_critic.step(critic)
    if step % 2 == 0:
        (-ops.mean(critic(generator(rng.normal((128, 2)))))).backward()
        of_generator.step(generator)
        critic.zero_grad()  # the loss of the generator went through it
    if step % 200 == 0:
        away, least = describe(samples(1000))
        print(f"step {step}: distance {float(distance):.3f}; samples {away:.3f} from the ring")

away, least = describe(samples(1000))
print(f"samples are {away:.3f} from the ring, at first {before:.3f}; data are 0.040")
print(f"an eighth of the ring has {100 * least:.0f} % of them or more")
assert QUICK or (away < 0.08 and least > 0.05)
