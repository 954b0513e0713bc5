"""Writes a model's configuration, weights and batches, for both sides; or measures a GPU's two ceilings.

    gpu_prepare.py --model NAME --out DIR [--device cuda]
    gpu_prepare.py --ceilings FILE.json [--device cuda]
"""

import argparse
import json
import math
import random
import statistics
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

import gpu
from gpu_torch import Batch, build, initialise


def facts(device):
    """The machine, as PyTorch sees it."""
    found = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    if device == "cuda":
        p = torch.cuda.get_device_properties(0)
        found |= {"name": p.name, "gb": p.total_memory / 1e9, "multiprocessors": p.multi_processor_count,
                  "capability": f"{p.major}.{p.minor}"}
    return found


def seconds(device, work, repeats=20, warm_up=5):
    """The median time of `work`, by the device's own clock where it has one."""
    times = []
    for i in range(warm_up + repeats):
        if device == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        else:
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return statistics.median(times[warm_up:])


def ceilings(device):
    """A bf16 product of random matrices and a copy: TFLOP/s, and TB/s read and written together."""
    n, count = (8192, 1 << 32) if device == "cuda" else (512, 1 << 22)
    a, b = (torch.randn(n, n, device=device).bfloat16() for _ in range(2))
    product = 2 * n ** 3 / seconds(device, lambda: a @ b) / 1e12
    x = torch.randint(0, 255, (count,), dtype=torch.uint8, device=device)
    y = torch.empty_like(x)
    copy = 2 * count / seconds(device, lambda: y.copy_(x)) / 1e12
    return {"product_size": n, "product_tflops": product, "copy_tb_per_s": copy}


def references(model, batch, device):
    """Sums of log-probabilities, one sequence at a time."""
    with torch.no_grad():
        return [Batch({k: [v[i]] for k, v in batch.items()}, device).log_probs(model).sum(dtype=torch.float64).item()
                for i in range(len(batch["sequences"]))]


def write(name, out, device):
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(gpu.config(name)))
    model = None
    if name in gpu.WRITTEN:
        model = build(gpu.config(name), torch.bfloat16, device)
        initialise(model)
        weights = {k if k.startswith("lm_head") else f"model.{k}": v.contiguous().cpu()
                   for k, v in model.state_dict().items()}
        save_file(weights, out / "model.safetensors")
        model = model.float()
    draw = random.Random(1)
    most = gpu.BATCHES[name][0]
    for objective in ["sft", "dpo"]:
        batches = []
        for _ in range(gpu.COUNT):
            tokens = [[draw.randrange(gpu.MODELS[name]["vocab_size"]) for _ in range(gpu.LENGTH[name] + 1)]
                      for _ in range(most)]
            batch = {"sequences": tokens, "prompts": [gpu.prompt(name, objective)] * most}
            if objective == "dpo":
                # Of weights that are not written: what a model that knows nothing says.
                nothing = -gpu.predicted(name, objective) * math.log(gpu.MODELS[name]["vocab_size"])
                batch["log_reference"] = references(model, batch, device) if model else [nothing] * most
            batches.append(batch)
        for n in gpu.BATCHES[name]:
            (out / f"{objective}-{n}.json").write_text(json.dumps([part(b, n, objective) for b in batches]))


def part(batch, n, objective):
    """The batch's first n sequences; of DPO the first n / 2 pairs, chosen ones first."""
    half = len(batch["sequences"]) // 2
    take = (lambda v: v[:n]) if objective == "sft" else (lambda v: v[:n // 2] + v[half:half + n // 2])
    return {k: take(v) for k, v in batch.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", choices=gpu.MODELS)
    p.add_argument("--out", type=Path, metavar="DIR")
    p.add_argument("--ceilings", type=Path, metavar="FILE.json")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    o = p.parse_args()
    if (o.model is None) != (o.out is None) or (o.model is None and o.ceilings is None):
        p.error("give --model and --out, or --ceilings")
    if o.device == "cuda" and not torch.cuda.is_available():
        p.error("PyTorch sees no GPU: --device cpu")
    if o.ceilings:
        o.ceilings.write_text(json.dumps(facts(o.device) | ceilings(o.device)) + "\n")
    if o.model:
        write(o.model, o.out, o.device)


if __name__ == "__main__":
    main()
