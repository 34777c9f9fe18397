"""Pictures of pictures: examples, reconstructions, and the filters of a first layer."""

from __future__ import annotations

import math
import os
from typing import Any

from xpnn.backend import array_namespace, to_numpy, unwrap
from xpnn.errors import ConfigError, DataError, ShapeError
from xpnn.layers import Conv2D, ConvPool2D, ConvTranspose2D, Dense, Layer, Unsupervised
from xpnn.plot._figure import axes_for, finished

__all__ = ["filters", "images", "reconstructions"]

Array = Any
Path = str | os.PathLike[str]


def images(
    x: Array,
    n: int = 100,
    *,
    columns: int | None = None,
    image_shape: tuple[int, ...] | None = None,
    path: Path | None = None,
    ax: Any = None,
) -> Any:
    """Draw the first images of an array in a grid: data, or samples of a generator.

    Parameters
    ----------
    x : array of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), or (N, H W)
        From 0 to 1, bytes, or any range, which is then scaled as a whole.
    n : int
        How many are drawn at most.
    columns : int, optional
        How many stand in a row; as many as make a square if not given.
    image_shape : tuple of ints, optional
        (H, W) or (H, W, 3) of flattened images that are not square.
    path : path, optional
        A file to write.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If x holds no images, or flattened ones of a shape that is not known.
    DataError
        If there are none.

    Examples
    --------
    >>> from xpnn import datasets, plot
    >>> x, _ = datasets.load_digits()
    >>> figure = plot.images(x, n=20, columns=10)
    """
    pictures = _pictures("images", x, image_shape, _count("images", "n", n))
    columns = _count("images", "columns", columns or math.ceil(math.sqrt(len(pictures))))
    mosaic, _ = _mosaic(_greys(pictures, *_range(pictures)), columns)
    rows = math.ceil(len(pictures) / columns)
    (ax,) = axes_for("images", ax, 1, (0.3 + 0.6 * columns, 0.3 + 0.6 * rows), layout="compressed")
    _show(ax, mosaic)
    return finished("images", [ax], path)


def reconstructions(
    x: Array,
    x_hat: Array,
    n: int = 10,
    *,
    corrupted: Array | None = None,
    image_shape: tuple[int, ...] | None = None,
    path: Path | None = None,
    ax: Any = None,
) -> Any:
    """Draw originals, and below each what a model made of it.

    Parameters
    ----------
    x, x_hat : array of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), or (N, H W)
        Images and their reconstructions; either may be flattened.
    n : int
        How many of the first are drawn at most.
    corrupted : array, optional
        What the model saw, for a row between the two.
    image_shape : tuple of ints, optional
        (H, W) or (H, W, 3), if all are flattened and not square.
    path : path, optional
        A file to write.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If they are no images, or not as many of one shape.
    DataError
        If there are none.

    Notes
    -----
    All have the range of x, so that what is too dark or too bright looks so.

    Examples
    --------
    >>> from xpnn import datasets, plot
    >>> x, _ = datasets.load_digits()
    >>> figure = plot.reconstructions(x, x.reshape(-1, 64) * 0.5)
    """
    who = "reconstructions"
    n = _count(who, "n", n)
    rows = {"original": x, "corrupted": corrupted, "reconstruction": x_hat}
    given = {name: to_numpy(unwrap(part)) for name, part in rows.items() if part is not None}
    if image_shape is None:  # of the first that is not flattened
        image_shape = next((part.shape[1:] for part in given.values() if part.ndim > 2), None)
    numbers = {name: part.shape[:1] for name, part in given.items()}
    if len(set(numbers.values())) > 1:
        said = ", ".join(f"{name} {part.shape}" for name, part in given.items())
        msg = f"{who}: expected as many of each, got {said}."
        raise ShapeError(msg)
    pictures = {name: _pictures(who, part, image_shape, n) for name, part in given.items()}
    low, high = _range(pictures["original"])
    parts = [_greys(part, low, high) for part in pictures.values()]
    xp = array_namespace(parts[0])
    columns = len(parts[0])
    mosaic, places = _mosaic(xp.concat(parts, axis=0), columns)
    (ax,) = axes_for(
        who, ax, 1, (1.4 + 0.75 * columns, 0.3 + 0.75 * len(parts)), layout="compressed"
    )
    _show(ax, mosaic)
    ax.set_yticks(places, list(pictures))
    return finished(who, [ax], path)


def filters(
    model: Layer | Array,
    n: int = 100,
    *,
    image_shape: tuple[int, ...] | None = None,
    path: Path | None = None,
    ax: Any = None,
) -> Any:
    """Draw the weights of a first layer as pictures: what each unit looks for.

    Red is positive and blue negative, on one scale that is symmetric about 0; kernels over three
    channels are pictures in colour, in which grey is 0.

    Parameters
    ----------
    model : Layer or array
        A layer, or a model whose first layer with a ``weight`` is taken: Dense, AutoEncoder and
        RBM of shape (in, out), Conv2D of shape (kh, kw, in, out). Or such an array.
    n : int
        How many pictures are drawn at most.
    image_shape : tuple of ints, optional
        (H, W) or (H, W, 3), into which the inputs of a dense layer are arranged. If not given, the
        shape with which the model was called, or else a square.
    path : path, optional
        A file to write.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ConfigError
        If the model has no such layer, or is not built yet.
    ShapeError
        If the weights are no pictures, or dense ones of a shape that is not known.

    Notes
    -----
    Kernels over other numbers of channels than one and three are drawn channel by channel: a row a
    filter, a column a channel.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import layers
    >>> figure = xpnn.plot.filters(layers.Conv2D(8, 5, in_channels=1))
    >>> figure.axes[0].get_title()
    'Conv2D  (5, 5, 1, 8)'
    """
    n = _count("filters", "n", n)
    name, weights, seen = "", model, None
    if isinstance(model, Layer):
        name, weights, seen = _first(model)
    weights = to_numpy(unwrap(weights))
    columns = None
    if weights.ndim == 2:
        shape = image_shape if image_shape is not None else _fitting(seen, weights.shape[0])
        pictures = _pictures("filters", weights.T, shape, n)
        total = weights.shape[1]
    elif weights.ndim == 4:
        pictures, columns, total = _kernels(weights, n)
    else:
        msg = (
            "filters: expected weights (in, out), or kernels (kh, kw, in, out), got shape"
            f" {weights.shape}."
        )
        raise ShapeError(msg)
    if not len(pictures):
        msg = f"filters: weights of shape {weights.shape} hold no filters."
        raise DataError(msg)
    xp = array_namespace(pictures)
    finite = xp.where(xp.isfinite(pictures), pictures, xp.zeros_like(pictures))
    limit = float(xp.max(xp.abs(finite))) or 1.0
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    (ax,) = axes_for(
        "filters", ax, 1, (max(0.9 + 0.55 * columns, 3.2), 0.6 + 0.55 * rows), layout="compressed"
    )
    in_colour = pictures.ndim == 4
    mosaic, _ = _mosaic(0.5 + 0.5 * pictures / limit if in_colour else pictures, columns)
    drawn = _show(ax, mosaic, cmap="RdBu_r", vmin=-limit, vmax=limit)
    if not in_colour:
        ax.figure.colorbar(drawn, ax=ax, shrink=0.8)
    some = f", {len(pictures)} of {total}" if len(pictures) < total else ""
    ax.set_title(f"{name}  {tuple(weights.shape)}{some}".strip(), fontsize="medium")
    return finished("filters", [ax], path)


# ------------------------------------------------------------------------------ the weights


def _first(model: Any) -> tuple[str, Any, tuple[int, ...] | None]:
    """Return name, weight and known input shape of the first layer that has a weight."""
    for layer in model.layers():
        weight = vars(layer).get("weight")
        if weight is None:
            continue
        kind = type(layer).__name__
        if not isinstance(layer, (Dense, Unsupervised, Conv2D, ConvPool2D, ConvTranspose2D)):
            msg = (
                f"filters: the first layer with a weight is {kind}, whose weights are no pictures."
                " Give the layer that is meant, such as model[1], or an array."
            )
            raise ConfigError(msg)
        shapes = model._shapes or ()
        used = layer._used_weight() if isinstance(layer, Dense) else weight
        return kind, used, tuple(shapes[0][1:]) if shapes else None
    msg = (
        f"filters: {type(model).__name__} has no layer with a weight. If it is not built yet, call"
        " it once, or fit it."
    )
    raise ConfigError(msg)


def _fitting(seen: tuple[int, ...] | None, features: int) -> tuple[int, ...] | None:
    """Return the shape of what a model was called with if it is that of images of so many."""
    if seen is None or math.prod(seen) != features:
        return None
    is_image = len(seen) == 2 or (len(seen) == 3 and seen[-1] in (1, 3))
    return seen if is_image else None


def _kernels(weights: Any, n: int) -> tuple[Any, int | None, int]:
    """Return kernels as pictures, their columns if that matters, and how many there are."""
    xp = array_namespace(weights)
    _, _, channels, out = weights.shape
    if channels == 3:
        return xp.permute_dims(weights, (3, 0, 1, 2))[:n], None, out
    shown = min(channels, n)
    rows = min(out, max(n // max(shown, 1), 1))
    some = xp.permute_dims(weights, (3, 2, 0, 1))[:rows, :shown]
    columns = None if channels == 1 else shown
    return xp.reshape(some, (-1, *weights.shape[:2])), columns, channels * out


# ----------------------------------------------------------------------------- the pictures


def _count(who: str, name: str, value: Any) -> int:
    if not hasattr(value, "__index__") or value < 1:
        msg = f"{who}: {name!r} must be a whole number of at least 1, got {value!r}."
        raise ConfigError(msg)
    return int(value)


def _pictures(who: str, x: Any, image_shape: tuple[int, ...] | None, n: int) -> Any:
    """Return the first images as (n, H, W) or (n, H, W, 3), on the host, of floats."""
    x = to_numpy(unwrap(x))
    xp = array_namespace(x)
    given = x.shape
    if x.ndim and not x.shape[0]:
        msg = f"{who}: there are no images, x has shape {given}."
        raise DataError(msg)
    if x.ndim == 2 or (image_shape is not None and x.ndim > 1):
        features = math.prod(given[1:])
        side = math.isqrt(features)
        if image_shape is None and side * side == features:
            image_shape = (side, side)
        if image_shape is None or math.prod(image_shape) != features:
            got = "" if image_shape is None else f", got {tuple(image_shape)}"
            msg = (
                f"{who}: {features} numbers are no image of a known shape. Give"
                f" image_shape=(height, width), or (height, width, 3), with that product{got}."
            )
            raise ShapeError(msg)
        x = xp.reshape(x[:n], (-1, *image_shape))
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.ndim != 3 and (x.ndim != 4 or x.shape[-1] != 3):
        msg = (
            f"{who}: expected images (N, H, W), (N, H, W, 1) or (N, H, W, 3), or flattened ones"
            f" (N, H W), got shape {given}."
        )
        if x.ndim == 4 and x.shape[1] in (1, 3):
            msg += " Put the channels last, with xpnn.ops.moveaxis(x, 1, -1)."
        raise ShapeError(msg)
    bytes_ = x.dtype == xp.uint8
    x = xp.astype(x[:n], xp.float64)
    return x / 255 if bytes_ else x


def _range(pictures: Any) -> tuple[float, float]:
    """Return what is black and what is white: 0 and 1, unless values go beyond."""
    xp = array_namespace(pictures)
    finite = pictures[xp.isfinite(pictures)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(xp.min(finite)), float(xp.max(finite))
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, low + 1e-12))


def _greys(pictures: Any, low: float, high: float) -> Any:
    return (pictures - low) / (high - low)


def _mosaic(pictures: Any, columns: int) -> tuple[Any, list[float]]:
    """Return pictures side by side, with gaps of NaN, and the heights of their rows' middles."""
    xp = array_namespace(pictures)
    count, height, width = pictures.shape[:3]
    rows = math.ceil(count / columns)
    gap = max(1, round(0.05 * max(height, width)))
    tall, broad = height + gap, width + gap
    shape = (rows * tall - gap, columns * broad - gap, *pictures.shape[3:])
    mosaic = xp.full(shape, math.nan)
    for i in range(count):
        top, left = i // columns * tall, i % columns * broad
        mosaic[top : top + height, left : left + width] = pictures[i]
    return mosaic, [row * tall + (height - 1) / 2 for row in range(rows)]


def _show(ax: Any, mosaic: Any, **options: Any) -> Any:
    """Draw a mosaic without axes; what is NaN is white, as the gaps are."""
    if mosaic.ndim == 3:
        xp = array_namespace(mosaic)
        mosaic = xp.where(xp.isnan(mosaic), xp.ones_like(mosaic), mosaic.clip(0, 1))
        options = {}
    drawn = ax.imshow(
        mosaic, interpolation="nearest", **(options or {"cmap": "gray", "vmin": 0, "vmax": 1})
    )
    ax.set_xticks([])
    ax.set_yticks([])
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    return drawn
