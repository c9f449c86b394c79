"""The llama architecture in plain PyTorch, with parameters named as in GGUF files.

RoPE rotates the pairs (2i, 2i+1), the layout that GGUF files of this architecture use, so
the weights are exported without any permutation.  Input and output embeddings are tied.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Config:
    vocab: int = 1024
    hidden: int = 256
    ffn: int = 512
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    context: int = 1024
    rope_base: float = 10000.0
    eps: float = 1e-5

    def as_dict(self) -> dict:
        return asdict(self)


DEMO = Config()
DRAFT = Config(hidden=128, ffn=256, layers=5, heads=2, kv_heads=1)


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.attn_norm = nn.Parameter(torch.ones(c.hidden))
        self.attn_q = nn.Linear(c.hidden, c.heads * c.head_dim, bias=False)
        self.attn_k = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.attn_v = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.attn_output = nn.Linear(c.heads * c.head_dim, c.hidden, bias=False)
        self.ffn_norm = nn.Parameter(torch.ones(c.hidden))
        self.ffn_gate = nn.Linear(c.hidden, c.ffn, bias=False)
        self.ffn_up = nn.Linear(c.hidden, c.ffn, bias=False)
        self.ffn_down = nn.Linear(c.ffn, c.hidden, bias=False)

    def forward(self, x, cos, sin):
        c, (batch, time, _) = self.c, x.shape
        h = F.rms_norm(x, (c.hidden,), self.attn_norm, c.eps)
        q = rope(self.attn_q(h).view(batch, time, c.heads, c.head_dim), cos, sin)
        k = rope(self.attn_k(h).view(batch, time, c.kv_heads, c.head_dim), cos, sin)
        v = self.attn_v(h).view(batch, time, c.kv_heads, c.head_dim)
        share = c.heads // c.kv_heads
        k, v = k.repeat_interleave(share, 2), v.repeat_interleave(share, 2)
        a = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
                                           is_causal=True)
        x = x + self.attn_output(a.transpose(1, 2).reshape(batch, time, -1))
        h = F.rms_norm(x, (c.hidden,), self.ffn_norm, c.eps)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


def rope(x, cos, sin):
    """Rotates the pairs (2i, 2i+1) of every head by the angle of its position."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Llama(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.token_embd = nn.Embedding(c.vocab, c.hidden)
        self.blk = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.output_norm = nn.Parameter(torch.ones(c.hidden))
        angle = torch.outer(torch.arange(c.context).float(),
                            c.rope_base ** (-torch.arange(0, c.head_dim, 2).float() / c.head_dim))
        self.register_buffer("cos", angle.cos()[:, None], persistent=False)
        self.register_buffer("sin", angle.sin()[:, None], persistent=False)
        nn.init.normal_(self.token_embd.weight, std=0.02)
        for name, p in self.named_parameters():
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                nn.init.zeros_(p)
            elif p.ndim == 2 and "token_embd" not in name:
                nn.init.normal_(p, std=0.5 * p.shape[1] ** -0.5)

    def forward(self, ids):
        time = ids.shape[1]
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, self.cos[:time], self.sin[:time])
        x = F.rms_norm(x, (self.c.hidden,), self.output_norm, self.c.eps)
        return F.linear(x, self.token_embd.weight)

    def tensors(self) -> dict:
        """Parameters under their GGUF names."""
        named = {}
        for name, p in self.named_parameters():
            named[name if name.endswith(".weight") else name + ".weight"] = p
        return named
