"""Losses, by one table, against finite differences and torch."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, double, make, on

import xpnn
from xpnn import functional as F
from xpnn import losses, ops
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DataError, DTypeError, ShapeError

LABELS = np.asarray([0, 3, 1, 3, 2])
ONE_HOT = np.eye(4)[LABELS]
SOFT = np.asarray([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])[[0, 1, 1, 0, 1]]
SIGNS = np.asarray([[1, -1, 1, 1], [-1, -1, 1, -1]])[[0, 1, 1, 0, 1]]
WEIGHTS = np.asarray([0.5, 2.0, 1.0, 3.0])
ONES = np.ones((2, 3))
Torch = Any


def reduce(torch: Torch, values: Any, reduction: str) -> Any:
    return values if reduction == "none" else getattr(torch, reduction)(values)


def hinge_of_classes(t: Torch, x: Any, y: Any, r: str) -> Any:
    others = x.masked_fill(t.nn.functional.one_hot(y, x.shape[-1]).bool(), -t.inf)
    margin = 1 + others.max(-1).values - x.gather(-1, y[..., None])[..., 0]
    return reduce(t, margin.clamp(min=0), r)


def of_the_elbo(t: Torch, x: Any, y: Any, r: str, likelihood: str) -> Any:
    d = t.distributions
    mean, log_variance = x[:, :2], x[:, 2:]
    of_x = {
        "bernoulli": lambda z: d.Bernoulli(probs=t.sigmoid(z)),
        "bernoulli_logits": lambda z: d.Bernoulli(logits=z),
        "gaussian": lambda z: d.Normal(z, 0.5**0.5),
    }[likelihood](x)
    posterior = d.Normal(mean, (0.5 * log_variance).exp())
    divergence = d.kl_divergence(posterior, d.Normal(t.zeros_like(mean), t.ones_like(mean)))
    return reduce(t, divergence.sum(1) - of_x.log_prob(y).sum(1), r)


def elbo(x: Any, y: Any, r: str, likelihood: str) -> Any:
    mean, log_variance = x[:, :2], x[:, 2:]
    reconstruction = F.sigmoid(x) if likelihood == "bernoulli" else x
    predictions = (reconstruction, mean, log_variance)
    return losses.vae_elbo(predictions, y, likelihood=likelihood, variance=0.5, reduction=r)


@dataclass
class Case:
    """A loss and what torch says of it.

    ``both`` says whether targets have gradients too, ``kind`` what predictions are made of.
    """

    name: str
    loss: Any
    targets: Any
    torch: Any
    shape: tuple[int, ...] = (5, 4)
    kind: str = "normal"
    both: bool = False

    def __str__(self) -> str:
        return self.name

    def arguments(self, device: str = "cpu", dtype: str = "float64") -> list[Any]:
        x = make(self.shape, dtype="float64")
        if self.kind == "probabilities":
            x = 1 / (1 + np.exp(-x))
        targets = self.targets
        if targets.dtype.kind == "f":
            targets = targets.astype(dtype)
        return [on(device, x.astype(dtype)), on(device, targets)]


def functional(name: str, **options: Any) -> Any:
    return lambda t, x, y, r: getattr(t.nn.functional, name)(x, y, reduction=r, **options)


CASES = [
    Case("cross_entropy labels", losses.cross_entropy, LABELS, functional("cross_entropy")),
    Case(
        "cross_entropy labels of sequences",
        losses.cross_entropy,
        LABELS[[[0, 1, 2], [3, 4, 0]]],
        lambda t, x, y, r: t.nn.functional.cross_entropy(x.movedim(-1, 1), y, reduction=r),
        shape=(2, 3, 4),
    ),
    Case("cross_entropy one-hot", losses.cross_entropy, ONE_HOT, functional("cross_entropy")),
    Case("cross_entropy soft", losses.cross_entropy, SOFT, functional("cross_entropy"), both=True),
    Case(
        "categorical_cross_entropy labels",
        losses.categorical_cross_entropy,
        LABELS,
        lambda t, x, y, r: t.nn.functional.nll_loss(x.log(), y, reduction=r),
        kind="probabilities",
    ),
    Case(
        "categorical_cross_entropy soft",
        losses.categorical_cross_entropy,
        SOFT,
        lambda t, x, y, r: reduce(t, -(y * x.log()).sum(-1), r),
        kind="probabilities",
        both=True,
    ),
    Case(
        "binary_cross_entropy",
        losses.binary_cross_entropy,
        SOFT,
        functional("binary_cross_entropy"),
        kind="probabilities",
    ),
    Case(
        "binary_cross_entropy and its targets",
        losses.binary_cross_entropy,
        SOFT,
        lambda t, x, y, r: reduce(t, -y * x.log() - (1 - y) * (1 - x).log(), r),
        kind="probabilities",
        both=True,
    ),
    Case(
        "binary_cross_entropy_with_logits",
        losses.binary_cross_entropy_with_logits,
        SOFT,
        functional("binary_cross_entropy_with_logits"),
        both=True,
    ),
    Case(
        "binary_cross_entropy_with_logits pos_weight",
        functools.partial(losses.binary_cross_entropy_with_logits, pos_weight=list(WEIGHTS)),
        SOFT,
        lambda t, x, y, r: t.nn.functional.binary_cross_entropy_with_logits(
            x, y, pos_weight=t.tensor(WEIGHTS, dtype=x.dtype), reduction=r
        ),
        both=True,
    ),
    Case(
        "binary_hinge",
        losses.binary_hinge,
        SIGNS,
        lambda t, x, y, r: reduce(t, (1 - y * x).clamp(min=0), r),
    ),
    Case("categorical_hinge labels", losses.categorical_hinge, LABELS, hinge_of_classes),
    Case(
        "categorical_hinge one-hot",
        losses.categorical_hinge,
        ONE_HOT,
        lambda t, x, y, r: hinge_of_classes(t, x, y.argmax(-1), r),
    ),
    Case(
        "categorical_hinge labels of sequences",
        losses.categorical_hinge,
        LABELS[[[0, 1, 2], [3, 4, 0]]],
        hinge_of_classes,
        shape=(2, 3, 4),
    ),
    Case(
        "kl_divergence",
        losses.kl_divergence,
        SOFT,
        lambda t, x, y, r: reduce(
            t, t.nn.functional.kl_div(x.log(), y, reduction="none").sum(-1), r
        ),
        kind="probabilities",
        both=True,
    ),
    Case(
        "hellinger",
        losses.hellinger,
        SOFT,
        lambda t, x, y, r: reduce(t, (x.sqrt() - y.sqrt()).norm(dim=-1) / 2**0.5, r),
        kind="probabilities",
        both=True,
    ),
    Case("mean_squared_error", losses.mean_squared_error, SOFT, functional("mse_loss"), both=True),
    Case(
        "mean_squared_error (N,)",
        losses.mean_squared_error,
        SOFT[0],
        functional("mse_loss"),
        shape=(4,),
    ),
    Case(
        "root_mean_squared_error",
        losses.root_mean_squared_error,
        SOFT,
        lambda t, x, y, r: t.nn.functional.mse_loss(x, y, reduction=r).sqrt(),
        both=True,
    ),
    Case("mean_absolute_error", losses.mean_absolute_error, SOFT, functional("l1_loss"), both=True),
    Case(
        "huber",
        functools.partial(losses.huber, delta=0.7),
        SOFT,
        functional("huber_loss", delta=0.7),
        both=True,
    ),
    Case(
        "cosine",
        losses.cosine,
        SOFT,
        lambda t, x, y, r: t.nn.functional.cosine_embedding_loss(
            x, y, t.ones(5, dtype=x.dtype), reduction=r
        ),
        both=True,
    ),
    Case(
        "cosine of sequences",
        losses.cosine,
        SOFT.reshape(5, 2, 2),
        lambda t, x, y, r: reduce(t, 1 - t.nn.functional.cosine_similarity(x, y, dim=-1), r),
        shape=(5, 2, 2),
        both=True,
    ),
    *(
        Case(
            f"vae_elbo {likelihood}",
            lambda x, y, reduction, k=likelihood: elbo(x, y, reduction, k),
            ONE_HOT,
            lambda t, x, y, r, k=likelihood: of_the_elbo(t, x, y, r, k),
        )
        for likelihood in ("bernoulli", "bernoulli_logits", "gaussian")
    ),
]
# JAX compiles every operation: a few of the fused ones
FOR_JAX = ("cross_entropy soft", "binary_cross_entropy_with_logits", "hellinger")
every_case = pytest.mark.parametrize("case", CASES, ids=str)


@every_case
def test_losses_have_the_gradients_of_finite_differences_to_second_order(case: Case) -> None:
    x, y = case.arguments()
    both = [x, y] if case.both else [x]
    for reduction in ("mean", "none"):
        xpnn.check_grad(
            lambda x, *t, r=reduction: case.loss(x, *(t or [y]), reduction=r), *both, order=2
        )


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@every_case
def test_losses_and_their_gradients_are_those_of_torch(
    case: Case, reduction: str, dtype: str, tolerance: float
) -> None:
    torch = pytest.importorskip("torch")
    x, y = case.arguments(dtype=dtype)
    both = [x, y] if case.both else [x]
    mine, pullback = xpnn.vjp(lambda x, *t: case.loss(x, *(t or [y]), reduction=reduction), *both)
    tx, ty = torch.tensor(x, requires_grad=True), torch.tensor(y, requires_grad=case.both)
    theirs = case.torch(torch, tx, ty, reduction)
    assert_close(mine, theirs.detach().numpy(), rtol=tolerance, atol=tolerance)
    g = make(tuple(mine.shape), dtype=dtype, seed=3)
    theirs.backward(torch.from_numpy(np.asarray(g)))
    found = pullback(g)
    for a, b in zip(found if case.both else (found,), (tx, ty), strict=False):
        assert_close(a, b.grad.numpy(), rtol=tolerance, atol=tolerance)


@every_case
def test_losses_run_on_every_device_and_keep_the_dtype(case: Case, device: Any) -> None:
    here = case.loss(*case.arguments(dtype="float32"), reduction="mean")
    for dtype in {"float32", double(device)}:
        x, y = case.arguments(device, dtype)
        tensor = xpnn.Tensor(x, requires_grad=True)
        taped = case.loss(tensor, y, reduction="mean")
        taped.backward()
        for value in (case.loss(x, y, reduction="mean"), taped):
            np.testing.assert_allclose(to_numpy(value), here, rtol=2e-5)
        assert taped.dtype == dtype
        assert tensor.grad is not None
        assert tensor.grad.device == device
        assert tensor.grad.dtype == dtype


@pytest.mark.oracle
@every_case
def test_torch_differentiates_the_same_formulas(case: Case) -> None:
    torch = pytest.importorskip("torch")
    x, y = case.arguments()
    ours = xpnn.grad(lambda x: case.loss(x, y, reduction="sum"))(x)
    t, ty = case.arguments("torch:cpu")
    value = case.loss(t.requires_grad_(), ty, reduction="sum")
    assert isinstance(value, torch.Tensor)
    value.backward()
    assert_close(ours, t.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("case", [c for c in CASES if c.name in FOR_JAX], ids=str)
def test_jax_differentiates_the_same_formulas(case: Case) -> None:
    jax = pytest.importorskip("jax")
    x, y = case.arguments()
    ours = xpnn.grad(lambda x: case.loss(x, y, reduction="sum"))(x)
    j, jy = case.arguments("jax:cpu", "float32")
    theirs = jax.grad(lambda j: case.loss(j, jy, reduction="sum"))(j)
    np.testing.assert_allclose(ours, to_numpy(theirs), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------- cross-entropy with its options

OPTIONS = [
    {"class_weights": w, "ignore_index": i, "label_smoothing": s}
    for w, i, s in itertools.product((None, WEIGHTS), (None, 3, -100), (0.0, 0.3))
]


def torch_options(torch: Torch, options: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """Return options of cross_entropy as PyTorch names them, which always ignores one label."""
    weights, ignored = options["class_weights"], options["ignore_index"]
    return {
        "weight": None if weights is None else torch.tensor(weights, dtype=dtype),
        "ignore_index": -7 if ignored is None else ignored,
        "label_smoothing": options["label_smoothing"],
    }


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_options_of_cross_entropy_mean_what_they_mean_in_torch(
    reduction: str, dtype: str, tolerance: float
) -> None:
    torch = pytest.importorskip("torch")
    compared = 0
    for options, kind in itertools.product(OPTIONS, ("labels", "sequences", "rows")):
        ignored = options["ignore_index"]
        if kind == "rows" and ignored is not None:
            continue
        shape = (2, 3, 4) if kind == "sequences" else (5, 4)
        x = make(shape, dtype=dtype)
        y = {"labels": LABELS, "sequences": LABELS[[[0, 1, 2], [3, 4, 0]]], "rows": SOFT}[kind]
        if ignored == -100:
            y = np.where(y == 1, -100, y)
        y = y.astype(dtype) if kind == "rows" else y
        mine, pullback = xpnn.vjp(
            lambda x, y=y, o=options: losses.cross_entropy(x, y, reduction=reduction, **o), x
        )
        t = torch.tensor(x, requires_grad=True)
        theirs = torch.nn.functional.cross_entropy(
            t.movedim(-1, 1), torch.tensor(y), reduction=reduction,
            **torch_options(torch, options, t.dtype),
        )  # fmt: skip
        assert_close(mine, theirs.detach().numpy(), rtol=tolerance, atol=tolerance)
        g = make(tuple(mine.shape), dtype=dtype, seed=3)
        theirs.backward(torch.from_numpy(np.asarray(g)))
        assert_close(pullback(g), t.grad.numpy(), rtol=tolerance, atol=tolerance)
        compared += 1
    assert compared == 12 + 12 + 4


@pytest.mark.parametrize("options", OPTIONS[1::2], ids=str)
def test_smoothed_cross_entropy_has_second_derivatives_and_runs_on_every_device(
    options: dict[str, Any], device: Any
) -> None:
    x = make((5, 4), dtype="float64")
    xpnn.check_grad(lambda x: losses.cross_entropy(x, LABELS, **options), x, order=2)
    expected = losses.cross_entropy(x.astype("float32"), LABELS, **options)
    tensor = xpnn.Tensor(make((5, 4), device), requires_grad=True)
    options = {**options}
    if options["class_weights"] is not None:
        options["class_weights"] = tuple(WEIGHTS)
    found = losses.cross_entropy(tensor, on(device, LABELS), **options)
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-5)
    assert found.dtype == "float32"
    found.backward()
    assert tensor.grad is not None
    assert tensor.grad.device == device


def test_the_kernel_of_cross_entropy_equals_its_standard_twin(monkeypatch: Any) -> None:
    from xpnn.primitives.losses import softmax_cross_entropy

    labels = LABELS[[[0, 1, 2], [3, 4, 0]]]
    layouts = [make((2, 3, 4)), np.asfortranarray(make((2, 3, 4))), make((4, 3, 2)).T]

    def results(x: Any, smoothing: float) -> Any:
        def f(x: Any) -> Any:
            return losses.cross_entropy(x, labels, label_smoothing=smoothing, reduction="none")

        y, pullback = xpnn.vjp(f, x)
        return y, pullback(make((2, 3), seed=5))

    cases = list(itertools.product(layouts, (0.0, 0.2)))
    by_kernel = [results(*case) for case in cases]
    xp = xpnn.array_namespace(layouts[0])
    assert softmax_cross_entropy.on(xp) is not softmax_cross_entropy
    monkeypatch.setitem(softmax_cross_entropy.overlays, xp, softmax_cross_entropy)
    for case, kernel in zip(cases, by_kernel, strict=True):
        for a, b in zip(kernel, results(*case), strict=True):
            assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_of_cross_entropy_has_no_subnormal_number(dtype: str, reduction: str) -> None:
    """A product with some, as a network has that is sure of itself, takes 50 times as long."""
    tiny = np.finfo(dtype).tiny
    steps = np.linspace(0, -1.5 * np.log(tiny), 400, dtype=dtype)
    x = xpnn.Tensor(np.stack([steps, steps[::-1]]), requires_grad=True)
    loss = losses.cross_entropy(x, np.asarray([399, 7]), reduction=reduction)
    upstream = np.asarray(0.3 if reduction == "mean" else [1e-9, -2.0], dtype)
    loss.backward(xpnn.Tensor(upstream))
    found = to_numpy(x.grad)
    assert not np.any((found != 0) & (np.abs(found) < tiny))
    wide = np.stack([steps, steps[::-1]]).astype(np.longdouble)
    likely = np.exp(wide - wide.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    targets = np.zeros_like(likely)
    targets[[0, 1], [399, 7]] = 1
    factor = 0.15 if reduction == "mean" else upstream[:, None]
    rounding = 2 * np.finfo(dtype).eps * (steps[-1] * likely + targets)
    assert np.all(np.abs(found - (likely - targets) * factor) <= tiny + rounding * np.abs(factor))


def test_cross_entropy_survives_huge_logits_and_forbidden_classes() -> None:
    x = xpnn.Tensor(np.asarray([[1e4, -1e4], [-1e4, 1e4]], np.float32), requires_grad=True)
    loss = losses.cross_entropy(x, np.asarray([0, 0]))
    loss.backward()
    assert float(loss) == pytest.approx(1e4)
    np.testing.assert_allclose(to_numpy(x.grad), [[0, 0], [-0.5, 0.5]])
    near = np.asarray([[1e5, 1e5 + 0.125]], np.float32)  # neighbours far from zero
    exact = np.log1p(np.exp(0.125))
    assert float(losses.cross_entropy(near, np.asarray([0]))) == pytest.approx(exact, rel=1e-6)
    x = xpnn.Tensor(np.asarray([[0.0, -np.inf, 0.0]]), requires_grad=True)
    for targets in (np.asarray([0]), np.asarray([[1.0, 0.0, 0.0]])):
        x.grad = None
        loss = losses.cross_entropy(x, targets)
        loss.backward()
        assert float(loss) == pytest.approx(np.log(2))
        np.testing.assert_allclose(to_numpy(x.grad), [[-0.5, 0, 0.5]])


def test_cross_entropy_takes_labels_of_any_integer_dtype_and_rank() -> None:
    x = make((2, 3, 4))
    labels = np.asarray([[0, 1, 2], [3, 3, 0]])
    expected = losses.cross_entropy(x, labels)
    for dtype in ("int8", "uint8", "int32", "uint16"):
        assert_close(losses.cross_entropy(x, labels.astype(dtype)), expected)
        assert_close(losses.cross_entropy(x, labels.astype(dtype), ignore_index=-100), expected)


def test_a_mean_over_no_example_is_nan() -> None:
    x = xpnn.Tensor(make((2, 4)), requires_grad=True)
    ignored = np.asarray([-100, -100])
    assert np.isnan(float(losses.cross_entropy(x, ignored, ignore_index=-100)))
    total = losses.cross_entropy(x, ignored, ignore_index=-100, reduction="sum")
    total.backward()
    assert float(total) == 0
    assert not to_numpy(x.grad).any()


def test_where_a_look_would_wait_a_bad_label_has_a_loss_of_nan(monkeypatch: Any) -> None:
    from xpnn.losses import _common

    monkeypatch.setattr(_common, "on_host", lambda x: False)
    labels = np.asarray([1, 4, -1, -100, 0])
    for f, options in (
        (losses.cross_entropy, {"ignore_index": -100}),
        (losses.cross_entropy, {"ignore_index": -100, "class_weights": WEIGHTS}),
        (losses.categorical_cross_entropy, {}),
        (losses.categorical_hinge, {}),
    ):
        x = xpnn.Tensor(make((5, 4), kind="uniform"), requires_grad=True)
        values = f(x, labels, reduction="none", **options)
        bad = [1, 2] if options else [1, 2, 3]
        assert np.flatnonzero(np.isnan(to_numpy(values))).tolist() == bad
        assert np.isnan(float(f(x, labels, **options)))
        good = losses.get(f)(x.data[[0, 4]], labels[[0, 4]], reduction="none", **options)
        np.testing.assert_allclose(to_numpy(values)[[0, 4]], good, rtol=1e-6)


# ---------------------------------------------------------------- at the ends of probabilities


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_of_0_and_1_have_exact_losses_and_finite_gradients(
    dtype: str, device: Any
) -> None:
    if double(device) != dtype == "float64":
        pytest.skip("no float64")
    p, t = (np.asarray(v, dtype) for v in ([0, 0, 1, 1], [0, 1, 0, 1]))
    x = xpnn.Tensor(on(device, p), requires_grad=True)
    values = losses.binary_cross_entropy(x, on(device, t), reduction="none")
    assert to_numpy(values).tolist() == [0, 100, 100, 0]
    ops.sum(values).backward()
    assert_close(x.grad, np.asarray([1, -1e12, 1e12, -1], dtype), rtol=1e-6)

    rows, targets = np.stack([1 - p, p], 1), np.stack([1 - t, t], 1)
    for f, ends in (
        (losses.categorical_cross_entropy, [0, 100, 100, 0]),
        (losses.kl_divergence, [0, 100, 100, 0]),
        (losses.hellinger, [0, 1, 1, 0]),
    ):
        x = xpnn.Tensor(on(device, rows), requires_grad=True)
        y = xpnn.Tensor(on(device, targets), requires_grad=True)
        values = f(x, y, reduction="none")
        np.testing.assert_allclose(to_numpy(values), ends, rtol=1e-6)
        ops.sum(values).backward()
        gradient = to_numpy(x.grad)
        assert np.isfinite(gradient).all()
        assert np.isfinite(to_numpy(y.grad)).all()
        # towards the target: up where it says 1 and there is 0, down the other way round
        assert (gradient[1:3][targets[1:3] == 1] < -0.1).all()
        assert (gradient[1:3][targets[1:3] == 0] >= 0).all()
    assert not gradient[[0, 3]].any()  # of a distance of 0


@pytest.mark.libraries
def test_the_torch_value_at_the_ends_is_ours() -> None:
    torch = pytest.importorskip("torch")
    p, t = np.asarray([0, 0, 1, 1, 0.3], "f"), np.asarray([0, 1, 0, 1, 1], "f")
    theirs = torch.nn.functional.binary_cross_entropy(
        torch.tensor(p), torch.tensor(t), reduction="none"
    )
    assert_close(losses.binary_cross_entropy(p, t, reduction="none"), theirs.numpy())


def test_small_probabilities_keep_their_precision() -> None:
    p = np.asarray([1e-30, 1e-6, 1e-3], "f")
    zeros = losses.binary_cross_entropy(p, np.zeros(3, "f"), reduction="none")
    np.testing.assert_allclose(zeros, -np.log1p(-p.astype("float64")), rtol=1e-6)
    ones = losses.binary_cross_entropy(p, np.ones(3, "f"), reduction="none")
    np.testing.assert_allclose(ones, -np.log(p.astype("float64")), rtol=1e-6)


def test_logarithms_end_at_minus_100() -> None:
    p = np.asarray([1e-300, 1e-43])
    for t in (np.ones(2), np.ones((2, 1))):
        values = losses.binary_cross_entropy(p.reshape(t.shape), t, reduction="none")
        np.testing.assert_allclose(values.ravel(), [100, 43 * np.log(10)])
    rows = np.stack([p, 1 - p], 1)
    values = losses.categorical_cross_entropy(rows, np.asarray([0, 0]), reduction="none")
    np.testing.assert_allclose(values, [100, 43 * np.log(10)])


def test_hinges_are_flat_beyond_the_margin() -> None:
    x = xpnn.Tensor(np.asarray([[3.0, 1.0, 0.0], [0.5, 1.0, 0.9]], "f"), requires_grad=True)
    values = losses.categorical_hinge(x, np.asarray([0, 1]), reduction="none")
    np.testing.assert_allclose(to_numpy(values), [0, 0.9], rtol=1e-6)
    ops.sum(values).backward()
    assert to_numpy(x.grad).tolist() == [[0, 0, 0], [0, -1, 1]]
    x = xpnn.Tensor(np.asarray([3.0, 0.5, 1.0], "f"), requires_grad=True)
    losses.binary_hinge(x, np.asarray([1, 1, 1]), reduction="sum").backward()
    assert to_numpy(x.grad).tolist() == [0, -1, 0]


def test_no_number_stays_no_number() -> None:
    nan = np.asarray([[np.nan, 0.5]], "f")
    half = np.asarray([[0.5, 0.5]], "f")
    for case in ("bce", "cce", "kld", "hed", "mse", "rmse", "mae", "huber", "cosine"):
        assert np.isnan(float(losses.get(case)(nan, half))), case


def test_logits_do_not_overflow() -> None:
    x = xpnn.Tensor(np.asarray([1e4, -1e4, 1e4, -1e4], "f"), requires_grad=True)
    t = np.asarray([1, 0, 0, 1], "f")
    for weight in (None, 2.0, np.asarray([2.0]), [2.0, 2.0, 2.0, 2.0]):
        x.grad = None
        scale = 1 if weight is None else 2
        values = losses.binary_cross_entropy_with_logits(x, t, pos_weight=weight, reduction="none")
        assert to_numpy(values).tolist() == [0, 0, 1e4, scale * 1e4]
        ops.sum(values).backward()
        assert to_numpy(x.grad).tolist() == [0, 0, 1, -scale]


def test_roots_and_lengths_of_zero_have_gradients() -> None:
    x = xpnn.Tensor(np.ones(3, "f"), requires_grad=True)
    losses.root_mean_squared_error(x, np.ones(3, "f")).backward()
    assert to_numpy(x.grad).tolist() == [0, 0, 0]
    x = xpnn.Tensor(np.asarray([[0, 0], [3e-30, 4e-30], [3e30, 4e30]], "f"), requires_grad=True)
    t = np.asarray([[3, 4], [3, 4], [-3e30, -4e30]], "f")
    values = losses.cosine(x, t, reduction="none")
    np.testing.assert_allclose(to_numpy(values), [1, 0, 2], atol=1e-6)
    ops.sum(values).backward()
    np.testing.assert_allclose(to_numpy(x.grad)[0], [-0.6, -0.8], rtol=1e-6)
    assert np.isfinite(to_numpy(x.grad)).all()


def test_elbo_bounds_the_likelihood_of_a_linear_model() -> None:
    """With the true posterior of x = z + noise the bound is -log p(x), x normal of variance 2."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 1)) * 2**0.5
    mean, log_variance = x / 2, np.full((1, 1), np.log(0.5))
    zs = mean + 0.5**0.5 * rng.standard_normal((200_000, 1))
    many = np.ones((200_000, 1))
    values = losses.vae_elbo(
        (zs, many * mean, many * log_variance), many * x, likelihood="gaussian", reduction="none"
    )
    exact = 0.5 * float(x[0, 0]) ** 2 / 2 + 0.5 * np.log(2 * np.pi * 2)
    assert values.mean() == pytest.approx(exact, abs=0.01)


# --------------------------------------------------------------------------------- by name


def test_losses_have_names_and_arguments() -> None:
    aliases = {
        "mse": "mean_squared_error",
        "rmse": "root_mean_squared_error",
        "mae": "mean_absolute_error",
        "bce": "binary_cross_entropy",
        "cce": "categorical_cross_entropy",
        "scce": "cross_entropy",
        "kld": "kl_divergence",
        "hed": "hellinger",
        "bhe": "binary_hinge",
        "che": "categorical_hinge",
    }
    for alias, name in aliases.items():
        assert losses.get(alias) is losses.get(name) is getattr(losses, name)
    for name in ("huber", "cosine", "vae_elbo", "binary_cross_entropy_with_logits"):
        assert losses.get(name) is getattr(losses, name)
    x, t = np.asarray([9.0]), np.asarray([0.0])
    assert float(losses.get(["huber", {"delta": 2.0}])(x, t)) == 16
    assert losses.get(np.subtract) is np.subtract


def _model(units: int, activation: str = "linear") -> Any:
    return xpnn.Sequential([xpnn.layers.Dense(units, activation=activation)])


@pytest.mark.parametrize(
    ("loss", "units", "activation", "targets"),
    [
        (("cross_entropy", {"label_smoothing": 0.1, "class_weights": [1, 2, 3]}), 3, "linear", 0),
        (("cross_entropy", {"ignore_index": 2}), 3, "linear", 0),
        ("cce", 3, "softmax", 0),
        ("che", 3, "linear", 0),
        ("bce", 1, "sigmoid", 1),
        (("binary_cross_entropy_with_logits", {"pos_weight": 2.0}), 1, "linear", 1),
        ("rmse", 1, "linear", 1),
        (("huber", {"delta": 0.1}), 1, "linear", 1),
        ("bhe", 1, "linear", 2),
        ("kld", 3, "softmax", 3),
        ("hed", 3, "softmax", 3),
    ],
)
def test_models_learn_by_every_loss(loss: Any, units: int, activation: str, targets: int) -> None:
    x = make((60, 3), seed=2)
    labels = x.argmax(1)
    large = (x[:, :1] > 0).astype("float32")
    y = [labels, large, 2 * large - 1, np.eye(3, dtype="f")[labels]][targets]
    model = _model(units, activation)
    model.compile(loss, xpnn.optim.Adam(0.05))
    history = model.fit(x, y, epochs=12, batch_size=16)
    assert history["loss"][-1] < 0.7 * history["loss"][0]


def test_an_autoencoder_learns_by_its_bound() -> None:
    class Coder(xpnn.Model):
        def __init__(self) -> None:
            self.mean, self.spread = xpnn.layers.Dense(2), xpnn.layers.Dense(2)
            self.out = xpnn.layers.Dense(4)

        def forward(self, x: Any) -> Any:
            mean, log_variance = self.mean(x), self.spread(x)
            noise = xpnn.get_rng().normal(tuple(mean.shape), dtype="float32", device="cpu")
            z = mean + ops.exp(0.5 * log_variance) * noise
            return self.out(z), mean, log_variance

    x = np.repeat(np.asarray([[0, 0, 1, 1], [1, 1, 0, 0]], "f"), 20, axis=0)
    model = Coder()
    model.compile(("vae_elbo", {"likelihood": "bernoulli_logits"}), xpnn.optim.Adam(0.05))
    history = model.fit(x, x, epochs=25, batch_size=10)
    assert history["loss"][-1] < 0.6 * history["loss"][0]


@pytest.mark.parametrize(
    ("loss", "units", "targets", "message"),
    [
        (("cross_entropy", {"ignore_index": -1}), 3, [0, -2, -1], r"in \[0, 2\]; got -2"),
        ("cce", 3, [0, 1, 3], r"categorical_cross_entropy: .* labels must be in \[0, 2\]; got 3"),
        ("che", 3, [0.0, 1.0, 2.0], "expected integer labels or one-hot rows, got float64"),
        ("bhe", 1, [[1], [0], [1]], r"targets must be -1 or 1, got 0.* give 2 \* targets - 1"),
        ("bce", 1, [[1], [2], [1]], r"targets must be in \[0, 1\], got 2"),
        ("bce", 1, [[1], [0], [1]], r"predictions must be in \[0, 1\], got 3.* in a sigmoid, or"),
        ("cce", 3, [0, 1, 2], r"predictions must be in \[0, 1\], got 3.* in a softmax, or take"),
        ("kld", 3, np.eye(3), r"kl_divergence: predictions must be in \[0, 1\], got 3"),
        ("hed", 3, -np.eye(3), r"hellinger: targets must be in \[0, 1\], got -1"),
        (losses.binary_cross_entropy_with_logits, 1, [[1], [-1], [1]], "got -1"),
    ],
)
def test_fit_looks_at_all_data_before_it_starts(
    loss: Any, units: int, targets: Any, message: str, monkeypatch: Any
) -> None:
    """Also where the losses themselves do not look."""
    from xpnn.losses import _common, margins

    for module in (_common, margins):
        monkeypatch.setattr(module, "on_host", lambda x: False)
    model = xpnn.Sequential([xpnn.layers.Dense(units, weight_init="ones")])
    model.compile(loss)
    with pytest.raises(DataError, match=message):
        model.fit(np.ones((3, 3), "f"), np.asarray(targets), batch_size=2, verbose=0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_lists_are_taken_as_arrays_are(case: Case, device: Any) -> None:
    predictions, targets = case.arguments(device)
    expected = case.loss(predictions, targets, reduction="sum")
    found = case.loss(predictions, to_numpy(targets).tolist(), reduction="sum")
    assert_close(found, expected, rtol=1e-14)
    assert xpnn.backend.device_of(found) == xpnn.backend.device_of(expected)


def test_a_number_is_the_target_of_a_number() -> None:
    loss = losses.mean_squared_error(xpnn.Tensor(np.asarray(3.0), requires_grad=True), 0.1)
    loss.backward()
    assert float(loss) == (3.0 - 0.1) ** 2  # in float64, and not by way of the default dtype


def test_targets_and_noise_may_be_lists() -> None:
    h, w, log_q = make((3, 2), dtype="float64"), make((2, 5), dtype="float64"), np.full(5, -1.6)
    targets, noise = [0, 4, 1], [1, 2]
    for loss, more in ((losses.negative_sampling, ()), (losses.nce, (log_q,))):
        expected = loss(h, w, None, np.asarray(targets), np.asarray(noise), *more)
        assert loss(h, w, None, targets, noise, *more) == expected


@pytest.mark.parametrize("loss", ["kl_divergence", "binary_hinge", "binary_cross_entropy"])
def test_fit_blames_the_shape_before_the_values(loss: str) -> None:
    model = xpnn.Sequential([xpnn.layers.Dense(3, activation="softmax")])
    model.compile(loss=loss)
    with pytest.raises(ShapeError, match=r"targets \(4,\); .* Make rows of labels with"):
        model.fit(np.ones((4, 2)), np.asarray([0, 1, 2, 2]), verbose=0)


def test_losses_that_are_not_ours_are_let_pass() -> None:
    for loss in (lambda p, t: p, functools.partial(np.add, out=None), np.add):
        losses.check_targets(loss, np.asarray([9]), np.zeros((1, 2)))
    losses.check_targets(losses.cross_entropy, [9], (1, 2))
    ignoring = losses.get(("cross_entropy", {"ignore_index": -1}))
    losses.check_targets(ignoring, np.asarray([-1, 0]), np.zeros((1, 2)))
    losses.check_targets(losses.cross_entropy, np.zeros(0, int), np.zeros((0, 2)))
    losses.check_targets(losses.binary_cross_entropy, np.zeros((0, 2)), np.zeros((0, 2)))
    losses.check_targets(losses.binary_cross_entropy, np.asarray([True]), np.asarray([0.5]))
    with pytest.raises(DataError, match="got nan"):
        losses.check_targets(losses.binary_cross_entropy, np.asarray([np.nan]), np.asarray([0.5]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), np.asarray([0, 3])),
            DataError,
            r"3 classes, so labels must be in \[0, 2\]; got 3",
        ),
        (
            lambda: losses.huber(np.ones(2), np.ones(2, complex)),
            DTypeError,
            "huber: expected real targets, got complex128",
        ),
        (
            lambda: losses.cosine([1.0], [2.0]),
            DTypeError,
            "cosine: expected floating-point predictions, got list",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), np.asarray([-1, 0])),
            DataError,
            "got -1",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), np.asarray([1, 0, 1])),
            ShapeError,
            r"need labels of shape \(2,\), got \(3,\)",
        ),
        (
            lambda: losses.mean_squared_error(np.ones((2, 1)), np.ones(2)),
            ShapeError,
            r"does not broadcast. Write targets\[\.\.\., None\], or predictions\[\.\.\., 0\]",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), np.ones((2, 1), int)),
            ShapeError,
            r"If the targets are labels of classes, write targets\[\.\.\., 0\]",
        ),
        (
            lambda: losses.mean_squared_error(np.ones(2), np.ones(2), reduction="average"),
            ConfigError,
            "'reduction' must be 'mean', 'sum' or 'none', got 'average'",
        ),
        (lambda: losses.get("entropy"), ConfigError, "unknown loss 'entropy'; known are"),
        (lambda: losses.get("BCE"), ConfigError, r"scce\. Did you mean 'bce'\?$"),
        (
            lambda: losses.get(("huber", {"beta": 1.0})),
            ConfigError,
            r"loss 'huber' with \{'beta': 1.0\}: got an unexpected keyword",
        ),
        (
            lambda: losses.mean_squared_error(np.ones(2, int), np.ones(2)),
            DTypeError,
            "expected floating-point predictions, got int64.*Convert them",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), np.ones(2)),
            DataError,
            r"expected integer labels or one-hot rows, got float64 values of shape \(2,\)",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 1)), np.zeros(2, int)),
            ShapeError,
            r"two classes or more, got \(2, 1\).*binary_cross_entropy_with_logits",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), np.ones((2, 4))),
            ShapeError,
            r"predictions have shape \(2, 3\), targets \(2, 4\)",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), np.ones((2, 3)), ignore_index=0),
            ConfigError,
            r"'ignore_index' needs integer labels, got targets of shape \(2, 3\)",
        ),
        (
            lambda: losses.cross_entropy(np.ones((1, 3)), np.ones((1, 3)), label_smoothing=1.5),
            ConfigError,
            r"'label_smoothing' must be in \[0, 1\], got 1.5",
        ),
        (
            lambda: losses.cross_entropy(np.ones((1, 3)), np.ones((1, 3)), class_weights=[1, 2]),
            ShapeError,
            r"need 'class_weights' of shape \(3,\), got \(2,\)",
        ),
        (
            lambda: losses.binary_cross_entropy_with_logits(
                np.ones((2, 3)), np.ones((2, 3)), pos_weight=[1, 2]
            ),
            ShapeError,
            r"shape \(2, 3\) need 'pos_weight' of shape \(3,\), got \(2,\)",
        ),
        (
            lambda: losses.binary_hinge(np.ones(2), np.asarray([1, 0])),
            DataError,
            r"targets must be -1 or 1, got 0\. For targets of 0 and 1 give 2 \* targets - 1",
        ),
        (
            lambda: losses.binary_hinge(np.ones(2), np.asarray([True, False])),
            DataError,
            "must be -1 or 1, got 0",
        ),
        (lambda: losses.huber(np.ones(2), np.ones(2), delta=0), ConfigError, "'delta' must be pos"),
        (
            lambda: losses.cosine(np.asarray(1.0), np.asarray(1.0)),
            ShapeError,
            r"shape \(\.\.\., classes or features\), got a scalar",
        ),
        (
            lambda: losses.vae_elbo(np.ones((2, 3)), np.ones((2, 3))),
            ShapeError,
            r"expected predictions \(reconstruction, mean, log_variance\), got ndarray",
        ),
        (
            lambda: losses.vae_elbo((np.ones((2, 3)), np.ones((2, 1)), np.ones((2, 2))), ONES),
            ShapeError,
            r"of mean and log_variance: predictions have shape \(2, 1\), targets \(2, 2\)",
        ),
        (
            lambda: losses.vae_elbo((np.ones((2, 3)), np.ones((1, 1)), np.ones((1, 1))), ONES),
            ShapeError,
            r"as many examples in all, got a reconstruction of shape \(2, 3\) and a mean of",
        ),
        (
            lambda: losses.vae_elbo((ONES, ONES, ONES), ONES, likelihood="poisson"),
            ConfigError,
            "'likelihood' must be 'bernoulli', .* got 'poisson'",
        ),
        (
            lambda: losses.vae_elbo((ONES, ONES, ONES), ONES, likelihood="gaussian", variance=0),
            ConfigError,
            "'variance' must be positive, got 0",
        ),
        (
            lambda: F.linear(np.ones((2, 3)), np.ones((4, 5))),
            ShapeError,
            r"expected x with last axis 4.*got x of shape \(2, 3\)",
        ),
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
