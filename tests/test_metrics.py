"""Metrics against their definitions, written out in loops, on every device."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from helpers import double, make, on

import xpnn
from xpnn import layers, metrics
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DataError, DTypeError, ShapeError

SCORES = make((40, 4), dtype="float64")
LABELS = np.random.default_rng(1).choice([0, 1, 3], 40)  # no example of class 2 ...
SCORES[:, 2] -= 9.0  # ... and none is taken for it
ONE_HOT = np.eye(4)[LABELS]
PROBABILITIES = make((40,), dtype="float64", kind="uniform")
BITS = (make((40,), dtype="float64", seed=3) > 0).astype(int)


def counts_of(guesses: Any, truths: Any, c: int) -> tuple[int, int, int]:
    pairs = list(zip(guesses.tolist(), truths.tolist(), strict=True))
    hits = sum(g == c and t == c for g, t in pairs)
    return hits, sum(g == c for g, _ in pairs), sum(t == c for _, t in pairs)


def ratio(above: float, below: float) -> float:
    return above / below if below else 0.0


def of_class(name: str, guesses: Any, truths: Any, c: int) -> float:
    hits, guessed, true = counts_of(guesses, truths, c)
    if name == "f1":
        p, r = ratio(hits, guessed), ratio(hits, true)
        return ratio(2 * p * r, p + r)
    return ratio(hits, guessed if name == "precision" else true)


def expected_top_k(k: int) -> float:
    order = np.argsort(-SCORES, axis=1, kind="stable")[:, :k]
    return float(np.mean([t in row for t, row in zip(LABELS, order, strict=True)]))


TARGETS = make((40, 3), dtype="float64", seed=5)
GUESSES = TARGETS + 0.5 * make((40, 3), dtype="float64", seed=6)


def expected_r2() -> float:
    columns = []
    for p, t in zip(GUESSES.T, TARGETS.T, strict=True):
        columns.append(1 - sum((t - p) ** 2) / sum((t - t.mean()) ** 2))
    return float(np.mean(columns))


GUESS = SCORES.argmax(1)
# name: the call, predictions, targets, what is right
TABLE: dict[str, Any] = {
    "accuracy": (metrics.accuracy, SCORES, LABELS, np.mean(GUESS == LABELS)),
    "accuracy one-hot": (metrics.accuracy, SCORES, ONE_HOT, np.mean(GUESS == LABELS)),
    "accuracy sequences": (
        metrics.accuracy,
        SCORES.reshape(8, 5, 4),
        LABELS.reshape(8, 5),
        np.mean(GUESS == LABELS),
    ),
    "error_rate": (metrics.error_rate, SCORES, LABELS, np.mean(GUESS != LABELS)),
    "binary_accuracy": (
        metrics.binary_accuracy,
        PROBABILITIES,
        BITS,
        np.mean((PROBABILITIES > 0.5) == BITS),
    ),
    "binary_accuracy of logits": (
        lambda p, t: metrics.binary_accuracy(p, t, threshold=0),
        SCORES,
        ONE_HOT,
        np.mean((SCORES > 0) == ONE_HOT),
    ),
    **{
        f"top_{k}": (
            lambda p, t, k=k: metrics.top_k_accuracy(p, t, k=k),
            SCORES,
            LABELS,
            expected_top_k(k),
        )
        for k in (1, 2, 3, 4, 9)
    },
    **{
        f"{name} binary": (
            getattr(metrics, name),
            PROBABILITIES,
            BITS,
            of_class(name, PROBABILITIES > 0.5, BITS, 1),
        )
        for name in ("precision", "recall", "f1")
    },
    **{
        f"{name} binary of two classes": (
            getattr(metrics, name),
            SCORES[:, :2],
            BITS,
            of_class(name, SCORES[:, :2].argmax(1), BITS, 1),
        )
        for name in ("precision", "recall", "f1")
    },
    **{
        f"{name} macro": (
            functools.partial(getattr(metrics, name), average="macro"),
            SCORES,
            LABELS,
            np.mean([of_class(name, GUESS, LABELS, c) for c in (0, 1, 3)]),
        )
        for name in ("precision", "recall", "f1")
    },
    **{
        f"{name} micro": (
            functools.partial(getattr(metrics, name), average="micro"),
            SCORES,
            ONE_HOT,
            np.mean(GUESS == LABELS),
        )
        for name in ("precision", "recall", "f1")
    },
    "mean_absolute_error": (
        metrics.mean_absolute_error,
        GUESSES,
        TARGETS,
        sum(abs(GUESSES - TARGETS).ravel()) / 120,
    ),
    "r2": (metrics.r2, GUESSES, TARGETS, expected_r2()),
}


@pytest.mark.parametrize("name", TABLE)
def test_metrics_are_what_their_definitions_say(name: str, device: Any) -> None:
    call, predictions, targets, expected = TABLE[name]
    assert 0.05 < expected <= 1.0
    for dtype in {"float32", double(device)}:
        p = on(device, predictions.astype(dtype))
        t = on(device, targets.astype(dtype) if targets.dtype.kind == "f" else targets)
        for given in (p, xpnn.Tensor(p, requires_grad=True)):
            found = call(given, t)
            assert not isinstance(found, xpnn.Tensor)
            assert found.shape == ()
            assert xpnn.Tensor(found).dtype == dtype
            assert xpnn.Tensor(found).device == device
            assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_confusion_matrix_counts_pairs(device: Any) -> None:
    expected = np.zeros((4, 4), int)
    for g, t in zip(GUESS, LABELS, strict=True):
        expected[t, g] += 1
    scores, labels = on(device, SCORES.astype("float32")), on(device, LABELS)
    found = metrics.confusion_matrix(scores, labels)
    np.testing.assert_array_equal(to_numpy(found), expected)
    assert xpnn.Tensor(found).device == device
    assert xpnn.Tensor(found).dtype.kind == "i"
    small = on(device, GUESS.astype("uint8"))
    by_labels = metrics.confusion_matrix(small, labels, num_classes=5)
    np.testing.assert_array_equal(to_numpy(by_labels)[:4, :4], expected)
    assert not to_numpy(by_labels)[4].any()
    assert to_numpy(metrics.confusion_matrix(small[:0], labels[:0], num_classes=2)).sum() == 0


def test_where_a_look_would_wait_labels_out_of_range_are_left_out(monkeypatch: Any) -> None:
    from xpnn.metrics import counts

    monkeypatch.setattr(counts, "on_host", lambda x: False)
    guesses, labels = np.asarray([0, 1, 2, -1, 1, 0]), np.asarray([0, 2, 1, 1, -1, 9])
    found = metrics.confusion_matrix(guesses, labels, num_classes=2)
    assert found.tolist() == [[1, 0], [0, 0]]


def test_ties_and_numbers_that_are_none_are_no_hits() -> None:
    same = np.zeros((3, 4), "f")
    labels = np.asarray([0, 1, 3])
    assert float(metrics.top_k_accuracy(same, labels, k=1)) == pytest.approx(1 / 3)
    assert float(metrics.top_k_accuracy(same, labels, k=1)) == metrics.accuracy(same, labels)
    assert float(metrics.top_k_accuracy(same, labels, k=2)) == pytest.approx(2 / 3)
    none = np.asarray([[np.nan, 0.0, 1.0]], "f")
    assert float(metrics.top_k_accuracy(none, np.asarray([0]), k=2)) == 0
    assert float(metrics.top_k_accuracy(none, np.asarray([2]), k=1)) == 0
    assert float(metrics.top_k_accuracy(none, np.asarray([2]), k=2)) == 1
    inf = np.asarray([[np.inf, -np.inf, 0.0]], "f")
    assert float(metrics.top_k_accuracy(inf, np.asarray([0]), k=1)) == 1


def test_nothing_over_nothing_is_zero() -> None:
    low, high = np.zeros(3, "f"), np.ones(3, "f")
    zeros, ones = np.zeros(3, int), np.ones(3, int)
    for name in ("precision", "recall", "f1"):
        f = getattr(metrics, name)
        assert float(f(low, zeros)) == 0
        assert float(f(low, ones)) == 0
        assert float(f(high, zeros)) == 0
        assert float(f(high, ones)) == 1


def test_r2_of_constant_targets() -> None:
    t = np.ones((4, 2), "f")
    p = t.copy()
    assert float(metrics.r2(p, t)) == 1
    p[0, 0] = 2
    assert float(metrics.r2(p, t)) == 0.5
    assert float(metrics.r2(np.zeros((4, 1), "f"), np.asarray([[1], [-1], [3], [-3]]))) == 0


def test_integers_and_half_precision_give_float32() -> None:
    big = np.zeros((5000, 2), "float16")
    found = metrics.accuracy(big, np.asarray([0] * 3001 + [1] * 1999))
    assert found.dtype == np.float32
    assert float(found) == pytest.approx(3001 / 5000, rel=1e-6)
    assert float(metrics.mean_absolute_error(np.asarray([1, 4]), np.asarray([2, 2]))) == 1.5
    whole = metrics.r2(np.asarray([1, 2, 3]), np.asarray([1, 2, 3]))
    assert whole.dtype == np.float32


# --------------------------------------------------------------------------------- by name


def test_metrics_have_names_and_arguments_in_compile() -> None:
    chosen: list[Any] = [
        "accuracy",
        "error_rate",
        "top_k",
        ("top_k", {"k": 2}),
        ("f1", {"average": "macro"}),
        metrics.top_k_accuracy,
        ("accuracy", {}),
    ]
    model = xpnn.Sequential([layers.Dense(4)])
    model.compile("cross_entropy", metrics=chosen)
    x = make((40, 3))
    history = model.fit(x, LABELS, batch_size=16, epochs=1, validation_data=(x, LABELS))
    names = ["accuracy", "error_rate", "top_k", "top_k(k=2)", "f1(average=macro)", "top_k_accuracy"]
    assert set(history.history) == {"loss", "val_loss", *names, *(f"val_{n}" for n in names)}
    found = model.evaluate(x, LABELS)
    assert found["top_k"] == 1
    assert found["error_rate"] == pytest.approx(1 - found["accuracy"])
    assert found["top_k(k=2)"] >= found["accuracy"]


def test_regression_is_measured_too() -> None:
    model = xpnn.Sequential([layers.Dense(1)])
    model.compile("mse", xpnn.optim.Adam(0.1), metrics=["mae", "mean_absolute_error", "r2"])
    x = make((50, 2))
    model.fit(x, x[:, :1] * 2, epochs=40, batch_size=50)
    found = model.evaluate(x, x[:, :1] * 2)
    assert found["r2"] > 0.95
    assert found["mae"] == found["mean_absolute_error"] < 0.3
    assert metrics.get("precision") is metrics.precision
    assert metrics.get("recall") is metrics.recall
    assert metrics.get("binary_accuracy") is metrics.binary_accuracy


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.get("acc"), ConfigError, "unknown metric 'acc'; known are accuracy"),
        (lambda: metrics.get(("acc", {})), ConfigError, "Did you mean 'accuracy'"),
        (
            lambda: metrics.get(("top_k", {"n": 3})),
            ConfigError,
            r"metric 'top_k' with \{'n': 3\}: got an unexpected keyword",
        ),
        (
            lambda: metrics.accuracy(np.ones((2, 3)), np.ones(3, int)),
            ShapeError,
            r"accuracy: predictions of shape \(2, 3\) need targets of shape \(2,\), .* got \(3,\)",
        ),
        (
            lambda: metrics.accuracy(np.ones((2, 3)), np.ones((2, 4))),
            ShapeError,
            r"one-hot rows; got \(2, 4\)",
        ),
        (
            lambda: metrics.accuracy(np.asarray(1.0), np.asarray(1)),
            ShapeError,
            r"two classes or more, got \(\)",
        ),
        (
            lambda: metrics.error_rate(np.ones((2, 3)), np.ones(2)),
            DataError,
            "error_rate: expected integer labels or one-hot rows, got float64",
        ),
        (
            lambda: metrics.binary_accuracy(np.ones((2, 1)), np.ones(2, int)),
            ShapeError,
            r"predictions have shape \(2, 1\), targets \(2,\); a metric does not broadcast. Write",
        ),
        (
            lambda: metrics.top_k_accuracy(np.ones((2, 3)), np.ones(2, int), k=0),
            ConfigError,
            "'k' must be a whole number, at least 1, got 0",
        ),
        (
            lambda: metrics.top_k_accuracy(np.ones((2, 3)), np.ones(2, int), k=1.5),
            ConfigError,
            "'k' must be a whole number, at least 1, got 1.5",
        ),
        *(
            (
                functools.partial(metric, np.ones((2, 1)), np.ones(shape, int)),
                ShapeError,
                r"two classes or more, got \(2, 1\)\. For probabilities of 1 take binary_accuracy",
            )
            for metric in (metrics.accuracy, metrics.error_rate, metrics.top_k_accuracy)
            for shape in ((2,), (2, 1))
        ),
        (
            lambda: metrics.f1(np.ones((2, 1)), np.ones(2, int)),
            ShapeError,
            r"f1: predictions have shape \(2, 1\), targets \(2,\); .* Write targets",
        ),
        (
            lambda: metrics.accuracy(np.ones((2, 3), complex), np.ones(2, int)),
            DTypeError,
            "accuracy: expected real numbers, got complex128 and int64",
        ),
        (
            lambda: metrics.r2(1.0, 2.0),
            ShapeError,
            r"r2: expected arrays of shape \(examples, \.\.\.\), got two numbers",
        ),
        (
            lambda: metrics.accuracy(np.ones((2, 3)), None),
            DTypeError,
            "expected numbers, got NoneType",
        ),
        (
            lambda: metrics.precision(np.ones((2, 3)), np.ones(2, int)),
            ConfigError,
            r"have 3 classes; average='binary' is for two\. Take 'macro' or 'micro'",
        ),
        (
            lambda: metrics.f1(np.ones(2), np.ones(2, int), average="weighted"),
            ConfigError,
            "f1: 'average' must be 'binary', 'macro' or 'micro', got 'weighted'",
        ),
        (
            lambda: metrics.recall(np.ones(2), np.ones(2, int), average="macro"),
            ShapeError,
            r"recall: expected predictions of .* got \(2,\)\. .* or average='binary'",
        ),
        (
            lambda: metrics.confusion_matrix(np.ones((2, 3)), np.asarray([0, 3])),
            DataError,
            r"confusion_matrix: .* labels must be in \[0, 2\]; got 3",
        ),
        (
            lambda: metrics.confusion_matrix(np.ones(2, int), np.ones(2, int)),
            ConfigError,
            "predicted labels do not tell how many classes there are. Give 'num_classes'",
        ),
        (
            lambda: metrics.confusion_matrix(np.ones((2, 3)), np.ones(2, int), num_classes=4),
            ConfigError,
            "the predictions have 3 classes, 'num_classes' is 4",
        ),
        (
            lambda: metrics.confusion_matrix(np.ones(3, int), np.ones(2, int), num_classes=4),
            ShapeError,
            r"predictions of shape \(3,\) and targets of shape \(2,\) do not belong together",
        ),
        (
            lambda: metrics.confusion_matrix(np.ones(2), np.ones(2, int), num_classes=4),
            DataError,
            "expected integer predictions, got float64",
        ),
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", TABLE)
def test_lists_are_taken_as_arrays_are(name: str, device: Any) -> None:
    metric, predictions, targets, expected = TABLE[name]
    found = metric(on(device, predictions), targets.tolist())
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-6)  # floats in the default dtype
    np.testing.assert_allclose(metric(predictions.tolist(), targets.tolist()), expected, rtol=1e-6)


def test_rows_of_booleans_are_one_hot_rows(device: Any) -> None:
    scores, rows = on(device, SCORES), on(device, ONE_HOT > 0)
    for metric in (metrics.accuracy, metrics.top_k_accuracy):
        assert float(metric(scores, rows)) == float(metric(scores, on(device, LABELS)))
    assert float(metrics.binary_accuracy(on(device, BITS > 0), on(device, BITS > 0))) == 1.0


def test_a_label_that_is_no_class_is_never_right() -> None:
    scores, labels = np.asarray([[0.9, 0.1]] * 4), np.asarray([0, -100, 2, 1])
    assert metrics.accuracy(scores, labels) == 0.25
    for k in (2, 5):
        assert metrics.top_k_accuracy(scores, labels, k=k) == 0.5


def test_partial_functions_are_reported_with_their_arguments() -> None:
    model = xpnn.Sequential([layers.Dense(4)])
    model.compile(
        "cross_entropy",
        metrics=[functools.partial(metrics.top_k_accuracy, k=k) for k in (1, 2)],
    )
    found = model.evaluate(np.ones((3, 2)), [0, 1, 2])
    assert set(found) == {"loss", "top_k_accuracy(k=1)", "top_k_accuracy(k=2)"}
    model.compile("cross_entropy", metrics="accuracy")
    assert set(model.evaluate(np.ones((3, 2)), [0, 1, 2])) == {"loss", "accuracy"}


@pytest.mark.parametrize("ignored", [-1, 1])
def test_ignored_labels_do_not_count(ignored: int, device: Any) -> None:
    labels = np.where(np.arange(40) % 3 == 0, ignored, LABELS)
    kept = labels != ignored
    scores, targets = on(device, SCORES.astype("float32")), on(device, labels)
    found = metrics.accuracy(scores, targets, ignore_index=ignored)
    assert float(found) == pytest.approx(np.mean(GUESS[kept] == labels[kept]))
    wrong = metrics.error_rate(scores, targets, ignore_index=ignored)
    assert float(wrong) == pytest.approx(1 - float(found))
    nothing = on(device, np.full(40, ignored))
    assert float(metrics.accuracy(scores, nothing, ignore_index=ignored)) == 0.0


def test_no_unsigned_label_is_ignored_by_a_negative_number() -> None:
    labels = LABELS.astype("uint8")
    found = metrics.accuracy(SCORES, labels, ignore_index=-1)
    assert float(found) == float(metrics.accuracy(SCORES, labels))
