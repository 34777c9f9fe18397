"""What does a question ask for? Embedding and convolution, and embedding and LSTM, on sentences.

Questions are put into the six classes of TREC (Li and Roth 2002): human, location, number,
description, entity, abbreviation. One network looks for phrases of two, three and four words
wherever they stand (Kim 2014), the other reads the sentence to its end. The small set of questions
in examples/data/questions.txt is tested on phrasings and words that were not trained. With the
files of TREC in a folder it learns those: 5,452 questions, and 500 to test.

    python examples/sentence_classification.py
    python examples/sentence_classification.py --trec folder   # train_5500.label, TREC_10.label

It takes 20 seconds on one core, and finds 0.87 of 295 unseen questions' types by convolution, 0.92
by LSTM; always saying the most frequent type would find 0.20.
"""

import argparse
import itertools
import os
import re
from pathlib import Path

import numpy as np

import xpnn
from xpnn import layers, optim
from xpnn.data import Vocabulary, split_words

QUICK = bool(os.environ.get("XPNN_QUICK"))  # a few steps, to see that it runs
PADDING, UNKNOWN, LENGTH = "-", "?", 16

options = argparse.ArgumentParser(description="Classify questions by what they ask for.")
options.add_argument("--trec", type=Path, help="a folder with train_5500.label and TREC_10.label")
options.add_argument("--epochs", type=int, default=12)
options = options.parse_args()
xpnn.set_seed(0)


def questions_from_templates(path):
    """Return (type, words) of the questions to learn from, and of those to test with."""
    gaps, found, kind, part = {}, {"train": [], "test": []}, None, "train"
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"(\{\w+\}) = (.*) \| (.*)", line):
            name, *parts = match.groups()
            gaps[name] = dict(zip(found, (p.split(", ") for p in parts), strict=True))
        elif line.startswith("["):
            kind, part = line.strip("[]"), "train"
        elif line.startswith("---"):
            part = "test"
        elif line and not line.startswith("#"):
            names = re.findall(r"\{\w+\}", line)
            # The test has words of its own; a few of the others are asked about in new ways.
            choices = [gaps[name][part] for name in names]
            if part == "test":
                choices = [gaps[n]["test"] + gaps[n]["train"][:3] for n in names]
            for words in itertools.product(*choices):
                if len(set(words)) == len(words):
                    text = line
                    for name, word in zip(names, words, strict=True):
                        text = text.replace(name, word, 1)
                    found[part].append((kind, text.split()))
    return found["train"], found["test"]


def questions_from_trec(folder):
    """Return (type, words) of TREC's questions: lines such as "NUM:date When did Hawaii ... ?"."""
    found = []
    for name in ("train_5500.label", "TREC_10.label"):
        lines = (folder / name).read_text(encoding="latin-1").splitlines()
        pairs = (line.split(" ", 1) for line in lines)
        found.append([(label.partition(":")[0], split_words(text)) for label, text in pairs])
    return found


here = Path(__file__).parent
if options.trec:
    train, test = questions_from_trec(options.trec)
else:
    train, test = questions_from_templates(here / "data" / "questions.txt")
if QUICK:
    train, test, options.epochs = train[::20], test[::20], 1

# Words that come once become "?", so that the network learns what to make of an unknown word.
words = Vocabulary.of(itertools.chain.from_iterable(w for _, w in train), min_count=2)
words = Vocabulary([PADDING, UNKNOWN, *words], unknown=UNKNOWN)
types = Vocabulary.of(kind for kind, _ in train)


def arrays(questions):
    """Return word ids of shape (questions, LENGTH), short rows filled up, and the labels."""
    rows = [(sentence + [PADDING] * LENGTH)[:LENGTH] for _, sentence in questions]
    return np.stack([words.encode(row) for row in rows]), types.encode(k for k, _ in questions)


def convolution():
    """Phrases of 2, 3 and 4 words; of each the place that fits best (Kim 2014)."""
    return xpnn.Sequential(
        [
            layers.Embedding(len(words), 64, padding_idx=0, weight_init=("normal", {"std": 0.3})),
            layers.Dropout(0.3),
            layers.Parallel(
                [
                    layers.Chain(
                        [layers.Conv1D(64, width, activation="relu"), layers.GlobalMaxPool()]
                    )
                    for width in (2, 3, 4)
                ]
            ),
            layers.Dropout(0.5),
            layers.Dense(len(types)),
        ]
    )


class Reader(xpnn.Model):
    """An LSTM in both directions; its mask says where a sentence has ended."""

    def __init__(self):
        super().__init__()
        self.embed = layers.Embedding(len(words), 64, weight_init=("normal", {"std": 0.3}))
        self.drop = layers.Dropout(0.4)
        self.read = layers.Bidirectional(layers.LSTM(64, return_sequences=False))
        self.out = layers.Dense(len(types))

    def forward(self, ids):
        h = self.read(self.drop(self.embed(ids)), mask=ids != 0)
        return self.out(self.drop(h))


(x, y), (x_test, y_test) = arrays(train), arrays(test)
print(f"{len(x)} questions to learn from, {len(x_test)} to test, {len(words)} words")
most = np.bincount(y_test).max() / len(y_test)
print(f"always the most frequent type: accuracy {most:.3f}")

for name, model in (("convolution", convolution()), ("LSTM", Reader())):
    steps = options.epochs * -(-len(x) // 32)
    schedule = optim.schedules.CosineWarmup(3e-3, total_steps=steps, warmup_steps=steps // 10)
    model.compile(loss="cross_entropy", optimizer=optim.Adam(schedule), metrics=["accuracy"])
    model.fit(x, y, batch_size=32, epochs=options.epochs, verbose=0)
    accuracy = model.evaluate(x_test, y_test)["accuracy"]
    print(f"{name}: accuracy {accuracy:.3f} on unseen questions")
    wrong = np.flatnonzero(model.predict(x_test).argmax(-1) != y_test)
    for i in wrong[:: max(1, len(wrong) // 3)][:3]:
        kind, sentence = test[i]
        guess = types.symbols[model.predict(x_test[i : i + 1]).argmax()]
        print(f'  "{" ".join(sentence)}?" asks for {kind}, it says {guess}')
    assert QUICK or accuracy > 0.8
