"""Trains the demo model and its draft model from nothing and saves their weights.

    python3 tools/train_demo/train.py --out build/demo

needs PyTorch, numpy and regex, one GPU and no network.  See README.md for times.
"""

import argparse
import json
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import evaluate
from corpus import BUCKETS, LOSS, Formatter, build_rows, build_tokenizer, test_questions
from model import DEMO, DRAFT, Config, Llama
from quant import Rounded, noisy, round_q4_0
from stories import requested, tell

# Rows of each bucket in one step, and the weight of the bucket's mean loss.
BATCH = {"short": (1536, 1.0), "middle": (192, 0.6), "long": (24, 0.4)}
START = time.time()


def log(*words):
    print(f"[{time.time() - START:6.1f}s]", *words, flush=True)


class Muon:
    """Muon for the matrices of the blocks: momentum, then an orthogonalised step."""

    def __init__(self, params, lr, momentum=0.95, decay=0.1):
        groups = {}
        for p in params:
            groups.setdefault(tuple(p.shape), []).append(p)
        self.groups = list(groups.values())
        self.buffers = [torch.zeros(len(g), *g[0].shape, device=g[0].device) for g in self.groups]
        self.base, self.momentum, self.decay = lr, momentum, decay
        self.direction = torch.compile(self._direction, dynamic=False)

    @staticmethod
    def _direction(grad, buffer, momentum: float):
        buffer = buffer * momentum + grad * (1 - momentum)
        x = (grad * (1 - momentum) + buffer * momentum).bfloat16()
        tall = x.shape[1] > x.shape[2]
        x = x.mT if tall else x
        x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
        for _ in range(5):  # Newton-Schulz iteration towards the nearest orthogonal matrix
            a = x @ x.mT
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return buffer, (x.mT if tall else x).float()

    @torch.no_grad()
    def step(self, scale: float):
        for i, group in enumerate(self.groups):
            grad = torch.stack([p.grad for p in group])
            self.buffers[i], step = self.direction(grad, self.buffers[i], self.momentum)
            rows, cols = group[0].shape
            lr = self.base * scale
            torch._foreach_mul_(group, 1 - lr * self.decay)
            torch._foreach_add_(group, list(step.unbind(0)), alpha=-lr * max(1, rows / cols) ** 0.5)


def batches(rows: dict, batch: dict, seed: int, device):
    """Endless batches, one of each bucket; every row is seen once before any is repeated."""
    gen = torch.Generator().manual_seed(seed)
    queue = {b: torch.empty(0, dtype=torch.long) for b in batch}
    while True:
        out = {}
        for b, (size, _) in batch.items():
            if len(queue[b]) < size:
                queue[b] = torch.randperm(len(rows[b]), generator=gen)
            take, queue[b] = queue[b][:size], queue[b][size:]
            out[b] = rows[b][take.to(device)]
        yield out


def split_row(rows):
    """Inputs, targets and loss mask of 16-bit rows."""
    wide = rows.int() & 0xFFFF
    ids = (wide & (LOSS - 1)).long()
    return ids[:, :-1], ids[:, 1:], (wide[:, 1:] & LOSS) != 0


def make_loss(model: Llama, teacher: Llama | None):
    """The compiled loss of one bucket: cross entropy, or mostly the teacher's distribution."""

    def loss(rows):
        x, y, mask = split_row(rows)
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(x)
        logits = logits.float()
        count = mask.sum().clamp(min=1)
        each = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
        value = (each * mask.flatten()).sum() / count
        if teacher is None:
            return value
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            goal = teacher(x)
        goal = F.log_softmax(goal.float(), -1)
        kl = (goal.exp() * (goal - F.log_softmax(logits, -1))).sum(-1)
        return 0.1 * value + 0.9 * (kl * mask).sum() / count

    return torch.compile(loss, dynamic=False)


def train(config: Config, rows, steps: int, seed: int, batch: dict, lr: float, teacher=None,
          probe=None) -> Llama:
    """Trains one model.  In the second half most steps see 4-bit or noisy weights."""
    torch.manual_seed(seed)
    model = Llama(config).cuda()
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "token_embd" not in n]
    other = [p for n, p in model.named_parameters() if p.ndim == 1 or "token_embd" in n]
    muon = Muon(hidden, lr)
    adam = torch.optim.AdamW(other, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    every = evaluate.matrices(model)
    q4, noise = torch.compile(round_q4_0), torch.compile(noisy)
    loss_of = make_loss(model, teacher)
    log(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    feed, began = batches(rows, batch, seed, "cuda"), time.time()
    tokens_per_step = sum(n * (BUCKETS[b] - 1) for b, (n, _) in batch.items())
    for step in range(steps):
        part = step / steps
        scale = min(1, (step + 1) / 100, max(0.0, (1 - part) / 0.55))
        for group in adam.param_groups:
            group["lr"] = 3e-3 * scale
        mode = (q4, None, q4, noise)[step % 4] if part > 0.5 else None
        if mode:
            rounding = Rounded(every, mode)
            rounding.__enter__()
        values = {}
        for bucket, data in next(feed).items():
            value = loss_of(data)
            (value * batch[bucket][1]).backward()
            values[bucket] = value.detach()
        if mode:
            rounding.__exit__()
        torch.nn.utils.clip_grad_norm_(other, 1.0)
        muon.step(scale)
        adam.step()
        for p in model.parameters():
            p.grad = None
        if step == 20:
            torch.cuda.synchronize()
            began = time.time()
        if step % 250 == 0 or step == steps - 1:
            shown = " ".join(f"{b} {float(v):.4f}" for b, v in values.items())
            speed = tokens_per_step * max(0, step - 20) / (time.time() - began + 1e-9) / 1e6
            log(f"step {step}/{steps} {shown} | {speed:.2f} M tokens/s")
        if probe and step and step % 1000 == 0:
            probe(model)
    return model


def save(model: Llama, path: Path):
    """Weights in half precision under their GGUF names, with the configuration."""
    arrays = {n: p.detach().cpu().half().numpy() for n, p in model.tensors().items()}
    np.savez(path, config=json.dumps(model.c.as_dict()), **arrays)


def main():
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--out", type=Path, required=True)
    cli.add_argument("--seed", type=int, default=1)
    cli.add_argument("--steps", type=int, default=5600)
    cli.add_argument("--draft-steps", type=int, default=2200)
    cli.add_argument("--lr", type=float, default=0.02)
    cli.add_argument("--workers", type=int, default=os.cpu_count())
    args = cli.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    tok = build_tokenizer(args.seed, DEMO.vocab)
    tok.save(args.out / "merges.json")
    log("tokenizer trained")
    counts = {b: n * max(args.steps, args.draft_steps) for b, (n, _) in BATCH.items()}
    counts["middle"], counts["long"] = counts["middle"] // 2, counts["long"] // 2
    rows = build_rows(tok, counts, args.seed, args.workers)
    log("rows", {b: r.shape for b, r in rows.items()})
    rows = {b: torch.from_numpy(r.view(np.int16)).cuda() for b, r in rows.items()}
    form, pieces = Formatter(tok), tok.word_pieces()
    quick = test_questions(form, pieces, 60, seed=7)

    def probe(model):
        scores, _ = evaluate.score(model, tok, quick)
        log("held out:", " ".join(f"{k} {100 * v:.0f}" for k, v in scores.items()))

    demo = train(DEMO, rows, args.steps, args.seed, BATCH, args.lr, probe=probe)
    save(demo, args.out / "demo.npz")
    log("demo model saved")
    with torch.no_grad():  # what is shipped is half precision: judge that
        for p in demo.parameters():
            p.copy_(p.half().float())
    questions = test_questions(form, pieces, 400, seed=11)
    with open(args.out / "report.txt", "w", encoding="utf-8") as out:
        _, failures = evaluate.report(demo, tok, questions, out)
        print(*failures, sep="\n", file=out)
    log("accuracy\n" + (args.out / "report.txt").read_text(encoding="utf-8")[:4500])
    rng = random.Random(5)
    starts = [tok.encode("Once upon a time")] + [
        tok.encode(tell(rng)[0])[:rng.randint(4, 12)] for _ in range(60)]
    for _ in range(60):
        row = form.turn(requested(rng)[0], "")
        starts.append([t for t in row if not t & LOSS])
    with torch.no_grad():
        for text in evaluate.greedy(demo, starts[:6] + starts[61:65], tok.im_end, 230):
            log("STORY:", tok.decode(text), "<stop>" if text[-1] == tok.im_end else "<cut>")

    if args.draft_steps:
        small = {"short": (768, 1.0), "middle": (192, 1.0), "long": (8, 0.4)}
        draft = train(DRAFT, rows, args.draft_steps, args.seed + 1, small, args.lr, teacher=demo)
        save(draft, args.out / "draft.npz")
        scores, _ = evaluate.score(draft, tok, questions)
        same = evaluate.agreement(demo, draft, tok, questions[::5], starts)
        with open(args.out / "report.txt", "a", encoding="utf-8") as out:
            for target in (out, None):
                print("draft:", {k: round(v, 4) for k, v in scores.items()}, file=target)
                print("draft agrees with the demo model:", same, file=target)
    log("done")


if __name__ == "__main__":
    main()
