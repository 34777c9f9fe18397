"""A chatbot: sequence to sequence with attention, trained on a small talk.

The encoder reads what was said, word by word, in both directions. The decoder writes the answer: at
every word it looks at what was said by dot-product attention (Luong, Pham and Manning 2015). In
training it is shown the right answer so far ("teacher forcing"), all steps at once; when it
talks, its own words, one step at a time.

The dialogues in examples/data/dialogues.txt are exchanges with gaps. Every fifth is kept for the
test: the capital of France was asked for in other words, and that of Italy in these; of five ways
to ask "who are you?" four were learnt.

    python examples/chatbot.py          # trains, tests, saves chatbot.safetensors
    python examples/chatbot.py --talk   # talks in the terminal, with the saved one if there is one
    python examples/chatbot.py --talk --temperature 0.7

It takes 45 seconds on one core. Then all of 553 trained answers are right, word for word, and 122
of 133 held out: 111 of 117 with gaps, 11 of 16 phrases that were not learnt in any form.
"""

import argparse
import contextlib
import os
import re
from pathlib import Path

import numpy as np

import xpnn
from xpnn import layers, optim, random
from xpnn.data import Vocabulary, split_words

QUICK = bool(os.environ.get("XPNN_QUICK"))  # a few steps, to see that it runs
PADDING, UNKNOWN, START, END = "<padding>", "<unknown>", "<start>", "<end>"
LENGTH = 14  # of what is said and of answers, in words

options = argparse.ArgumentParser(description="Train a chatbot, or talk with it.")
options.add_argument("--talk", action="store_true", help="talk with it in the terminal")
options.add_argument("--temperature", type=float, default=0.0, help="0: always the likeliest word")
options.add_argument("--epochs", type=int, default=40)
options.add_argument("--model", type=Path, default=Path("chatbot.safetensors"))
options = options.parse_args()
xpnn.set_seed(0)
# xpnn.set_device("cuda")  # the one line that moves all of this to an NVIDIA GPU


def load_dialogues(path):
    """Return exchanges (what is said, what is answered) to learn, and those kept for the test."""
    tables, learnt, held_out = {}, [], []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if not lines:
            continue
        if " : " in lines[0]:  # rows for gaps, such as "country capital : peru lima"
            for line in lines:
                names, _, rows = line.partition(" : ")
                names = tuple(names.split())
                # "the sky blue" is two words to fill in: the last one, and the rest.
                table = tables.setdefault(names, [])
                table += [row.rsplit(" ", len(names) - 1) for row in rows.split(" | ")]
            continue
        *said, answer = lines
        gaps = re.findall(r"{(\w+)}", " ".join(lines))
        names = next((names for names in tables if gaps and set(gaps) <= set(names)), ())
        for i, text in enumerate(said):
            for j, row in enumerate(tables.get(names, [()])):
                fill = dict(zip(names, row, strict=True))
                # Every row is learnt in most phrasings, every phrasing with most of the rows.
                part = held_out if (i + j) % 5 == 4 else learnt
                part.append((text.format(**fill), answer.removeprefix("= ").format(**fill)))
    return learnt, held_out


class Chatbot(xpnn.Model):
    """Logits of the next word of an answer: (N, T) and (N, U) integers -> (N, U, words).

    The words are part of its configuration, so a file of it is all that is needed to talk.
    """

    def __init__(self, words, size=128):
        super().__init__()
        self.words = Vocabulary(words, unknown=UNKNOWN)
        self.embed = layers.Embedding(len(words), 64, weight_init=("normal", {"std": 0.3}))
        self.drop = layers.Dropout(0.3)
        self.read = layers.Bidirectional(layers.GRU(size // 2, return_state=True))
        self.write = layers.GRU(size, return_state=True)
        self.attend = layers.DotProductAttention()
        self.combine = layers.Dense(size, activation="tanh")
        self.out = layers.Dense(len(words))

    def encode(self, said):
        """Return what the decoder looks at: a vector for each word, which count, a summary."""
        mask = said != 0
        memory, there, back = self.read(self.drop(self.embed(said)), mask=mask)
        return memory, mask, xpnn.ops.concat([there, back], axis=-1)

    def decode(self, answer, memory, mask, state):
        """Return logits of the word after each of the answer, and the state after the last."""
        h, state = self.write(self.drop(self.embed(answer)), state)
        seen = self.attend(h, memory, memory, mask=mask[:, None, :])
        both = xpnn.ops.concat([h, seen], axis=-1)
        return self.out(self.drop(self.combine(both))), state

    def forward(self, said, answer):
        logits, _ = self.decode(answer, *self.encode(said))
        return logits

    def ids(self, texts):
        """Return lists of words as rows of ids, (texts, LENGTH)."""
        rows = [list(text)[:LENGTH] for text in texts]
        return np.stack([self.words.encode(row + [PADDING] * (LENGTH - len(row))) for row in rows])

    def reply(self, texts, temperature=0.0):
        """Return an answer to each text: the likeliest word at every step, or a word drawn."""
        self.eval()
        answers, device = [[] for _ in texts], self.embed.weight.device
        with xpnn.no_grad():
            said = self.ids(map(split_words, texts))
            memory, mask, state = self.encode(xpnn.to_device(said, device))
            last = self.words.encode([START] * len(texts))
            for _ in range(LENGTH):
                last = xpnn.to_device(last[:, None], device)
                logits, state = self.decode(last, memory, mask, state)
                logits = xpnn.to_numpy(logits)[:, 0, :]
                last = logits.argmax(-1)
                if temperature:
                    p = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
                    last = np.stack([random.Discrete(row).draw((), device="cpu") for row in p])
                for answer, word in zip(answers, self.words.decode(last), strict=True):
                    if END not in answer:
                        answer.append(word)
        return [" ".join(answer).partition(" " + END)[0] for answer in answers]


def train(exchanges):
    """Return a chatbot that learnt the exchanges."""
    said = [split_words(text) for text, _ in exchanges]  # without punctuation: people leave it out
    answers = [text.split() for _, text in exchanges]
    words = {word for sentence in said + answers for word in sentence}
    bot = Chatbot([PADDING, UNKNOWN, START, END, *sorted(words)])
    x = bot.ids(said)
    previous = bot.ids([START, *answer] for answer in answers)
    target = bot.ids([*answer, END] for answer in answers)
    steps = options.epochs * -(-len(x) // 32)
    schedule = optim.schedules.CosineWarmup(4e-3, total_steps=steps, warmup_steps=steps // 10)
    bot.compile(
        loss=("cross_entropy", {"ignore_index": 0}),  # padding is not to be predicted
        optimizer=optim.Adam(schedule, clip_global_norm=1.0),
        metrics=[("accuracy", {"ignore_index": 0})],
    )
    bot.fit((x, previous), target, batch_size=32, epochs=options.epochs)
    return bot


def talk(bot, temperature):
    """Answer in the terminal until a line is empty, or there is none."""
    print("Say something; an empty line ends. For example: what is the capital of peru?")
    with contextlib.suppress(EOFError):
        while text := input("> ").strip():
            print(bot.reply([text], temperature)[0])


if options.talk and options.model.exists():
    talk(xpnn.load(options.model), options.temperature)
    raise SystemExit

learnt, held_out = load_dialogues(Path(__file__).parent / "data" / "dialogues.txt")
if QUICK:
    options.epochs, learnt, held_out = 1, learnt[::10], held_out[::10]

bot = train(learnt)
right = {}
for name, pairs in (("trained", learnt), ("held out", held_out)):
    replies = bot.reply([said for said, _ in pairs])
    right[name] = np.mean(
        [reply == answer for reply, (_, answer) in zip(replies, pairs, strict=True)]
    )
    print(f"{name}: {right[name]:.1%} of {len(pairs)} answers are right, word for word")
for (said, _), reply in list(zip(held_out, replies, strict=True))[::13]:
    print(f"> {said}\n{reply}")
bot.save(options.model)
assert QUICK or (right["trained"] > 0.95 and right["held out"] > 0.8)

if options.talk:
    talk(bot, options.temperature)
