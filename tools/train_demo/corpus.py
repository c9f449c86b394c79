"""The training corpus: formats, token rows and their generation on all processor cores.

A row is one document (or one chat of several turns) from position 0, padded at its end.
Rows hold 16-bit token ids; the highest bit marks the tokens that carry loss, which are
the answers of questions and all of a plain story.
"""

import multiprocessing
import random
import zlib

import numpy as np

import tasks
from chatter import small_talk
from stories import requested, tell
from tokenizer import Tokenizer, train_bpe

LOSS = 0x8000
# Row lengths (one more than the model sees, for the shifted targets).
BUCKETS = {"short": 49, "middle": 257, "long": 1025}
SYSTEM = ("You are a helpful assistant.", "You are rocmforge-demo, a tiny assistant.", "Answer briefly.",
          "You are a friendly assistant.")


class Formatter:
    """Turns questions, stories and chats into token rows."""

    def __init__(self, tok: Tokenizer):
        self.tok = tok

    def answer(self, text: str, by_char: bool) -> list[int]:
        """Ids of an answer, marked for loss; letter tasks get one token per letter."""
        ids = list(text.encode()) if by_char else self.tok.encode(text)
        return [i | LOSS for i in ids]

    @property
    def stop(self) -> int:
        return self.tok.im_end | LOSS

    def plain(self, task: tasks.Task, form: str) -> list[int]:
        """A question as text to be continued by its answer."""
        template, lead = tasks.PLAIN[form]
        head = self.tok.encode(template.format(task.prompt))
        if task.by_char:
            return head + self.answer(lead + task.answer, True) + [self.stop]
        return head + self.answer(lead + task.answer, False) + [self.stop]

    def system(self, text: str) -> list[int]:
        tok = self.tok
        return [tok.im_start, *tok.encode("system\n" + text), tok.im_end, *tok.encode("\n")]

    def turn(self, prompt: str, answer: str, by_char=False) -> list[int]:
        """One user turn and the assistant's answer to it."""
        tok = self.tok
        return [tok.im_start, *tok.encode("user\n" + prompt), tok.im_end, *tok.encode("\n"),
                tok.im_start, *tok.encode("assistant\n"), *self.answer(answer, by_char), self.stop]

    def question(self, rng, pieces) -> list[int]:
        """A single question in any of the formats."""
        task, form = tasks.sample(rng, "train", pieces)
        if form != "chat":
            return self.plain(task, form)
        head = self.system(rng.choice(SYSTEM)) if rng.random() < 0.2 else []
        return head + self.turn(task.prompt, task.answer, task.by_char)

    def story(self, rng) -> list[int]:
        """A story, either plain or as the answer to a request."""
        if rng.random() < 0.6:
            return [*self.answer(tell(rng)[0], False), self.stop]
        head = self.system(rng.choice(SYSTEM)) if rng.random() < 0.2 else []
        return head + self.turn(*requested(rng))

    def chat(self, rng, pieces, limit: int) -> list[int]:
        """A chat of several turns that fits into `limit` tokens."""
        row = self.system(rng.choice(SYSTEM)) if rng.random() < 0.3 else []
        turns = rng.randint(2, 6) if limit < 600 else 100
        newline = self.tok.encode("\n")
        for n in range(turns):
            what = rng.random()
            if what < 0.12:
                more = self.turn(*requested(rng))
            elif what < 0.24:
                more = self.turn(*small_talk(rng))
            else:
                task, _ = tasks.sample(rng, "train", pieces, fmt="chat")
                more = self.turn(task.prompt, task.answer, task.by_char)
                if task.by_char and rng.random() < 0.5:
                    # As a later turn sees it: the answer is then ordinary encoded text.
                    more = [i & ~LOSS for i in self.turn(task.prompt, task.answer)]
            if len(row) + len(more) + 1 > limit:
                break
            row += (newline if n else []) + more
        return row


def test_questions(form, pieces, per_task: int, seed: int):
    """Held-out questions: [(task, format, prompt ids, expected ids)], `per_task` of each kind."""
    rng, out = random.Random(seed), []
    for kind in tasks.TASKS:
        seen, tries = set(), 0
        while len(seen) < per_task and tries < 50 * per_task:
            tries += 1
            task, fmt = tasks.sample(rng, "test", pieces, kind=kind)
            if (task.prompt, fmt) in seen:
                continue
            seen.add((task.prompt, fmt))
            row = form.plain(task, fmt) if fmt != "chat" else form.turn(
                task.prompt, task.answer, task.by_char)
            split = next(i for i, t in enumerate(row) if t & LOSS)
            out.append((task, fmt, row[:split], [t & ~LOSS for t in row[split:]]))
    return out


def _shard(job):
    """Rows of one bucket from one seed (runs in a worker process)."""
    merges, bucket, count, seed = job
    tok = Tokenizer(merges)
    form, pieces, rng = Formatter(tok), tok.word_pieces(), random.Random(seed)
    length = BUCKETS[bucket]
    rows = np.full((count, length), tok.end_of_text, dtype=np.uint16)
    n = 0
    while n < count:
        what = rng.random()
        if bucket == "short":
            row = form.question(rng, pieces) if what < 0.99 else form.turn(*small_talk(rng))
        elif bucket == "middle":
            if what < 0.5:
                row = form.story(rng)
            elif what < 0.7:
                row = form.chat(rng, pieces, length)
            else:
                row = form.question(rng, pieces)
                if len(row) <= BUCKETS["short"] and rng.random() < 0.98:
                    continue  # this bucket is for the questions too long for the short one
        else:
            row = form.chat(rng, pieces, length)
        if 0 < len(row) <= length:
            rows[n, :len(row)] = row
            n += 1
    return rows


def build_tokenizer(seed: int, vocab_size: int) -> Tokenizer:
    """Trains the tokenizer on a sample of the corpus."""
    rng, texts = random.Random(seed), []
    for _ in range(12_000):
        texts.append(tell(rng)[0])
        ask, story = requested(rng)
        texts += [ask, "\nuser\n", "assistant\n"]
        for _ in range(4):
            task, form = tasks.sample(rng, "train")
            texts += [task.prompt, " " + task.answer if not task.by_char else "", "Q:", "\nA:"]
    return train_bpe(texts, vocab_size)


def build_rows(tok: Tokenizer, counts: dict, seed: int, workers: int) -> dict:
    """All rows of all buckets, the same for the same seed whatever the number of workers."""
    jobs = []
    for bucket, count in counts.items():
        size = {"short": 50_000, "middle": 10_000, "long": 2_000}[bucket]
        for n in range(0, count, size):
            jobs.append((tok.merges, bucket, min(size, count - n),
                         zlib.crc32(f"{seed}/{bucket}/{n}".encode())))
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        parts = pool.map(_shard, jobs, chunksize=1)
    return {b: np.concatenate([p for p, j in zip(parts, jobs) if j[1] == b]) for b in counts}
