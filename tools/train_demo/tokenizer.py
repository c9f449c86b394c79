"""A byte-level BPE tokenizer: training, encoding, decoding.

The text is first cut by the `qwen2` pre-tokenizer expression (single digits, words with
their leading space), then bytes are merged inside each piece.  All 256 bytes are in the
vocabulary, so every text can be encoded.  The special tokens come last.
"""

import json
from collections import Counter, defaultdict

import regex

PRETOKEN = regex.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, spare = {b: chr(b) for b in keep}, 256
    for b in range(256):
        if b not in table:
            table[b], spare = chr(spare), spare + 1
    return [table[b] for b in range(256)]


class Tokenizer:
    """Token ids: 0..255 are the bytes, then one id per merge, then the special tokens."""

    def __init__(self, merges: list[tuple[int, int]]):
        self.merges = [tuple(m) for m in merges]
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.bytes = [bytes([b]) for b in range(256)]
        for a, b in self.merges:
            self.bytes.append(self.bytes[a] + self.bytes[b])
        first = len(self.bytes)
        self.end_of_text, self.im_start, self.im_end = range(first, first + 3)
        self.size = first + len(SPECIAL)
        self._cache: dict[str, list[int]] = {}

    def _piece(self, piece: str) -> list[int]:
        ids = list(piece.encode())
        while len(ids) > 1:
            best = min(range(len(ids) - 1),
                       key=lambda i: self.rank.get((ids[i], ids[i + 1]), 1 << 30))
            rank = self.rank.get((ids[best], ids[best + 1]))
            if rank is None:
                break
            ids[best:best + 2] = [256 + rank]
        if len(self._cache) < 500_000:
            self._cache[piece] = ids
        return ids

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text (special tokens are not recognised in it)."""
        ids, cache = [], self._cache
        for piece in PRETOKEN.findall(text):
            found = cache.get(piece)
            ids += found if found is not None else self._piece(piece)
        return ids

    def decode(self, ids) -> str:
        """Text of the ids; special tokens are left out."""
        return b"".join(self.bytes[i] for i in ids if i < len(self.bytes)).decode(errors="replace")

    def strings(self) -> list[str]:
        """All tokens as GPT-2 strings, as a vocabulary file lists them."""
        table = byte_alphabet()
        return ["".join(table[b] for b in raw) for raw in self.bytes] + list(SPECIAL)

    def merge_lines(self) -> list[str]:
        """The merges as 'left right' lines."""
        strings = self.strings()
        return [f"{strings[a]} {strings[b]}" for a, b in self.merges]

    def word_pieces(self) -> list[str]:
        """The tokens made of lower-case letters only, without the leading space."""
        found = {raw.decode().strip() for raw in self.bytes if raw.isascii()}
        return sorted(w for w in found if w.isalpha() and w.islower() and len(w) <= 8)

    def save(self, path):
        with open(path, "w", encoding="utf-8") as out:
            json.dump(self.merges, out)

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as source:
            return cls(json.load(source))


def train_bpe(texts, vocab_size: int, longest: int = 6) -> Tokenizer:
    """Learns merges by pair counts; ties go to the smaller pair, so the result is fixed.

    Tokens have at most `longest` bytes: the spelling of a short token is met in many words
    and is learned well, which the letter tasks need.
    """
    counts = Counter(piece for text in texts for piece in PRETOKEN.findall(text))
    words = [(list(piece.encode()), n) for piece, n in sorted(counts.items())]
    pairs, where = Counter(), defaultdict(set)
    for w, (ids, n) in enumerate(words):
        for pair in zip(ids, ids[1:]):
            pairs[pair] += n
            where[pair].add(w)
    merges, length = [], [1] * 256
    while len(merges) < vocab_size - 256 - len(SPECIAL):
        best = min((p for p in pairs if length[p[0]] + length[p[1]] <= longest),
                   key=lambda p: (-pairs[p], p))
        new = 256 + len(merges)
        merges.append(best)
        length.append(length[best[0]] + length[best[1]])
        for w in sorted(where[best]):
            ids, n = words[w]
            for pair in zip(ids, ids[1:]):
                pairs[pair] -= n
            out, i = [], 0
            while i < len(ids):
                if tuple(ids[i:i + 2]) == best:
                    out.append(new)
                    i += 2
                else:
                    out.append(ids[i])
                    i += 1
            words[w] = (out, n)
            for pair in zip(out, out[1:]):
                pairs[pair] += n
                where[pair].add(w)
        del pairs[best]
    return Tokenizer(merges)
