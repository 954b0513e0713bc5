"""An on-policy step (generation, scoring, update) of pistar and TRL's RLOO in one run, on the CPU.

    cargo build --release
    python3 benches/peers/run_online.py --model DIR [--prompts 64 --completions 4 --tokens 64 --steps 6 --threads 2]

DIR is a Llama with a tokenizer, such as stories260K; without --model a random one of 25 million parameters with a
tokenizer of words is written. Both sides complete the same prompts with RLOO, k completions each, a
reward by length, AdamW. Seconds of a step are the median over all but the first of each run; runs alternate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def large(folder):
    """A random Llama of 25 million parameters, whose tokenizer has words alone."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = ["<unk>", "<s>", "</s>"] + [f"w{i}" for i in range(8189)]
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    special = [
        {"id": i, "content": words[i], "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for i in range(3)
    ]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "added_tokens": special,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(words)}, "unk_token": "<unk>"},
    }
    with open(folder + "/tokenizer.json", "w") as f:
        json.dump(tokenizer, f)
    with open(folder + "/tokenizer_config.json", "w") as f:
        json.dump({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, f)
    return [" ".join(f"w{(7 * i + j) % 8000}" for j in range(8)) for i in range(64)]


def pistar(args, place, texts, steps):
    """Seconds a step, from the times at which rows of metrics were written; peak memory."""
    prompts = place + "/prompts.jsonl"
    with open(prompts, "w") as f:
        for text in texts:
            f.write(json.dumps({"prompt": text}) + "\n")
    out = place + "/run"
    command = [
        args.pistar, "train", "rloo", "--model", args.model, "--prompts", prompts, "--reward", "length:characters",
        "--batch", str(args.prompts), "--completions", str(args.completions), "--max-new-tokens", str(args.tokens),
        "--steps", str(steps), "--lr", "1e-5", "--schedule", "linear", "--beta", "0.05", "--clip", "1",
        "--checkpoint-every", "0", "--overwrite", "--out", out,
    ]
    env = dict(os.environ, RAYON_NUM_THREADS=str(args.threads))
    began = time.perf_counter()
    with open(place + "/error", "wb") as error:
        child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=error)
        # Its own peak, not the largest of all children.
        _, status, used = os.wait4(child.pid, 0)
    whole = time.perf_counter() - began
    if status:
        sys.exit(open(place + "/error").read())
    peak = used.ru_maxrss * 1024
    rows = [json.loads(line) for line in open(out + "/metrics.jsonl")]
    seconds = [row["seconds"] for row in rows]
    times = [seconds[0]] + [b - a for a, b in zip(seconds, seconds[1:])]
    lengths = [row["completions/mean_length"] for row in rows]
    return {"steps": times, "whole": whole, "lengths": lengths, "peak": peak}


def theirs(args, place, texts, steps):
    given = {
        "model": args.model, "threads": args.threads, "prompts": args.prompts, "completions": args.completions,
        "tokens": args.tokens, "steps": steps, "texts": texts, "out": place + "/trl",
    }
    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads))
    found = subprocess.run(
        [sys.executable, HERE + "/online_trl.py"], input=json.dumps(given), text=True, capture_output=True, env=env
    )
    line = [line for line in found.stdout.splitlines() if line.startswith("RESULT ")]
    if found.returncode or not line:
        sys.exit(found.stderr[-3000:])
    return json.loads(line[0][7:])


def vectors():
    flags = open("/proc/cpuinfo").read()
    return "avx512" if "avx512f" in flags else "avx2" if "avx2" in flags else "sse"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--pistar", default=ROOT + "/target/release/pistar")
    for name, default in [("prompts", 64), ("completions", 4), ("tokens", 64), ("steps", 6), ("threads", 2), ("runs", 2)]:
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        names = "Tom Lily Sam Anna Ben Mia Tim Sue".split()
        texts = [f"One day, {a} and {b} went to the" for a in names for b in names]
        if args.model is None:
            args.model = place + "/model"
            texts = large(args.model)
        ours, other = [], []
        for _ in range(args.runs):
            ours.append(pistar(args, place, texts, args.steps))
            other.append(theirs(args, place, texts, args.steps))
    fresh = args.prompts * args.completions

    def told(runs):
        times = [t for run in runs for t in run["steps"][1:]]
        step = statistics.median(times)
        length = statistics.mean(x for run in runs for x in run["lengths"])
        return {
            "seconds": step,
            "tokens_per_second": fresh * length / step,
            "mean_length": length,
            "peak": max(run["peak"] for run in runs),
        }

    result = {"pistar": told(ours), "trl": told(other), "versions": other[0]["versions"], "vectors": vectors()}
    # By tokens, where one side's completions are shorter.
    result["ratio"] = result["pistar"]["tokens_per_second"] / result["trl"]["tokens_per_second"]
    for name in ("pistar", "trl"):
        found = result[name]
        print(
            f"{name:7} {found['seconds']:8.3f} s a step, {found['tokens_per_second']:8.0f} new tokens/s "
            f"(mean length {found['mean_length']:.1f}), peak {found['peak'] / 1e6:.0f} MB"
        )
    print(f"ratio {result['ratio']:.2f}; {result['versions']}, {result['vectors']}, {args.threads} threads")
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"settings": vars(args), **result, "runs": {"pistar": ours, "trl": other}}, f, indent=1)


main()
