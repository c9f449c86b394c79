#!/usr/bin/env python3
"""Measures rocmforge and llama.cpp in turn on the same files and prints the ratios. See README.md beside this file."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llama import Llama

ROOT = Path(__file__).resolve().parents[2]
# Seconds until a peer's threads sleep.
REST = 1.0
SHAPES = {"0.5B": "qwen2.5-0.5b", "1B": "llama-1b", "8B": "llama-8b"}


def numbers(text):
    return [int(word) for word in text.split(",")]


def words(text):
    return text.split(",")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=words, default=["0.5B", "1B"], help="shapes: " + ", ".join(SHAPES))
    parser.add_argument("--types", type=words, default=words("Q4_0,Q8_0,Q4_K_M,Q6_K,MXFP4,F16"))
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--prompt", type=int, default=512, help="tokens of a prompt; 0 leaves prefill out")
    parser.add_argument("--decode", type=int, default=64, help="tokens to decode; 0 leaves decode out")
    parser.add_argument("--depths", type=numbers, default=[0, 4096], help="tokens in the cache before decode")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, in turn")
    parser.add_argument("--file", type=Path, action="append", default=[], help="a GGUF file instead of --models and --types")
    parser.add_argument("--folder", type=Path, help="where the models are, or are written; default: a temporary folder")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/rocmforge")
    parser.add_argument("--without-peer", action="store_true", help="measure rocmforge alone")
    parser.add_argument("--write-only", action="store_true", help="write the models and measure nothing")
    parser.add_argument("--json", type=Path, help="file for all samples and ratios")
    return parser.parse_args()


def files(args, folder):
    """Names and files; the models of random weights are written where they are missing."""
    if args.file:
        return [(path.stem, path) for path in args.file]
    found = []
    for model in args.models:
        for kind in args.types:
            path = folder / f"{SHAPES[model]}-{kind}.gguf"
            if not path.exists():
                subprocess.run([args.program, "synthetic", f"{SHAPES[model]}:{kind}", path], check=True)
            found.append((f"{model} {kind}", path))
    return found


class Ours:
    """`rocmforge bench --paced` on one file: it measures when it is told to."""

    def __init__(self, program, path, threads, test, depth, rounds):
        prompt, decode = (test[1], 0) if test[0] == "pp" else (0, test[1])
        command = [program, "bench", "-m", path, "--device", "cpu", "--paced", "-t", threads]
        command += ["-p", prompt, "-n", decode, "-d", depth, "-r", rounds]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self.answer()  # The model is loaded and the test has run once.

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"rocmforge ended with status {self.process.wait()}: run it by hand to see why: {self.process.args}")
        return json.loads(line)

    def measure(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(args, name, path, threads, test, depth, peer):
    """One line of the table: both programs in turn, the machine's limits measured just before each of our repetitions."""
    ours = Ours(args.program, path, threads, test, depth, args.rounds)
    if peer:
        peer.prepare(test, depth)
    samples, peers = [], []
    for _ in range(args.rounds):
        # llama.cpp's threads spin for a while after their work.
        time.sleep(REST if peer and threads > 1 else 0)
        samples.append(ours.measure())
        if peer:
            peers.append(peer.measure(test, depth))
    ours.close()
    median = lambda key: statistics.median(sample[key] or 0.0 for sample in samples)
    row = {
        "model": name,
        "threads": threads,
        "test": samples[0]["test"],
        "ours": median("tokens_per_second"),
        "ours_samples": [sample["tokens_per_second"] for sample in samples],
        "peer": statistics.median(peers) if peers else None,
        "peer_samples": peers,
        "memory_bandwidth": median("memory_bandwidth"),
        "int8_peak": median("int8_peak"),
        "f32_peak": median("f32_peak"),
        # The limits move with the machine, so each repetition has its own.
        "share": median("peak_share" if test[0] == "pp" else "bandwidth_share"),
    }
    if peers:
        row["ratio"] = statistics.median(s["tokens_per_second"] / p for s, p in zip(samples, peers))
        row["peer_share"] = row["share"] * row["peer"] / row["ours"]
    return row


HEAD = """
| model | threads | test | ours | llama.cpp | ratio | limit | our share | its share |
|---|--:|---|--:|--:|--:|--:|--:|--:|"""


def line(row):
    prompt = row["test"].startswith("pp")
    limit = f"{row['int8_peak'] / 1e9:.0f} Gop/s" if prompt else f"{row['memory_bandwidth'] / 1e9:.1f} GB/s"
    if prompt and "F16" in row["model"]:
        limit = f"{row['f32_peak'] / 1e9:.0f} GFLOP/s"
    peer = ["", "", ""]
    if row["peer"]:
        peer = [f"{row['peer']:.1f}", f"{row['ratio']:.2f}", f"{100 * row['peer_share']:.0f} %"]
    cells = [row["model"], row["threads"], row["test"], f"{row['ours']:.1f}", peer[0], peer[1], limit]
    return "| " + " | ".join(str(cell) for cell in cells + [f"{100 * row['share']:.0f} %", peer[2]]) + " |"


def tests(args):
    prompts = [(("pp", args.prompt), 0)] if args.prompt else []
    return prompts + [(("tg", args.decode), depth) for depth in args.depths if args.decode]


def main():
    args = arguments()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        os.makedirs(folder, exist_ok=True)
        found = files(args, folder)
        if args.write_only:
            return
        print(HEAD, flush=True)
        for name, path in found:
            for threads in args.threads:
                context = max(test[1] + depth for test, depth in tests(args))
                peer = None if args.without_peer else Llama(path, threads, context)
                for test, depth in tests(args):
                    rows.append(measure(args, name, path, threads, test, depth, peer))
                    print(line(rows[-1]), flush=True)
                if peer:
                    peer.close()
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


main()
