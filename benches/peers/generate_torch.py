"""Greedy generation with transformers' `generate`: key-value cache, EOS disabled, in f32."""

import argparse
import json
import time

import torch
import transformers
from transformers import AutoModelForCausalLM

import llm


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", required=True, help="a folder")
    p.add_argument("--prompts", required=True, help="a JSON list of lists of tokens, of one length")
    p.add_argument("--batch", type=int, required=True, help="sequences at once")
    p.add_argument("--new", type=int, default=128)
    p.add_argument("--temperature", type=float, default=0.0)
    p.add_argument("--top-p", type=float, default=1.0)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--warm-up", type=int, default=1)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    p.add_argument("--json", required=True, metavar="FILE")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    transformers.utils.logging.set_verbosity_error()
    start = llm.resident("VmRSS")
    model = AutoModelForCausalLM.from_pretrained(o.model, dtype=torch.float32, attn_implementation=o.attention).eval()
    with open(o.prompts) as f:
        prompts = torch.tensor(json.load(f))
    how = dict(max_new_tokens=o.new, min_new_tokens=o.new, use_cache=True, pad_token_id=0, eos_token_id=None)
    how |= dict(do_sample=False) if o.temperature == 0 else dict(
        do_sample=True, temperature=o.temperature, top_k=0, top_p=o.top_p)
    seconds = []
    with torch.inference_mode():
        for _ in range(o.warm_up + o.runs):
            begin = time.perf_counter()
            parts = [model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
                     for ids in prompts.split(o.batch)]
            seconds.append(time.perf_counter() - begin)
    tokens = [row for part in parts for row in part[:, prompts.shape[1]:].tolist()]
    llm.report(o.json, implementation="transformers", version=f"{transformers.__version__} (PyTorch {torch.__version__})",
               seconds=seconds[o.warm_up:], tokens=tokens, start_mb=start, peak_mb=llm.resident("VmHWM"))


if __name__ == "__main__":
    main()
