"""Greedy decoding of held-out questions, in full precision and with rounded weights."""

from collections import defaultdict

import torch

from quant import Rounded, round_q4_0, round_q8_0


@torch.no_grad()
def greedy(model, prompts, stop: int, new_tokens: int, batch: int = 2048):
    """Greedy continuations of the prompts (no cache: every step runs the whole row)."""
    device, out = next(model.parameters()).device, [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(order), batch):
        group = order[first:first + batch]
        width = min(max(len(prompts[i]) for i in group) + new_tokens, model.c.context)
        ids = torch.zeros(len(group), width, dtype=torch.long)
        for r, i in enumerate(group):
            ids[r, :len(prompts[i])] = torch.tensor(prompts[i])
        ids = ids.to(device)
        at = torch.tensor([len(prompts[i]) for i in group], device=device)
        start, rows = at.clone(), torch.arange(len(group), device=device)
        alive = torch.ones_like(at, dtype=torch.bool)
        while alive.any() and int(at[alive].max()) < width:
            used = int(at[alive].max())
            live = rows[alive]
            logits = model(ids[live, :used])
            best = logits[torch.arange(len(live), device=device), at[live] - 1].argmax(-1)
            ids[live, at[live]] = best
            at[live] += 1
            alive[live] = (best != stop) & (at[live] < start[live] + new_tokens) & (at[live] < width)
        ids, start, at = ids.tolist(), start.tolist(), at.tolist()
        for r, i in enumerate(group):
            out[i] = ids[r][start[r]:at[r]]
    return out


def score(model, tok, questions):
    """Share of exact answers by task and by format, and the failures."""
    answers = greedy(model, [q[2] for q in questions], tok.im_end, 64)
    right, total, wrong = defaultdict(int), defaultdict(int), []
    for (task, fmt, prompt, want), got in zip(questions, answers):
        ok = bool(got) and got[-1] == tok.im_end and tok.decode(got) == tok.decode(want)
        for key in (task.kind, "/" + fmt, "ALL"):
            right[key] += ok
            total[key] += 1
        if not ok:
            wrong.append((task.kind, fmt, task.prompt, tok.decode(want), tok.decode(got)))
    return {k: right[k] / total[k] for k in total}, wrong


def matrices(model):
    return [p for p in model.parameters() if p.ndim == 2]


def report(model, tok, questions, out):
    """Scores in F32 and after rounding to Q8_0 and Q4_0, written as a table."""
    table, failures = {}, None
    for label, how in (("F32", None), ("Q8_0", round_q8_0), ("Q4_0", round_q4_0)):
        if how is None:
            table[label], failures = score(model, tok, questions)
        else:
            with Rounded(matrices(model), how):
                table[label], _ = score(model, tok, questions)
    print(f"{'task':10}" + "".join(f"{k:>9}" for k in table), file=out)
    for kind in table["F32"]:
        print(f"{kind:10}" + "".join(f"{100 * table[k][kind]:8.2f}%" for k in table), file=out)
    return table, failures


@torch.no_grad()
def agreement(demo, draft, tok, questions, stories):
    """How often the draft's greedy token is the demo model's, along the demo's own greedy text."""
    result = {}
    for label, prompts, length in (("tasks", [q[2] for q in questions], 64), ("stories", stories, 230)):
        texts = greedy(demo, prompts, tok.im_end, length, 1024)
        same = total = 0
        for prompt, text in zip(prompts, texts):
            row = torch.tensor([prompt + text], device=next(demo.parameters()).device)
            guess = draft(row[:, :-1])[0, len(prompt) - 1:].argmax(-1)
            same += int((guess == row[0, len(prompt):]).sum())
            total += len(text)
        result[label] = same / total
    return result
