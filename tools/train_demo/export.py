"""Writes the shipped files from trained weights: GGUF models, held-out questions, checksums.

    python3 tools/train_demo/export.py --run build/demo --assets assets

needs numpy, regex and the `gguf` package; no PyTorch.
"""

import argparse
import hashlib
import json
from pathlib import Path

import gguf
import numpy as np

from corpus import Formatter, test_questions
from tasks import PLAIN
from tokenizer import Tokenizer

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def write_model(path: Path, name: str, weights: Path, tok: Tokenizer, kind: str):
    """One GGUF file of the llama architecture; matrices in Q8_0 or F16, norms in F32."""
    arrays = dict(np.load(weights))
    c = json.loads(str(arrays.pop("config")))
    out = gguf.GGUFWriter(path, "llama")
    out.add_name(name)
    out.add_description("A tiny language model trained by tools/train_demo on generated text")
    out.add_license("MIT OR Apache-2.0")
    out.add_languages(["en"])
    out.add_vocab_size(c["vocab"])
    out.add_context_length(c["context"])
    out.add_embedding_length(c["hidden"])
    out.add_block_count(c["layers"])
    out.add_feed_forward_length(c["ffn"])
    out.add_head_count(c["heads"])
    out.add_head_count_kv(c["kv_heads"])
    out.add_key_length(c["head_dim"])
    out.add_value_length(c["head_dim"])
    out.add_rope_dimension_count(c["head_dim"])
    out.add_rope_freq_base(c["rope_base"])
    out.add_layer_norm_rms_eps(c["eps"])
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if kind == "Q8_0" else gguf.LlamaFileType.MOSTLY_F16)

    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    strings = tok.strings()
    out.add_token_list(strings)
    special = (tok.end_of_text, tok.im_start, tok.im_end)
    out.add_token_types([gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL
                         for i in range(len(strings))])
    out.add_token_merges(tok.merge_lines())
    out.add_bos_token_id(tok.end_of_text)
    out.add_eos_token_id(tok.im_end)
    out.add_eot_token_id(tok.im_end)
    out.add_pad_token_id(tok.end_of_text)
    out.add_add_bos_token(False)
    out.add_chat_template(TEMPLATE)

    for tensor, values in arrays.items():
        if values.ndim == 1:
            out.add_tensor(tensor, values.astype(np.float32))
        elif kind == "Q8_0":
            packed = gguf.quants.quantize(values.astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
            out.add_tensor(tensor, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            out.add_tensor(tensor, values.astype(np.float16))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_tasks(path: Path, tok: Tokenizer, per_task: int):
    """Held-out questions as plain prompts: task, prompt, expected continuation.

    In both texts a newline is written as backslash n; no other escapes occur.
    """
    seen = set()
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        out.write("task\tprompt\texpected\n")
        left = {}
        for task, form, _, _ in test_questions(Formatter(tok), tok.word_pieces(), 4 * per_task, seed=2024):
            if form not in PLAIN or left.setdefault(task.kind, per_task) == 0:
                continue
            template, lead = PLAIN[form]
            prompt = template.format(task.prompt).replace("\n", "\\n")
            if prompt not in seen:
                seen.add(prompt)
                left[task.kind] -= 1
                out.write(f"{task.kind}\t{prompt}\t{lead}{task.answer}\n")


def main():
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--run", type=Path, required=True, help="the --out folder of train.py")
    cli.add_argument("--assets", type=Path, required=True)
    args = cli.parse_args()
    args.assets.mkdir(parents=True, exist_ok=True)
    tok = Tokenizer.load(args.run / "merges.json")
    files = {
        "rocmforge-demo-f16.gguf": ("rocmforge-demo", "demo.npz", "F16"),
        "rocmforge-demo-q8_0.gguf": ("rocmforge-demo", "demo.npz", "Q8_0"),
        "rocmforge-draft-q8_0.gguf": ("rocmforge-draft", "draft.npz", "Q8_0"),
    }
    for file, (name, weights, kind) in files.items():
        write_model(args.assets / file, name, args.run / weights, tok, kind)
    write_tasks(args.assets / "demo-tasks.tsv", tok, 36)
    with open(args.assets / "SHA256SUMS", "w", encoding="utf-8", newline="\n") as out:
        for file in sorted([*files, "demo-tasks.tsv"]):
            data = (args.assets / file).read_bytes()
            print(f"{file}: {len(data):,} bytes")
            out.write(f"{hashlib.sha256(data).hexdigest()}  {file}\n")


if __name__ == "__main__":
    main()
