"""Word vectors: skip-gram and CBOW with negative sampling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xpnn import backend, datasets, initializers, layers, optim, random
from xpnn import functional as F
from xpnn._names import hint
from xpnn.backend import array_namespace, device_of, unwrap
from xpnn.data import Vocabulary, split_words
from xpnn.errors import ConfigError, DataError, ShapeError
from xpnn.layers.checks import integers
from xpnn.random import get_rng
from xpnn.training import Model
from xpnn.zoo.data import Splits
from xpnn.zoo.generative import only_x
from xpnn.zoo.recipe import recipe

__all__ = ["Word2Vec", "text", "word2vec"]

Array = Any

_NOISE = 64  # noise words of a row, which all its pairs share
_LENGTH = 64  # words of a row
_RARE = 5  # words that come less often in a text are left out


class Word2Vec(Model):
    r"""Vectors of words that share their neighbours are neighbours (Mikolov et al. 2013).

    A word w has a vector :math:`e_w` and, as the context of others, a vector :math:`o_w`. Of every
    pair of a word i and a word j not far from it, skip-gram learns to tell j from noise:

    .. math:: \ell_{ij} = -\log \sigma(e_i \cdot o_j)
              - K \, E_{k \sim q}\left[\log \sigma(-e_i \cdot o_k)\right], \qquad
              q_w \propto n_w^{3/4}

    CBOW takes the mean of :math:`e_j` over the neighbours j in place of :math:`e_i`, and
    :math:`o_i` in place of :math:`o_j`: the word from those around it.

    Parameters
    ----------
    counts : dict of int by word
        The vocabulary, and how often each word comes; :meth:`of` counts a text.
    size : int
        The length of a vector.
    window : int
        How far neighbours are at most. For each word it is drawn anew from 1 to ``window``.
    negatives : int
        K.
    subsample : float
        t: a word whose share of the text is f is passed over with probability
        :math:`1 - \sqrt{t / f}`; 0 passes over none.
    skip_gram : bool
        False: CBOW.

    Attributes
    ----------
    words : list of str
    embedding, context : Embedding
        The vectors e and o.

    Notes
    -----
    ``fit(x)`` takes the rows that :meth:`encode` makes of a text, integers (N, length); -1 fills a
    row up. Windows and words to be passed over are drawn in every step, and do not reach beyond a
    row. ``word2vec.c`` draws K noise words a pair; here all pairs of a row share 64, which estimate
    the same mean, and make scores a product of matrices (Ji et al. 2016). Words that are passed
    over still separate others, where ``word2vec.c`` closes the gap.

    Called on integers (...) it returns their vectors, (..., size), zeros for -1.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim, zoo
    >>> xpnn.set_seed(0)
    >>> text = ("the cat sat " * 20 + "a dog ran " * 20).split()
    >>> model = zoo.Word2Vec.of(text, size=8, subsample=0.0)
    >>> model.compile(optimizer=optim.Adam(0.05))
    >>> history = model.fit(model.encode(text), epochs=30, verbose=0)
    >>> sorted(word for word, _ in model.most_similar("cat", 2))
    ['sat', 'the']
    """

    buffers = ("kept",)

    def __init__(
        self,
        counts: Mapping[str, int],
        size: int = 100,
        window: int = 5,
        negatives: int = 5,
        subsample: float = 1e-3,
        skip_gram: bool = True,
    ) -> None:
        super().__init__()
        self.size, self.window, self.negatives = integers(
            "Word2Vec", size=size, window=window, negatives=negatives
        )
        if not subsample >= 0.0:
            msg = f"Word2Vec: 'subsample' must not be negative, got {subsample}."
            raise ConfigError(msg)
        self._vocabulary = Vocabulary(counts)
        found = list(counts.values())
        self._noise = random.Discrete([n**0.75 for n in found])
        self.skip_gram = skip_gram
        start = initializers.Uniform(-0.5 / self.size, 0.5 / self.size)
        self.embedding = layers.Embedding(len(found), self.size, weight_init=start)
        self.context = layers.Embedding(len(found), self.size, weight_init="zeros")
        share = subsample * sum(found) if subsample else float("inf")
        self.kept = backend.asarray([min(1.0, (share / n) ** 0.5) if n else 1.0 for n in found])

    @classmethod
    def of(cls, words: Iterable[str], *, min_count: int = 1, **options: Any) -> Word2Vec:
        """Return a model, not trained yet, of the words that come often enough in a text.

        Parameters
        ----------
        words : iterable of str
            Such as :func:`xpnn.data.split_words` makes of a text.
        min_count : int
            Words that come less often are left out.
        **options
            Of the class.
        """
        return cls(_counts(words, min_count), **options)

    @property
    def words(self) -> list[str]:
        """The vocabulary; the place of a word is its number."""
        return self._vocabulary.symbols

    def encode(self, words: Iterable[str], *, length: int = _LENGTH) -> Array:
        """Return words as rows of their numbers, (N, length); others are left out.

        The last row is filled up with -1. For sentences that should not see one another, encode
        each by itself, and concatenate the rows.

        Raises
        ------
        DataError
            If no word is left.
        """
        (length,) = integers("Word2Vec.encode", 2, length=length)
        found = self._vocabulary.encode(w for w in words if w in self._vocabulary)
        if not len(found):
            msg = f"Word2Vec.encode: none of the words is among the {len(self.words)} of the model."
            raise DataError(msg)
        xp = array_namespace(found)
        fill = xp.full(-len(found) % length, -1, dtype=found.dtype)
        return xp.reshape(xp.concat([found, fill]), (-1, length))

    def vector(self, word: str) -> Array:
        """Return the vector of a word: a raw array (size,).

        Raises
        ------
        ConfigError
            If it is not in the vocabulary.
        """
        if word not in self._vocabulary:
            msg = (
                f"Word2Vec: {word!r} is not among the {len(self.words)} words of the model."
                f"{hint(word, self.words)}"
            )
            raise ConfigError(msg)
        return unwrap(self.embedding.weight)[int(self._vocabulary.encode([word])[0]), :]

    def most_similar(self, word: str | Array, n: int = 10) -> list[tuple[str, float]]:
        r"""Return the n words whose vectors have the largest cosines with that of a word.

        .. math:: \cos(e_w, e_v) = \frac{e_w \cdot e_v}{\lVert e_w \rVert \lVert e_v \rVert}

        Parameters
        ----------
        word : str or array of shape (size,)
            A word, which is not among the result, or any vector, such as
            ``m.vector("king") - m.vector("man") + m.vector("woman")``.
        n : int

        Returns
        -------
        list of (word, cosine)
            The most similar first.
        """
        (n,) = integers("Word2Vec.most_similar", n=n)
        table = unwrap(self.embedding.weight)
        vector = self.vector(word) if isinstance(word, str) else unwrap(word)
        if tuple(vector.shape) != (self.size,):
            msg = (
                f"Word2Vec.most_similar: expected a vector of shape ({self.size},), got shape"
                f" {tuple(vector.shape)}."
            )
            raise ShapeError(msg)
        xp = array_namespace(table)
        norms = xp.sqrt(xp.sum(table * table, axis=1)) * xp.sqrt(xp.sum(vector * vector))
        cosines = backend.to_numpy((table @ vector) / xp.where(norms > 0, norms, 1.0)).tolist()
        ranked = sorted(zip(self.words, cosines, strict=True), key=lambda pair: -pair[1])
        if isinstance(word, str):
            ranked = [pair for pair in ranked[: n + 1] if pair[0] != word]
        return ranked[:n]

    def forward(self, ids: Array) -> Array:
        ids, present = _present(ids)
        vectors = self.embedding(ids)
        return array_namespace(vectors).where(present[..., None], vectors, 0.0)

    def objective(self, batch: Any) -> tuple[Array, dict[str, Array]]:
        ids, present = _present(only_x(self, batch))
        vectors, contexts = self.embedding(ids), self.context(ids)  # (N, T, size)
        pairs, noise = self._drawn(ids, present)
        xp = array_namespace(pairs)
        ops = array_namespace(vectors)
        neighbours = xp.sum(pairs, axis=2)  # (N, T)
        if self.skip_gram:
            hidden, weight = vectors, neighbours
            scores = hidden @ ops.permute_dims(contexts, (0, 2, 1))  # (N, T, T)
            hits = F.softplus(-scores) * pairs
        else:
            hidden = ops.matmul(pairs / xp.maximum(neighbours, 1.0)[..., None], vectors)
            weight = xp.astype(neighbours > 0, pairs.dtype)
            hits = F.softplus(-ops.sum(hidden * contexts, axis=2)) * weight
        against = hidden @ ops.permute_dims(self.context(noise), (0, 2, 1))  # (N, T, 64)
        misses = ops.mean(F.softplus(against), axis=2) * (self.negatives * weight)
        return (ops.sum(hits) + ops.sum(misses)) / xp.maximum(xp.sum(weight), 1.0), {}

    def _drawn(self, ids: Array, present: Array) -> tuple[Array, Array]:
        """Return which words of a row are pairs, 1 or 0, (N, T, T), and its noise, (N, 64)."""
        if ids.ndim != 2:
            msg = f"Word2Vec: expected rows of words (N, length), got shape {tuple(ids.shape)}."
            raise ShapeError(msg)
        xp, home = array_namespace(ids), device_of(ids)
        n, length = ids.shape
        kept = xp.reshape(xp.take(self.kept, xp.reshape(ids, (-1,)), axis=0), (n, length))
        rng = get_rng()
        present = present & (rng.uniform((n, length), dtype=kept.dtype, device=home) < kept)
        reach = rng.integers(1, self.window + 1, (n, length), device=home)
        noise = self._noise.draw((n, _NOISE), device=home)
        place = xp.arange(length, dtype=reach.dtype, device=home.native)
        far = xp.abs(place[:, None] - place[None, :])
        near = (far[None, ...] > 0) & (far[None, ...] <= reach[..., None])
        pairs = near & present[:, :, None] & present[:, None, :]
        return xp.astype(pairs, kept.dtype), noise


def _present(ids: Array) -> tuple[Array, Array]:
    """Return numbers that can be looked up, and where there are words."""
    raw = unwrap(ids)
    xp = array_namespace(raw)
    return xp.where(raw < 0, xp.zeros_like(raw), raw), raw >= 0


def _counts(words: Iterable[str], min_count: int) -> dict[str, int]:
    """Return how often each word comes, the most frequent first."""
    words = list(words)
    vocabulary = Vocabulary.of(words, min_count=min_count)
    counts = dict.fromkeys(vocabulary, 0)
    for word in words:
        if word in counts:
            counts[word] += 1
    return counts


class _Corpus(Splits):
    """Rows of words, whose classes are the words."""

    counts: dict[str, int]

    @property
    def classes(self) -> Any:
        """How often each word comes, in place of their number."""
        return self.counts


def text(name: str) -> Splits:
    """Return a text as rows of 64 words: nine tenths, a twentieth and a twentieth of it, in order.

    Its ``classes`` are the words that come five times or more in the first part, and how often they
    do; other words are left out.

    Parameters
    ----------
    name : str
        "shakespeare", or the path of a text in UTF-8, ``*.txt``.

    Raises
    ------
    ConfigError
        If there is no text of that name.
    DataError
        If it cannot be read, or is too short.
    """
    if name == "shakespeare":
        words = split_words(datasets.load_shakespeare())
    elif name.endswith(".txt"):
        try:
            words = split_words(Path(name).read_text(encoding="utf-8"))
        except OSError as error:
            msg = f"{name}: this text cannot be read: {error.strerror}."
            raise DataError(msg) from error
        except UnicodeDecodeError as error:
            msg = f"{name}: expected a text in UTF-8: {error}."
            raise DataError(msg) from error
    else:
        msg = f"no text is called {name!r}; there is shakespeare, and files *.txt."
        raise ConfigError(msg)
    a, b = len(words) * 9 // 10, len(words) * 19 // 20
    try:
        model = Word2Vec.of(words[:a], min_count=_RARE, size=1)
        parts = [model.encode(part) for part in (words[:a], words[a:b], words[b:])]
    except DataError as error:
        msg = f"{name}: too short to learn from, {len(words)} words. {error}"
        raise DataError(msg) from error
    found = _Corpus(*((part, None) for part in parts))
    found.counts = model._config["counts"]
    return found


@recipe(epochs=20, batch_size=16, data=text, dataset="shakespeare")
def word2vec(
    shape: tuple[int, ...],
    classes: Mapping[str, int],
    *,
    lr: float = 2e-3,
    size: int = 100,
    window: int = 5,
    negatives: int = 5,
    subsample: float = 1e-3,
    skip_gram: bool = True,
) -> Word2Vec:
    """Word vectors by skip-gram with negative sampling, of Shakespeare's plays.

    The settings of word2vec.c (Mikolov et al. 2013): vectors of 100, windows of up to 5 words, 5
    noise words, subsampling at 1e-3. Different: Adam in place of gradient descent with a rate that
    falls. numpy-ml's ``Word2Vec`` is CBOW by default (``skip_gram=false``), with vectors of 300
    and 64 noise words, and leaves out stop words in place of subsampling.

    Parameters
    ----------
    shape : tuple of int
        Of a row of words, (length,).
    classes : dict
        How often each word comes.
    lr : float
        Of Adam.
    size, window, negatives, subsample, skip_gram
        As for :class:`Word2Vec`.

    Returns
    -------
    Word2Vec
        Compiled. After ``xpnn train word2vec``, ``xpnn.load("runs/word2vec/model.safetensors")`` is
        one that knows its words: ``model.most_similar("king")``.
    """
    model = Word2Vec(classes, size, window, negatives, subsample, skip_gram)
    model.compile(optimizer=optim.Adam(lr))
    return model
