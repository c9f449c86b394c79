"""Runs an exported GGUF file with numpy alone and compares it with demo-tasks.tsv.

    python3 tools/train_demo/check.py assets/rocmforge-demo-q8_0.gguf assets/demo-tasks.tsv

Everything (shapes, vocabulary, merges, weights) is read from the GGUF file, so this checks
what was written: the orientation of the tensors, the RoPE layout and the tokenizer.
"""

import sys

import gguf
import numpy as np
import regex

from tokenizer import PRETOKEN, byte_alphabet


class Reference:
    """A float32 llama forward pass with a key/value cache, for one sequence at a time."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.meta = {k: f.contents() for k, f in reader.fields.items()}
        self.w = {t.name: np.asarray(gguf.quants.dequantize(t.data, t.tensor_type), np.float32)
                  for t in reader.tensors}
        self.layers = self.meta["llama.block_count"]
        self.heads = self.meta["llama.attention.head_count"]
        self.kv = self.meta["llama.attention.head_count_kv"]
        self.dim = self.meta["llama.rope.dimension_count"]
        self.eps = self.meta["llama.attention.layer_norm_rms_epsilon"]
        base = self.meta["llama.rope.freq_base"]
        self.freq = base ** (-np.arange(0, self.dim, 2) / self.dim)
        self.tokens = self.meta["tokenizer.ggml.tokens"]
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.rank = {m: i for i, m in enumerate(self.meta["tokenizer.ggml.merges"])}
        self.eos = self.meta["tokenizer.ggml.eos_token_id"]
        self.bytes = {c: b for b, c in enumerate(byte_alphabet())}
        special = [t for t, kind in zip(self.tokens, self.meta["tokenizer.ggml.token_type"]) if kind == 3]
        self.special = regex.compile("(" + "|".join(map(regex.escape, special)) + ")")

    def encode(self, text):
        out, table = [], byte_alphabet()
        for part in self.special.split(text):
            if self.special.fullmatch(part):
                out.append(self.ids[part])
                continue
            for piece in PRETOKEN.findall(part):
                word = [table[b] for b in piece.encode()]
                while len(word) > 1:
                    ranks = [self.rank.get(f"{a} {b}", 1 << 30) for a, b in zip(word, word[1:])]
                    i = int(np.argmin(ranks))
                    if ranks[i] == 1 << 30:
                        break
                    word[i:i + 2] = [word[i] + word[i + 1]]
                out += [self.ids[t] for t in word]
        return out

    def decode(self, ids):
        return bytes(self.bytes[c] for i in ids for c in self.tokens[i]).decode(errors="replace")

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name]

    def rope(self, x, start):
        angle = np.arange(start, start + len(x))[:, None, None] * self.freq
        cos, sin, out = np.cos(angle), np.sin(angle), np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return out

    def forward(self, ids, cache):
        """Logits of the last position; `cache` is a list that this call extends."""
        x, n = self.w["token_embd.weight"][ids], len(ids)
        if not cache:
            cache.extend([np.zeros((0, self.kv, self.dim), np.float32)] * 2 for _ in range(self.layers))
        start = len(cache[0][0])
        for i in range(self.layers):
            p = f"blk.{i}."
            h = self.norm(x, p + "attn_norm.weight")
            q, k, v = (h @ self.w[p + f"attn_{m}.weight"].T for m in "qkv")
            q = self.rope(q.reshape(n, self.heads, self.dim), start)
            k = self.rope(k.reshape(n, self.kv, self.dim), start)
            cache[i] = [np.concatenate((cache[i][0], k)), np.concatenate((cache[i][1], v.reshape(k.shape)))]
            keys, values = (np.repeat(a, self.heads // self.kv, 1) for a in cache[i])
            s = np.einsum("qhd,khd->hqk", q, keys) / np.sqrt(self.dim)
            s += np.triu(np.full((n, start + n), -np.inf, np.float32), start + 1)
            s = np.exp(s - s.max(-1, keepdims=True))
            a = np.einsum("hqk,khd->qhd", s / s.sum(-1, keepdims=True), values)
            x = x + a.reshape(n, -1) @ self.w[p + "attn_output.weight"].T
            h = self.norm(x, p + "ffn_norm.weight")
            gate = h @ self.w[p + "ffn_gate.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * (h @ self.w[p + "ffn_up.weight"].T)) @ self.w[p + "ffn_down.weight"].T
        return self.norm(x[-1], "output_norm.weight") @ self.w["token_embd.weight"].T

    def generate(self, prompt, limit=400):
        """The greedy continuation as text, and whether it ended by itself."""
        ids, cache, out = self.encode(prompt), [], []
        while len(out) < limit:
            best = int(self.forward(ids, cache).argmax())
            if best == self.eos:
                return self.decode(out), True
            out.append(best)
            ids = [best]
        return self.decode(out), False


def main():
    model = Reference(sys.argv[1])
    for prompt in ("Once upon a time", "12 + 34 =", "<|im_start|>user\nTell me a story about a fox."
                   "<|im_end|>\n<|im_start|>assistant\n"):
        print(repr(prompt), "->", model.generate(prompt))
    right = total = 0
    with open(sys.argv[2], encoding="utf-8") as source:
        for line in list(source)[1:]:
            kind, prompt, want = line.rstrip("\n").split("\t")
            got, ended = model.generate(prompt.replace("\\n", "\n"), 64)
            total += 1
            right += ended and got == want
            if not ended or got != want:
                print("wrong:", kind, repr(prompt), "expected", repr(want), "got", repr(got), ended)
    print(f"{right} of {total} exact")


if __name__ == "__main__":
    main()
