"""A training step of a Llama on a GPU in PyTorch, set up well: SFT or DPO, clipping, AdamW.

Compiled blocks, fused causal attention (cuDNN's or flash, whichever is faster for this shape), compiled
cross-entropy, fused AdamW, no synchronisation within the timed steps. Matrices are multiplied in bf16; weights are
kept either in bf16 with an f32 copy for AdamW (`--master copy`, what pistar does), or in f32 and cast by autocast
(`--master autocast`). Exit status 3: out of memory.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import gpu
import gpu_adamw
from llm import resident
from llm_torch import Llama

OUT_OF_MEMORY = 3


def build(config, dtype, device):
    """A model of that precision, made where it will be; numbers come later."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return Model(config)
    finally:
        torch.set_default_dtype(before)


def initialise(model):
    """Random weights, normal with standard deviation 0.02, norms 1."""
    torch.manual_seed(0)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            weight.fill_(1.0) if "norm" in key else weight.normal_(std=gpu.DEVIATION)


class Model(Llama):
    """The Llama of `llm_torch.py`, its activations in one precision, its blocks recomputed if asked."""
    activations = None
    recomputed = False

    def forward(self, tokens):
        x = self.embed_tokens(tokens)
        x = x.to(self.activations or x.dtype)
        cos, sin = self.cos[:tokens.shape[1]], self.sin[:tokens.shape[1]]
        for layer in self.layers:
            if self.recomputed and torch.is_grad_enabled():
                x = checkpoint(layer, x, cos, sin, use_reentrant=False, preserve_rng_state=False)
            else:
                x = layer(x, cos, sin)
        return self.norm(x)


def log_probs(h, weight, targets):
    """ln pi of each target: h [N, W], weight [V, W], targets [N] to f32 [N]."""
    return -F.cross_entropy(F.linear(h, weight).float(), targets, reduction="none")


class Batch:
    """Sequences of one length on the device; DPO has the chosen ones first."""

    def __init__(self, batch, device, head=log_probs, chunk=None):
        tokens = torch.tensor(batch["sequences"], device=device)
        self.inputs, self.first = tokens[:, :-1].contiguous(), batch["prompts"][0] - 1
        self.targets = tokens[:, 1 + self.first:].reshape(-1)
        self.reference = torch.tensor(batch.get("log_reference", []), device=device, dtype=torch.float32)
        self.head, self.chunk = head, chunk

    def log_probs(self, model):
        """[sequences, predicted tokens]"""
        h = model(self.inputs)
        count = len(h)
        h = h[:, self.first:].flatten(0, 1)
        if self.chunk is None:
            each = self.head(h, model.lm_head.weight, self.targets)
        else:  # no more than `chunk` rows of logits at once; the backward makes them again
            weight, again = model.lm_head.weight, dict(use_reentrant=False, preserve_rng_state=False)
            each = torch.cat([checkpoint(self.head, a, weight, b, **again)
                              for a, b in zip(h.split(self.chunk), self.targets.split(self.chunk))])
        return each.view(count, -1)

    def loss(self, model, objective):
        each = self.log_probs(model)
        if objective == "sft":
            return -each.mean()
        chosen, rejected = (each.sum(-1) - self.reference).chunk(2)
        return -F.logsigmoid(gpu.BETA * (chosen - rejected)).mean()


# Fused attention that has a backward.
BACKENDS = {"cudnn": torch.nn.attention.SDPBackend.CUDNN_ATTENTION,
            "flash": torch.nn.attention.SDPBackend.FLASH_ATTENTION}


def attention_ms(config, sequences, length, dtype):
    """Milliseconds of attention, forward and backward, by each fused implementation; None where it refuses."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size = config["hidden_size"] // heads
    q, k, v = (torch.randn(sequences, length, n, size, device="cuda", dtype=dtype).transpose(1, 2).requires_grad_()
               for n in [heads, kv_heads, kv_heads])
    dy = torch.randn_like(q)
    found = {}
    for name, backend in BACKENDS.items():
        times = []
        try:
            with torch.nn.attention.sdpa_kernel([backend]):
                for _ in range(8):
                    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                    begin.record()
                    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
                    y.backward(dy)
                    end.record()
                    torch.cuda.synchronize()
                    times.append(begin.elapsed_time(end))
            found[name] = statistics.median(times[3:])
        except RuntimeError as e:
            if isinstance(e, torch.cuda.OutOfMemoryError):
                raise
            found[name] = None
    return found


def choose_attention(o, config, sequences, length, dtype):
    """Leaves one implementation on. None: PyTorch's own choice."""
    if o.device != "cuda" or dtype == torch.float32:
        return None, {}
    found = attention_ms(config, sequences, length, dtype)
    usable = {name: ms for name, ms in found.items() if ms is not None and o.attention in ("best", name)}
    if not usable:
        return None, found
    best = min(usable, key=usable.get)
    torch.backends.cuda.enable_cudnn_sdp(best == "cudnn")
    torch.backends.cuda.enable_flash_sdp(best == "flash")
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_math_sdp(False)
    return best, found


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=Path, required=True, help="a folder; without model.safetensors: random weights")
    p.add_argument("--batches", type=Path, required=True, help="a file of batches")
    p.add_argument("--objective", choices=["sft", "dpo"], required=True)
    p.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    p.add_argument("--dtype", choices=["f32", "bf16"], default="bf16")
    p.add_argument("--master", choices=["copy", "autocast"], default="copy", help="where the f32 weights are")
    p.add_argument("--compile", choices=["block", "model", "off"], default="block")
    p.add_argument("--attention", choices=["best", *BACKENDS], default="best")
    p.add_argument("--recompute", action="store_true", help="blocks run again in the backward")
    p.add_argument("--head-rows", type=int, metavar="N", help="logits of so many tokens at once, made twice")
    p.add_argument("--optimizer-in-backward", action="store_true", help="no clipping; no gradient is kept")
    p.add_argument("--tf32", action="store_true", help="f32 products in TF32")
    p.add_argument("--lr", type=float, default=gpu.LR)
    p.add_argument("--warm-up", type=int, default=3, help="steps that do not count")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--threads", type=int, help="of the CPU")
    p.add_argument("--json", type=Path, required=True, metavar="FILE")
    o = p.parse_args()
    if o.device == "cuda" and not torch.cuda.is_available():
        p.error("PyTorch sees no GPU: --device cpu")
    for file in [o.model / "config.json", o.batches]:
        if not file.is_file():
            p.error(f"{file} is not there: gpu_prepare.py writes it")
    return o


def prepared(o):
    """Model, optimiser, batches and what was chosen."""
    mixed = o.dtype == "bf16"
    copies = mixed and o.master == "copy"
    config = json.loads((o.model / "config.json").read_text())
    model = build(config, torch.bfloat16 if copies else torch.float32, o.device)
    if (o.model / "model.safetensors").exists():
        model.load(o.model)
    else:
        initialise(model)
    model.activations, model.recomputed = torch.bfloat16 if mixed else torch.float32, o.recompute
    optimizer = gpu_adamw.make(model, copies, o.lr, None if o.optimizer_in_backward else gpu.CLIP)
    raw = json.loads(o.batches.read_text())
    shape = len(raw[0]["sequences"]), len(raw[0]["sequences"][0]) - 1
    attention, tried = choose_attention(o, config, *shape, model.activations)
    head = log_probs
    if o.compile != "off":
        head = torch.compile(log_probs, fullgraph=True, dynamic=False)
    if o.compile == "block":
        for layer in model.layers:
            layer.compile(fullgraph=True, dynamic=False)
    elif o.compile == "model":
        model.compile(dynamic=False)
    batches = [Batch(b, o.device, head, o.head_rows) for b in raw]
    return model, optimizer, batches, {"attention": attention, "attention_ms": tried}


def run(o):
    start = resident("VmRSS")
    torch.set_float32_matmul_precision("high" if o.tf32 else "highest")
    model, optimizer, batches, chosen = prepared(o)
    cuda = o.device == "cuda"
    autocast = o.dtype == "bf16" and o.master == "autocast"
    cast = torch.autocast(o.device, dtype=torch.bfloat16) if autocast else contextlib.nullcontext()
    now = (lambda: mark()) if cuda else time.perf_counter
    losses, norms, marks = [], [], []

    def mark():
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    begin = time.perf_counter()
    for step in range(o.warm_up + o.steps):
        if step == o.warm_up:
            if cuda:
                torch.cuda.synchronize()
            warm_up_s, begin = time.perf_counter() - begin, time.perf_counter()
            marks.append(now())
        with cast:
            loss = batches[step % len(batches)].loss(model, o.objective)
        loss.backward()
        norm = optimizer.step()
        losses.append(loss.detach())
        norms.append(norm)
        if step >= o.warm_up:
            marks.append(now())
    if cuda:
        torch.cuda.synchronize()
    wall = 1e3 * (time.perf_counter() - begin) / o.steps
    between = zip(marks, marks[1:])
    ms = [a.elapsed_time(b) for a, b in between] if cuda else [1e3 * (b - a) for a, b in between]
    return dict(implementation="PyTorch", version=torch.__version__, ms=ms, ms_wall=wall, warm_up_s=warm_up_s,
                losses=[x.item() for x in losses], norms=[None if x is None else x.item() for x in norms],
                start_mb=start, peak_mb=resident("VmHWM"),
                device_peak_mb=torch.cuda.max_memory_allocated() / 1e6 if cuda else None,
                device_reserved_mb=torch.cuda.max_memory_reserved() / 1e6 if cuda else None, **chosen)


def main():
    o = options()
    if o.threads:
        torch.set_num_threads(o.threads)
    try:
        numbers = run(o)
    except torch.cuda.OutOfMemoryError as e:
        print(f"out of memory: {e}", file=sys.stderr)
        sys.exit(OUT_OF_MEMORY)
    o.json.write_text(json.dumps(numbers))


if __name__ == "__main__":
    main()
