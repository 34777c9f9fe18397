"""Text as integers, and back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np  # text lies on the host

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.errors import ConfigError, DataError, DTypeError

__all__ = ["Vocabulary", "split_words"]

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


def split_words(text: str) -> list[str]:
    """Return the words of a text in small letters, without punctuation.

    A word is letters and digits, of any script; apostrophes and hyphens stay inside one.

    Examples
    --------
    >>> from xpnn.data import split_words
    >>> split_words("Thou art a fool, ta'en in the well-spring!")
    ['thou', 'art', 'a', 'fool', "ta'en", 'in', 'the', 'well-spring']
    """
    return _WORD.findall(text.lower())


class Vocabulary:
    """Symbols (characters or words) and the integers 0, 1, ... that stand for them.

    Parameters
    ----------
    symbols : iterable of str
        All different; the place of each is its integer. :meth:`of` makes a vocabulary from a text.
    unknown : str, optional
        The symbol, one of ``symbols``, that stands for all others; without it they are an error.

    Attributes
    ----------
    symbols : list of str
    unknown : str or None

    Raises
    ------
    DataError
        If there are no symbols, or one comes twice.
    ConfigError
        If ``unknown`` is none of them.

    Examples
    --------
    >>> from xpnn.data import Vocabulary
    >>> letters = Vocabulary.of("to be or not to be")
    >>> letters.symbols[:3], len(letters)
    ([' ', 'o', 't'], 7)
    >>> "".join(letters.decode(letters.encode("not to be")))
    'not to be'
    >>> words = Vocabulary.of("to be or not to be".split(), min_count=2, unknown="?")
    >>> words.symbols, words.encode(["to", "go"])
    (['?', 'be', 'to'], array([2, 0]))
    """

    def __init__(self, symbols: Iterable[str], unknown: str | None = None) -> None:
        self.symbols = list(symbols)
        self.unknown = unknown
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}
        if not self.symbols:
            msg = "Vocabulary: there are no symbols."
            raise DataError(msg)
        if len(self._index) < len(self.symbols):
            twice = next(s for s, count in Counter(self.symbols).items() if count > 1)
            msg = f"Vocabulary: {twice!r} is there twice. Vocabulary.of(text) takes each once."
            raise DataError(msg)
        if unknown is not None and unknown not in self._index:
            msg = f"Vocabulary: 'unknown' must be one of the symbols, got {unknown!r}."
            raise ConfigError(msg)

    @classmethod
    def of(
        cls,
        text: Iterable[str],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        unknown: str | None = None,
    ) -> Vocabulary:
        """Return the vocabulary of a text: the most frequent symbol first, equals by alphabet.

        Parameters
        ----------
        text : str or iterable of str
            A string is taken as its characters; for words give their list, as of
            :func:`split_words`.
        min_count : int
            Symbols that come less often are left out.
        max_size : int, optional
            How many symbols there are at most, ``unknown`` among them.
        unknown : str, optional
            A symbol for what is left out; it gets the integer 0.

        Raises
        ------
        DataError
            If nothing is left.
        ConfigError
            If ``unknown`` is a symbol of the text.
        """
        if max_size is not None and max_size < 1:
            msg = f"Vocabulary.of: 'max_size' must be at least 1, got {max_size!r}."
            raise ConfigError(msg)
        counts = Counter(text)
        if unknown is not None and unknown in counts:
            msg = f"Vocabulary.of: 'unknown' must not be in the text, but {unknown!r} is."
            raise ConfigError(msg)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [symbol for symbol, count in ranked if count >= min_count]
        if not kept:
            msg = (
                f"Vocabulary.of: none of {len(counts)} different symbols comes {min_count} times or"
                " more. Is the text empty, or 'min_count' too high?"
            )
            raise DataError(msg)
        symbols = kept if unknown is None else [unknown, *kept]
        return cls(symbols[:max_size], unknown)

    def encode(self, text: Iterable[str]) -> np.ndarray:
        """Return the integers of a text, an int64 array of shape (symbols in the text,).

        Raises
        ------
        DataError
            If a symbol is not in the vocabulary, and there is no ``unknown``.
        """
        try:
            if self.unknown is None:
                return np.fromiter((self._index[s] for s in text), np.int64)
            other = self._index[self.unknown]
            return np.fromiter((self._index.get(s, other) for s in text), np.int64)
        except KeyError as error:
            msg = (
                f"Vocabulary.encode: {error.args[0]!r} is none of the {len(self)} symbols. Make the"
                " vocabulary of all the text, or with a symbol for the others, unknown='?'."
            )
            raise DataError(msg) from None

    def decode(self, integers: Any) -> list[str]:
        """Return the symbols of integers of shape (n,), on any device; ``"".join`` makes a string.

        Raises
        ------
        DataError
            If a number is out of range, or there is more than one axis.
        DTypeError
            If they are no integers.
        """
        found = np.asarray(backend.to_numpy(integers))
        if found.size and as_dtype(found.dtype).kind not in "iu":
            msg = f"Vocabulary.decode: expected integers, got {as_dtype(found.dtype)}."
            raise DTypeError(msg)
        if found.ndim != 1:
            msg = f"Vocabulary.decode: expected shape (n,), got {found.shape}. Decode row by row."
            raise DataError(msg)
        if found.size and not 0 <= found.min() <= found.max() < len(self):
            msg = (
                f"Vocabulary.decode: expected integers in [0, {len(self)}), got"
                f" {found.min()} to {found.max()}."
            )
            raise DataError(msg)
        return [self.symbols[i] for i in found.tolist()]

    def __len__(self) -> int:
        return len(self.symbols)

    def __iter__(self) -> Iterator[str]:
        return iter(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._index

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.symbols[:4]))
        more = ", ..." if len(self) > 4 else ""
        return f"Vocabulary({len(self)} symbols: {shown}{more})"
