"""Rounding to the 32-weight block types Q8_0 and Q4_0, as a torch function of flat weights."""

import torch


def round_q8_0(flat: torch.Tensor) -> torch.Tensor:
    """Each block of 32 rounded to 8 bits with one f16 scale."""
    x = flat.view(-1, 32)
    d = x.abs().amax(1, keepdim=True) / 127
    q = torch.round(x * torch.where(d > 0, 1 / d, torch.zeros_like(d)))
    return (q * d.half().float()).view(-1)


def round_q4_0(flat: torch.Tensor) -> torch.Tensor:
    """Each block of 32 rounded to 4 bits; the entry of largest magnitude becomes -8."""
    x = flat.view(-1, 32)
    peak = x.gather(1, x.abs().argmax(1, keepdim=True))
    d = peak / -8
    q = torch.floor(x * torch.where(d != 0, 1 / d, torch.zeros_like(d)) + 8.5).clamp(0, 15) - 8
    return (q * d.half().float()).view(-1)


def noisy(flat: torch.Tensor) -> torch.Tensor:
    """Uniform noise of about one 4-bit step, standing in for the other 4-bit types."""
    x = flat.view(-1, 32)
    step = x.abs().amax(1, keepdim=True) / 8
    return (x + (torch.rand_like(x) - 0.5) * step).view(-1)


class Rounded:
    """Context in which a model's matrices are replaced by a rounded copy of themselves."""

    def __init__(self, matrices, how):
        self.matrices, self.how = list(matrices), how

    @torch.no_grad()
    def __enter__(self):
        self.saved = torch.cat([p.data.reshape(-1) for p in self.matrices])
        self._load(self.how(self.saved))

    @torch.no_grad()
    def __exit__(self, *_):
        self._load(self.saved)

    def _load(self, flat):
        parts = flat.split([p.numel() for p in self.matrices])
        torch._foreach_copy_([p.data for p in self.matrices],
                             [part.view_as(p) for part, p in zip(parts, self.matrices)])
