"""Pictures: what is in them, where they go, and what is refused."""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make

import xpnn
from xpnn import datasets, layers, plot
from xpnn.callbacks import PlotHistory
from xpnn.errors import ConfigError, DataError, MissingLibraryError, ShapeError
from xpnn.training import History

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.extras

from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.image import imread  # noqa: E402

NAN, INF = math.nan, math.inf
X, Y = datasets.load_digits()


def texts(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def line(ax: Any, label: str) -> tuple[list[float], list[float]]:
    (found,) = (x for x in ax.lines if x.get_label() == label)
    return list(found.get_xdata()), list(found.get_ydata())


def is_clipped(figure: Any) -> bool:
    """Return whether something stands over the edge of a figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.get_tightbbox(canvas.get_renderer())
    width, height = figure.get_size_inches()
    return min(box.x0, box.y0, width - box.x1, height - box.y1) < -0.02


def drawn(ax: Any) -> Any:
    """Return the array of an image, NaN where it is masked."""
    return np.ma.filled(ax.images[0].get_array().astype(float), NAN)


EVERY: dict[str, Any] = {
    "curves": lambda **o: plot.curves({"loss": [3.0, 2.0], "val_loss": [3.0, 2.5]}, **o),
    "confusion_matrix": lambda **o: plot.confusion_matrix(Y[:50], Y[50:100], **o),
    "filters": lambda **o: plot.filters(make((16, 9)), **o),
    "images": lambda **o: plot.images(X[:7], **o),
    "reconstructions": lambda **o: plot.reconstructions(X[:3], X[:3], **o),
    "weight_histograms": lambda **o: plot.weight_histograms(layers.Dense(2, 3, bias=False), **o),
}
every = pytest.mark.parametrize("draw", EVERY.values(), ids=EVERY)


# ------------------------------------------------------------------- what all have in common


def test_all_are_here() -> None:
    assert set(EVERY) == set(plot.__all__)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_a_path_is_written(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{suffix}"
    figure = EVERY["images"](path=path)
    assert isinstance(figure, Figure)
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(starts[suffix.lower()])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@every
def test_pictures_show_themselves_without_pyplot(draw: Any) -> None:
    figure = draw()
    assert not is_clipped(figure)
    assert imread(io.BytesIO(figure._repr_png_())).std() > 0.01
    assert "matplotlib.pyplot" not in sys.modules or "pyplot" not in repr(figure.canvas)
    again = pickle.loads(pickle.dumps(figure))
    assert again._repr_png_.args[0] is again


@every
def test_given_axes_are_drawn_into(draw: Any, tmp_path: Path) -> None:
    figure = Figure(layout="constrained")
    part, other = figure.subfigures(1, 2)
    ax = part.add_subplot()
    assert draw(ax=ax, path=str(tmp_path / "all.png")) is figure
    assert ax.lines or ax.images or ax.patches
    assert len(part.axes) in (1, 2)  # with a bar for the colours
    assert not other.axes
    assert (tmp_path / "all.png").stat().st_size > 0
    assert draw(ax=[Figure().add_subplot()])
    with pytest.raises(ConfigError, match="expected 'ax' to be one matplotlib Axes, got 3"):
        draw(ax=3)


@every
def test_paths_that_cannot_be_written(draw: Any, tmp_path: Path) -> None:
    for name in ("picture", "picture.xyz"):
        with pytest.raises(ConfigError, match=r"suffix of 'path' says how .* got '.*picture"):
            draw(path=tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*none' to write to"):
        draw(path=tmp_path / "none" / "picture.png")
    assert list(tmp_path.iterdir()) == []


def test_what_is_clipped_is_found() -> None:
    figure = Figure(figsize=(2, 2))
    figure.add_subplot().set_ylabel("long label " * 9)
    assert is_clipped(figure)


def test_nothing_is_left_of_a_picture_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        EVERY["curves"](path=path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


@every
def test_a_missing_matplotlib_is_named(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingLibraryError, match=r"needs matplotlib.*pip install 'xpnn\[plot\]'"):
        draw()


def test_threads_draw_at_once() -> None:
    found: list[bytes] = []  # of pictures without text
    threads = [
        threading.Thread(target=lambda: found.append(EVERY["images"]()._repr_png_()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1


def test_every_place(device: Any) -> None:
    x = make((5, 16), device, kind="uniform")
    plot.images(x)
    plot.reconstructions(x, xpnn.Tensor(x))
    plot.filters(make((16, 2), device))
    labels = make(6, device, dtype="int64", kind="ints")
    plot.confusion_matrix(make((6, 10), device), labels)
    with xpnn.device(device):
        layer = layers.Dense(3, in_features=16)
    plot.filters(layer)
    plot.weight_histograms(layer)


# ------------------------------------------------------------------------------------ curves


def test_a_panel_for_each_value() -> None:
    history = {
        "loss": [3.0, 2.0, 1.0],
        "accuracy": [0.1, 0.2, 0.3],
        "val_loss": [3.0, 1.5, 2.0],
        "val_accuracy": [0.1, 0.3, 0.2],
        "lr": [0.1, 0.1, 0.01],
    }
    figure = plot.curves(history)
    assert [ax.get_title() for ax in figure.axes] == ["loss", "accuracy", "lr"]
    loss, accuracy, lr = figure.axes
    assert line(loss, "training") == ([1, 2, 3], [3.0, 2.0, 1.0])
    assert line(loss, "validation") == ([1, 2, 3], [3.0, 1.5, 2.0])
    assert legend(loss) == ["training", "validation", "best: epoch 2, 1.5"]
    assert legend(accuracy)[-1] == "best: epoch 2, 0.3"
    assert legend(lr) == ["training", "best: epoch 2, 0.1"]
    assert all(ax.get_xlabel() == "epoch" for ax in figure.axes)
    assert all(float(t).is_integer() for ax in figure.axes for t in ax.get_xticks())
    assert loss.get_xlim()[0] > 0


def test_the_best_epoch_of_any_value_or_of_none() -> None:
    history = {"loss": [3.0, 2.0, 1.0], "accuracy": [0.1, 0.9, 0.3]}
    assert legend(plot.curves(history).axes[1])[-1] == "best: epoch 3, 0.3"
    assert legend(plot.curves(history, best="accuracy").axes[1])[-1] == "best: epoch 2, 0.9"
    figure = plot.curves(history, best="accuracy", mode="min")
    assert legend(figure.axes[1])[-1] == "best: epoch 1, 0.1"
    assert legend(plot.curves(history, best=None).axes[1]) == ["training"]
    assert legend(plot.curves({"f1": [0.5, 0.6]}).axes[0]) == ["training"]  # no loss, no best
    with pytest.raises(ConfigError, match="'best' must be one of loss, accuracy, got 'val_loss'"):
        plot.curves(history, best="val_loss")
    with pytest.raises(ConfigError, match="curves: 'mode' must be 'auto', 'min' or 'max'"):
        plot.curves(history, mode="up")


def test_values_of_some_epochs_only() -> None:
    figure = plot.curves({"loss": [4.0, 3.0, 2.0, 1.0], "val_loss": [2.0, 1.5]})
    along, ys = line(figure.axes[0], "validation")
    assert along == [1, 2, 3, 4]
    np.testing.assert_array_equal(ys, [NAN, NAN, 2.0, 1.5])
    assert "not finite" not in legend(figure.axes[0])
    figure = plot.curves({"loss": [2.0, 1.0], "val_loss": [NAN, 1.5]})
    assert "not finite" not in legend(figure.axes[0])


def test_what_is_not_finite_is_marked() -> None:
    history = {"loss": [4.0, NAN, 2.0, INF, -INF, 1.0], "val_loss": [NAN] * 6}
    ax = plot.curves(history).axes[0]
    np.testing.assert_array_equal(line(ax, "training")[1], [4.0, NAN, 2.0, NAN, NAN, 1.0])
    assert line(ax, "not finite")[0] == [1, 2, 3, 4, 5, 6]
    assert line(plot.curves({"loss": history["loss"]}).axes[0], "not finite")[0] == [2, 4, 5]
    assert legend(ax) == ["training", "validation", "not finite"]  # val_loss has no best epoch
    assert plot.curves({"loss": [NAN]})._repr_png_()


def test_lone_epochs_among_many_are_seen() -> None:
    history = {"loss": [1.0, NAN, *[1.0] * 40]}
    ax = plot.curves(history).axes[0]
    assert [list(x.get_xdata()) for x in ax.lines if x.get_marker() == "."] == [[1]]


def test_one_epoch_is_a_point() -> None:
    ax = plot.curves({"loss": [2.0]}).axes[0]
    assert ax.lines[0].get_marker() == "o"
    assert ax.get_xlim() == (0.5, 1.5)
    assert [t for t in ax.get_xticks() if 0.5 < t < 1.5] == [1.0]


def test_logarithmic_losses() -> None:
    history = {"loss": [3.0, 0.01], "critic_loss": [2.0, 1.0], "accuracy": [0.0, 0.5]}
    figure = plot.curves(history, log=True)
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "log", "linear"]
    assert {ax.get_yscale() for ax in plot.curves(history).axes} == {"linear"}
    history["val_loss"] = [1.0, -0.5]
    with pytest.raises(ConfigError, match=r"losses above 0, and 'val_loss' goes down to -0.5"):
        plot.curves(history, log=True)


def test_some_of_the_values() -> None:
    history = {"loss": [1.0], "accuracy": [0.5], "val_mae": [0.2]}
    figure = plot.curves(history, ["accuracy", "mae"])
    assert [ax.get_title() for ax in figure.axes] == ["accuracy", "mae"]
    assert legend(figure.axes[1])[0] == "validation"
    assert len(plot.curves(history, "loss").axes) == 1
    for names in ("val_loss", []):
        with pytest.raises(ConfigError, match="'names' must be some of loss, accuracy, mae, got"):
            plot.curves(history, names)
    axes = Figure().subplots(1, 3)
    plot.curves(history, ax=axes)
    assert [ax.get_title() for ax in axes] == ["loss", "accuracy", "mae"]
    with pytest.raises(ConfigError, match="expected 'ax' to be 3 matplotlib Axes, one a panel"):
        plot.curves(history, ax=axes[0])


def test_histories_in_every_form() -> None:
    history = History()
    history.append({"loss": 0.5})
    history.append({"loss": 0.25})
    stored = json.loads(json.dumps({"epochs": 2, "history": {"loss": [0.5, None]}}))
    assert line(plot.curves(history).axes[0], "training")[1] == [0.5, 0.25]
    np.testing.assert_array_equal(line(plot.curves(stored).axes[0], "training")[1], [0.5, NAN])
    assert plot.curves({"loss": np.asarray([0.5, 0.25], np.float32)})


@pytest.mark.parametrize("history", [[1.0], {"loss": 3.0}, {"loss": ["a"]}, None])
def test_what_is_no_history(history: Any) -> None:
    with pytest.raises(DataError, match="curves: expected a History, or a dict of lists"):
        plot.curves(history)


@pytest.mark.parametrize("history", [History(), {}, {"loss": []}])
def test_an_empty_history(history: Any) -> None:
    with pytest.raises(DataError, match=r"the history has no epochs. Train first"):
        plot.curves(history)


# -------------------------------------------------------------------------- confusion matrix


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
@pytest.mark.parametrize("form", ["labels", "scores", "one-hot"])
def test_the_matrix_is_that_of_scikit_learn(normalize: Any, form: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    targets, predictions = rng.integers(0, 5, 200), rng.integers(0, 4, 200)
    expected = metrics.confusion_matrix(targets, predictions, normalize=normalize)
    given: dict[str, Any] = {
        "labels": (predictions, targets),
        "scores": (np.eye(5)[predictions] - 3.0, targets),
        "one-hot": (np.eye(5)[predictions], np.eye(5)[targets]),
    }
    figure = plot.confusion_matrix(*given[form], normalize=normalize)
    (ax,) = figure.axes
    np.testing.assert_allclose(drawn(ax), expected)
    shown = [f"{x}" if normalize is None else f"{x:.2f}" if x else "0" for x in expected.flat]
    assert texts(ax) == shown
    assert ax.get_title() == f"accuracy {100 * (targets == predictions).mean():.1f} % of 200"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "target")


def test_targets_are_in_rows_and_names_at_both_sides() -> None:
    figure = plot.confusion_matrix(np.array([1, 1, 1, 0]), np.array([0, 0, 1, 0]), ["cat", "dog"])
    ax = figure.axes[0]
    np.testing.assert_array_equal(drawn(ax), [[1, 2], [0, 1]])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["cat", "dog"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["cat", "dog"]
    assert [t.get_color() for t in ax.texts] == ["white", "white", "#9a9a9a", "white"]


def test_long_names_and_many_classes_are_readable() -> None:
    rng = np.random.default_rng(0)
    long = plot.confusion_matrix(Y[:90], Y[:90], [f"a long name of class {i}" for i in range(10)])
    assert not is_clipped(long)
    labels = rng.integers(0, 15, 2_000_000)
    some = plot.confusion_matrix(labels, labels)
    assert not is_clipped(some)
    renderer = some.canvas.get_renderer()
    left, right = (t.get_window_extent(renderer) for t in some.axes[0].texts[:2])
    assert left.x1 < right.x0
    many = plot.confusion_matrix(np.arange(60), np.arange(60))
    assert texts(many.axes[0]) == []
    assert len(many.axes) == 2  # a bar for the colours
    assert not is_clipped(many)


def test_classes_that_are_no_target_have_zeros() -> None:
    figure = plot.confusion_matrix(np.array([0, 2]), np.array([0, 0]), normalize="true")
    np.testing.assert_array_equal(drawn(figure.axes[0]), [[0.5, 0, 0.5], [0, 0, 0], [0, 0, 0]])


def test_matrices_that_are_none() -> None:
    with pytest.raises(ConfigError, match="'normalize' must be None or 'true', 'pred' or 'all'"):
        plot.confusion_matrix(Y, Y, normalize="rows")
    with pytest.raises(ShapeError, match=r"predictions \(N, classes\) or \(N,\) and then targets"):
        plot.confusion_matrix(Y[:3], np.ones((3, 10)))  # in the order of others
    with pytest.raises(ShapeError, match=r"got \(4,\) and \(3,\)"):
        plot.confusion_matrix(Y[:4], Y[:3])
    with pytest.raises(DataError, match="there are no examples"):
        plot.confusion_matrix(Y[:0], Y[:0])
    with pytest.raises(ConfigError, match=r"2 labels, but predictions of shape \(3, 10\) have 10"):
        plot.confusion_matrix(np.ones((3, 10)), Y[:3], ["a", "b"])
    with pytest.raises(DataError, match=r"must be in \[0, 1\]"):
        plot.confusion_matrix(Y[:9], Y[:9], ["a", "b"])


# ----------------------------------------------------------------------------------- pictures


def test_images_stand_in_a_grid() -> None:
    x = np.arange(1, 6, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32) / 5
    mosaic = drawn(plot.images(x, columns=3).axes[0])
    expected = np.full((5, 11), NAN)
    for i in range(5):
        top, left = 3 * (i // 3), 4 * (i % 3)
        expected[top : top + 2, left : left + 3] = (i + 1) / 5
    np.testing.assert_allclose(mosaic, expected, rtol=1e-6)
    assert drawn(plot.images(x).axes[0]).shape == (5, 11)  # three beside each other
    assert drawn(plot.images(x, n=2, columns=1).axes[0]).shape == (5, 3)


@pytest.mark.parametrize(
    ("shape", "image_shape", "drawn_shape"),
    [
        ((4, 36), None, (13, 13)),
        ((4, 36), (4, 9), (9, 19)),
        ((4, 6, 6, 1), None, (13, 13)),
        ((4, 6, 6, 3), None, (13, 13, 3)),
        ((4, 108), (6, 6, 3), (13, 13, 3)),
        ((4, 6, 6), (4, 9), (9, 19)),
    ],
)
def test_images_of_every_shape(shape: Any, image_shape: Any, drawn_shape: Any) -> None:
    x = make(shape, kind="uniform")
    assert drawn(plot.images(x, image_shape=image_shape).axes[0]).shape == drawn_shape


def test_ranges() -> None:
    x = make((1, 4, 4), kind="uniform")
    np.testing.assert_allclose(drawn(plot.images(x).axes[0]), x[0], rtol=1e-6)  # as it is
    assert drawn(plot.images(x * 8 - 4).axes[0]).min() == 0.0
    assert drawn(plot.images(x * 8 - 4).axes[0]).max() == 1.0
    grey = (x * 255).astype(np.uint8)
    np.testing.assert_allclose(drawn(plot.images(grey).axes[0]), grey[0] / 255)
    assert plot.images(np.full((1, 2, 2), 7.0))
    x[0, 0, 0] = NAN
    assert plot.images(x)._repr_png_()
    assert plot.images(np.full((1, 2, 2, 3), NAN))._repr_png_()


def test_reconstructions_stand_below_originals() -> None:
    x, z = X[:12], X[:12].reshape(-1, 64) * 2 - 0.5
    ax = plot.reconstructions(x, z, n=4).axes[0]
    mosaic = drawn(ax)
    np.testing.assert_allclose(mosaic[:8, :8], x[0], rtol=1e-6)
    np.testing.assert_allclose(mosaic[9:, 9:17], 2 * x[1] - 0.5, rtol=1e-5, atol=1e-6)
    assert mosaic.shape == (17, 35)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["original", "reconstruction"]
    assert list(ax.get_yticks()) == [3.5, 12.5]
    ax = plot.reconstructions(x, z, corrupted=x * 0).axes[0]
    np.testing.assert_array_equal(drawn(ax)[9:17, :8], 0)
    assert [t.get_text() for t in ax.get_yticklabels()][1] == "corrupted"
    assert drawn(ax).shape == (26, 89)  # ten of twelve
    for n in (1, 2, 10):
        assert not is_clipped(plot.reconstructions(x, z, n))


@pytest.mark.parametrize("draw", [plot.images, lambda x: plot.reconstructions(x, x)])
def test_what_is_no_image(draw: Any) -> None:
    with pytest.raises(ShapeError, match=r"35 numbers are no image of a known shape. Give image_"):
        draw(np.ones((2, 35)))
    with pytest.raises(ShapeError, match=r"expected images .* got shape \(2, 3, 8, 8\). Put the c"):
        draw(np.ones((2, 3, 8, 8)))
    with pytest.raises(ShapeError, match=r"expected images .* got shape \(8,\)"):
        draw(np.ones(8))
    with pytest.raises(DataError, match=r"there are no images, x has shape \(0, 8, 8\)"):
        draw(np.ones((0, 8, 8)))


def test_wrong_numbers_of_images() -> None:
    with pytest.raises(ShapeError, match=r"with that product, got \(5, 8\)"):
        plot.images(np.ones((2, 35)), image_shape=(5, 8))
    with pytest.raises(ShapeError, match=r"as many of each, got original \(2, 8, 8\), reconst"):
        plot.reconstructions(X[:2], X[:3])
    for options in ({"n": 0}, {"n": 2.5}, {"columns": -1}):
        with pytest.raises(ConfigError, match="must be a whole number of at least 1, got"):
            plot.images(X, **options)


# ------------------------------------------------------------------------------------ filters


def test_filters_of_a_dense_layer_are_its_columns() -> None:
    model = xpnn.Sequential([layers.Flatten(), layers.Dense(3), layers.Dense(2)])
    model(make((2, 2, 8)))
    weight = model[1].weight.data
    ax = plot.filters(model).axes[0]
    mosaic = drawn(ax)
    np.testing.assert_allclose(mosaic[:2, :8], weight[:, 0].reshape(2, 8), rtol=1e-6)
    np.testing.assert_allclose(mosaic[3:, :8], weight[:, 2].reshape(2, 8), rtol=1e-6)
    assert ax.get_title() == "Dense  (16, 3)"
    low, high = ax.images[0].get_clim()
    assert -low == high == pytest.approx(abs(weight).max())
    assert drawn(plot.filters(model, image_shape=(8, 2)).axes[0]).shape == (17, 5)
    assert drawn(plot.filters(weight).axes[0]).shape == (9, 9)  # squares, where nothing is known


def test_filters_of_shared_and_unsupervised_layers() -> None:
    coder = layers.AutoEncoder(4, visible=9)
    assert plot.filters(coder).axes[0].get_title() == "AutoEncoder  (9, 4)"
    assert plot.filters(layers.RBM(4, visible=9)).axes[0].get_title() == "RBM  (9, 4)"
    decoder = layers.Dense(9, weight=coder.weight, transposed=True)
    mosaic = drawn(plot.filters(decoder).axes[0])
    np.testing.assert_allclose(mosaic[:2, :2].ravel(), coder.weight.data[0], rtol=1e-6)


def test_kernels_of_one_channel_of_three_and_of_many() -> None:
    one = layers.Conv2D(4, (2, 3), in_channels=1)
    mosaic = drawn(plot.filters(one).axes[0])
    np.testing.assert_allclose(mosaic[3:5, 4:7], one.weight.data[:, :, 0, 3], rtol=1e-6)
    three = layers.Conv2D(4, 2, in_channels=3)
    figure = plot.filters(xpnn.Sequential([three]))
    mosaic, w = drawn(figure.axes[0]), three.weight.data
    np.testing.assert_allclose(mosaic[3:5, :2], 0.5 + 0.5 * w[..., 2] / abs(w).max(), rtol=1e-6)
    np.testing.assert_array_equal(mosaic[2], 1)
    assert len(figure.axes) == 1  # no bar for colours that are their own
    many = layers.Conv2D(3, 2, in_channels=5)
    ax = plot.filters(many).axes[0]
    np.testing.assert_allclose(drawn(ax)[3:5, 6:8], many.weight.data[:, :, 2, 1], rtol=1e-6)
    assert drawn(ax).shape == (8, 14)
    assert plot.filters(many, n=11).axes[0].get_title() == "Conv2D  (2, 2, 5, 3), 10 of 15"
    assert drawn(plot.filters(many, n=2).axes[0]).shape == (2, 5)
    turned = layers.ConvTranspose2D(3, 2, in_channels=5)
    assert plot.filters(turned).axes[0].get_title() == "ConvTranspose2D  (2, 2, 3, 5)"


def test_many_filters_are_counted() -> None:
    figure = plot.filters(make((9, 500)))
    assert figure.axes[0].get_title() == "(9, 500), 100 of 500"
    assert plot.filters(make((9, 500)), n=500).axes[0].get_title() == "(9, 500)"


def test_filters_that_are_zero_or_no_numbers() -> None:
    assert plot.filters(np.zeros((9, 4)))._repr_png_()
    w = make((9, 4))
    w[0, 0], w[1, 1] = NAN, INF
    ax = plot.filters(w).axes[0]
    assert math.isfinite(ax.images[0].get_clim()[1])
    assert ax.figure._repr_png_()
    assert plot.filters(np.full((2, 2, 3, 1), NAN))._repr_png_()


def test_what_has_no_filters() -> None:
    with pytest.raises(ConfigError, match=r"Sequential has no layer with a weight. If it is not b"):
        plot.filters(xpnn.Sequential([layers.Dense(3)]))
    with pytest.raises(ConfigError, match=r"first layer with a weight is Conv1D, whose weights ar"):
        plot.filters(xpnn.Sequential([layers.Conv1D(3, 2, in_channels=2)]))
    with pytest.raises(ShapeError, match=r"expected weights \(in, out\), or kernels .* got shape"):
        plot.filters(np.ones((2, 3, 4)))
    with pytest.raises(ShapeError, match=r"filters: 10 numbers are no image of a known shape"):
        plot.filters(layers.Dense(3, in_features=10))
    with pytest.raises(DataError, match=r"hold no filters"):
        plot.filters(np.ones((2, 2, 1, 0)))


# --------------------------------------------------------------------------------- histograms


def test_a_histogram_of_each_parameter() -> None:
    model = xpnn.Sequential([layers.Dense(8, in_features=16), layers.Dense(4, in_features=8)])
    figure = plot.weight_histograms(model)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["0.weight  (16, 8)", "0.bias  (8,)", "1.weight  (8, 4)", "1.bias  (4,)"]
    weight = model[0].weight.data
    assert texts(figure.axes[0]) == [f"{weight.mean():.3g} ± {weight.std():.3g}"]
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 128
    assert texts(figure.axes[1]) == ["0 ± 0", "100 % zero"]
    assert not is_clipped(figure)
    figure = plot.weight_histograms(model, ["1.bias"])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["1.bias  (4,)"]
    assert len(plot.weight_histograms(model, "1.bias").axes) == 1


def test_zeros_and_what_is_no_number_are_counted() -> None:
    layer = layers.Dense(100, in_features=100, bias=False)
    w = np.ones((100, 100), np.float32)
    w[:25] = 0
    w[99, 0], w[99, 1], w[99, 2:12] = NAN, -INF, INF
    layer.weight.data = w
    ax = plot.weight_histograms(layer).axes[0]
    assert texts(ax)[1:] == ["25 % zero", "< 0.1 % NaN", "0.11 % infinite"]
    assert [t.get_fontweight() for t in ax.texts] == ["normal", "normal", "bold", "bold"]
    layer.weight.data = np.full((100, 100), NAN)
    assert texts(plot.weight_histograms(layer).axes[0]) == ["100 % NaN"]
    layer.weight.data = w = np.zeros((100, 100))
    w[0, 0] = 1
    assert texts(plot.weight_histograms(layer).axes[0])[1] == "> 99.9 % zero"


def test_histograms_of_nothing() -> None:
    with pytest.raises(ConfigError, match=r"Dense has no parameters yet. Call it once, or fit it"):
        plot.weight_histograms(layers.Dense(2))
    layer = layers.Dense(2, in_features=2)
    for names in (["wait"], []):
        with pytest.raises(ConfigError, match="'names' must be some of weight, bias, got"):
            plot.weight_histograms(layer, names)


# -------------------------------------------------------------------------------- PlotHistory


def fitted(epochs: int = 5, **options: Any) -> xpnn.Sequential:
    model = xpnn.Sequential([layers.Dense(10, in_features=64)])
    model.compile("cross_entropy")
    model.fit(X[:40].reshape(-1, 64), Y[:40], epochs=epochs, verbose=0, **options)
    return model


def test_the_picture_grows_every_n_epochs_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, bool, Any]] = []
    monkeypatch.setattr(
        plot,
        "curves",
        lambda h, log, path: seen.append((h.epochs, log, path)) or Path(path).touch(),
    )
    path = tmp_path / "curves.png"
    fitted(callbacks=[PlotHistory(path, every=2, log=True)])
    assert seen == [(2, True, path), (4, True, path), (5, True, path)]
    seen.clear()
    fitted(epochs=2, callbacks=[PlotHistory(path, every=2)])
    assert [epochs for epochs, *_ in seen] == [2]


def test_a_file_is_written_in_a_program(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    fitted(epochs=2, callbacks=[PlotHistory(path)])
    assert imread(path).shape[2] == 4
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_a_resumed_run_shows_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xpnn.callbacks import Checkpoint

    seen: list[int] = []
    monkeypatch.setattr(plot, "curves", lambda h, log, path: seen.append(h.epochs))
    watch = PlotHistory(tmp_path / "curves.png")
    fitted(epochs=2, callbacks=[Checkpoint(tmp_path, monitor="loss"), watch], resume=tmp_path)
    fitted(epochs=4, callbacks=[Checkpoint(tmp_path, monitor="loss"), watch], resume=tmp_path)
    assert seen == [1, 2, 3, 4]


def test_without_notebook_and_path_there_is_nowhere_to_draw() -> None:
    with pytest.raises(ConfigError, match=r"there is no notebook here to draw in. Give a file to"):
        fitted(callbacks=[PlotHistory()])


@pytest.mark.parametrize("every", [0, 1.5, None])
def test_every_is_a_number_of_epochs(every: Any) -> None:
    with pytest.raises(ConfigError, match=r"PlotHistory: 'every' must be a whole number of epochs"):
        PlotHistory("a.png", every=every)


def test_a_missing_matplotlib_ends_training_before_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingLibraryError, match=r"PlotHistory needs matplotlib"):
        fitted(callbacks=[PlotHistory("a.png")])


def test_a_history_is_a_table_in_a_notebook() -> None:
    history = History()
    for epoch in range(12):
        history.append({"loss": 1 / (epoch + 1), **({"val_<b>": 0.5} if epoch > 9 else {})})
    html = history._repr_html_()
    assert html.startswith("<table><tr><th>epoch</th><th>loss</th><th>val_&lt;b&gt;</th></tr>")
    assert html.count("<tr>") == 11
    assert "<tr><td>3</td><td>0.3333</td><td>nan</td></tr>" in html
    assert html.endswith("<tr><td>12</td><td>0.08333</td><td>0.5</td></tr></table>")
    assert History()._repr_html_() == "<table><tr><th>epoch</th></tr></table>"


def test_a_notebook_shows_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(Path(xpnn.__file__).parent.parent))
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    cells = [
        "import numpy as np, xpnn\nfrom xpnn.callbacks import PlotHistory\n"
        "x, y = np.eye(4, dtype='float32'), np.arange(4)\n"
        "model = xpnn.Sequential([xpnn.layers.Dense(4)])\nmodel.compile('cross_entropy')\n"
        "history = model.fit(x, y, epochs=3, verbose=0, callbacks=[PlotHistory()])",
        "xpnn.plot.curves(history)",
        "model.summary()",
        "history",
        "import matplotlib.pyplot\nxpnn.plot.curves(history)",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    outputs = [copy.deepcopy(cell.outputs) for cell in book.cells]
    assert [[o.output_type for o in out] for out in outputs] == [
        ["display_data"],  # one picture, that was replaced
        *[["execute_result"]] * 4,
    ]
    kinds = [set(out[0].data) for out in outputs]
    assert kinds == [{"image/png", "text/plain"}] * 2 + [{"text/html", "text/plain"}] * 2 + [
        {"image/png", "text/plain"}
    ]
