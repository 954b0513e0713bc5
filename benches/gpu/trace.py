"""Training in bf16 against training in f32, and a device against the processor, on the same tiny data and model.

    python3 benches/gpu/trace.py BINARY OUT_DIR [--device cuda:0] [--steps 20]

`pistar train` runs SFT and DPO in every way of the table below, with the same seed; every step's loss and gradient norm
are held against those of the run that is named, within the bound that is named. Exit status: 0 all within their bounds,
1 something is not, 2 nothing could be run. Needs Python alone.
"""

import argparse
import array
import json
import math
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "tests" / "llm" / "fixtures" / "tokenizer"
WIDTH, LAYERS, HEADS, KV_HEADS, INNER, VOCABULARY, CONTEXT = 128, 4, 4, 2, 352, 320, 256
SEED = 0
# Small, so that a step of 1e-4 is not below what bf16 can tell apart of most weights: it would be kept in the master
# weights alone, and the first steps of a bf16 run would lag behind.
DEVIATION = 0.02
# Name: device (None: that which is looked at), flags.
RUNS = {
    "cpu-f32": ("cpu", ["--dtype", "f32"]),
    "f32": (None, ["--dtype", "f32"]),
    "tf32": (None, ["--dtype", "f32", "--tf32"]),
    "bf16": (None, ["--dtype", "bf16"]),
    "bf16-again": (None, ["--dtype", "bf16"]),
    "bf16-recompute": (None, ["--dtype", "bf16", "--recompute"]),
    "bf16-unclipped": (None, ["--dtype", "bf16", "--clip", "0"]),
    "bf16-in-backward": (None, ["--dtype", "bf16", "--clip", "0", "--optimizer-in-backward"]),
}
# Run, what it is held against, bounds: of the first loss, of every loss (relative for SFT; absolute for DPO, whose
# losses begin at ln 2), of every gradient norm (relative). bf16 rounds to 8 bits, 2^-9 = 0.002 at most.
SAME = None  # to the bit on a processor; a GPU's libraries do not promise that: there, what bf16 rounds
PAIRS = [
    ("f32", "cpu-f32", (1e-5, 1e-3, 1e-2)),
    ("tf32", "f32", (1e-3, 1e-2, 5e-2)),
    ("bf16", "f32", (2e-3, 2e-2, 5e-2)),
    ("bf16-again", "bf16", SAME),
    ("bf16-recompute", "bf16", SAME),
    ("bf16-in-backward", "bf16-unclipped", SAME),
]
OBJECTIVES = {"sft": ["--lr", "1e-3"], "dpo": ["--lr", "1e-4", "--beta", "0.1"]}


def write_model(folder):
    """A Llama of 0.9 million random weights, under the tokenizer of the tests."""
    folder.mkdir(parents=True)
    for file in TOKENIZER.iterdir():
        if file.name != "expected.json":
            shutil.copy(file, folder)
    kv = WIDTH // HEADS * KV_HEADS
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,),
              "lm_head.weight": (VOCABULARY, WIDTH)}
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        shapes |= {at + "input_layernorm.weight": (WIDTH,), at + "post_attention_layernorm.weight": (WIDTH,),
                   at + "self_attn.q_proj.weight": (WIDTH, WIDTH), at + "self_attn.k_proj.weight": (kv, WIDTH),
                   at + "self_attn.v_proj.weight": (kv, WIDTH), at + "self_attn.o_proj.weight": (WIDTH, WIDTH),
                   at + "mlp.gate_proj.weight": (INNER, WIDTH), at + "mlp.up_proj.weight": (INNER, WIDTH),
                   at + "mlp.down_proj.weight": (WIDTH, INNER)}
    draw, header, data = random.Random(SEED), {}, bytearray()
    for name, shape in shapes.items():
        count = math.prod(shape)
        numbers = array.array("f", [1.0] * count if len(shape) == 1 else [draw.gauss(0, DEVIATION) for _ in range(count)])
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * count]}
        data += numbers.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "intermediate_size": INNER,
        "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1,
        "torch_dtype": "float32"}))


def write_data(out):
    """Numbers that go on, or do not."""
    draw = random.Random(SEED + 1)
    demonstrations, pairs = [], []
    for _ in range(64):
        start, count = draw.randrange(100), draw.randrange(3, 20)
        prompt = f"Count from {start}:"
        chosen = "".join(f" {start + i}" for i in range(count))
        rejected = "".join(f" {draw.randrange(100)}" for _ in range(draw.randrange(3, 20)))
        demonstrations.append({"prompt": prompt, "completion": chosen})
        pairs.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    for name, rows in [("sft", demonstrations), ("dpo", pairs)]:
        (out / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def train(o, name, objective):
    """Losses and gradient norms of every step, and seconds; or what went wrong."""
    device, flags = RUNS[name]
    run = o.out / f"{objective}-{name}"
    command = [str(o.binary), "train", objective, "--model", str(o.out / "model"), "--data",
               str(o.out / f"{objective}.jsonl"), "--out", str(run), "--device", device or o.device, "--steps",
               str(o.steps), "--batch", "8", "--seed", "7", *OBJECTIVES[objective], *flags]
    start = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=o.limit)
    except subprocess.TimeoutExpired:
        return f"took more than {o.limit:g} s"
    except OSError as e:
        print(f"trace.py: cannot start {o.binary}: {e.strerror}", file=sys.stderr)
        sys.exit(2)
    (o.out / f"{objective}-{name}.log").write_text(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
        return (lines or [f"exit status {done.returncode}"])[0]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "loss" in row]
    for folder in [run / "model", *run.glob("checkpoint-*")]:
        shutil.rmtree(folder, ignore_errors=True)
    if len(rows) != o.steps:
        return f"{len(rows)} rows of {o.steps}"
    return {"loss": [r["loss"] for r in rows], "grad_norm": [r["grad_norm"] for r in rows],
            "seconds": time.monotonic() - start}


def apart(objective, a, b):
    """The distance of the first losses, the most of all losses and of all norms."""
    def relative(x, y):
        return 0.0 if x == y else abs(x - y) / abs(y)
    losses = [abs(x - y) if objective == "dpo" else relative(x, y) for x, y in zip(a["loss"], b["loss"])]
    norms = [relative(x, y) for x, y in zip(a["grad_norm"], b["grad_norm"])]
    return [losses[0], max(losses), max(norms)] if all(map(math.isfinite, losses + norms)) else [math.inf] * 3


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binary", type=Path, help="the built pistar")
    p.add_argument("out", type=Path, help="a folder, made anew")
    p.add_argument("--device", default="cuda:0")
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--limit", type=float, default=60, metavar="SECONDS", help="for one run")
    o = p.parse_args()
    if o.out.exists():
        p.error(f"{o.out} is there already: remove it, or name another folder")
    o.binary = o.binary.resolve()
    write_model(o.out / "model")
    write_data(o.out)
    print(f"{o.steps} steps on {o.device}; distances are relative, of DPO's losses absolute; bounds in brackets")
    print(f"{'':<5}{'run':<17}{'against':<15}{'first loss':>18}{'losses':>18}{'norms':>18}{'s':>7}")
    good, whole = True, []
    left_out = {"tf32"} if o.device == "cpu" else set()  # a processor has no TF32
    for objective in OBJECTIVES:
        found = {name: train(o, name, objective) for name in RUNS if name not in left_out}
        for name, other, bounds in PAIRS:
            if name in left_out:
                continue
            if bounds is SAME:
                bounds = (0.0, 0.0, 0.0) if o.device == "cpu" else (2e-3, 2e-2, 5e-2)
            missing = next((n for n in (name, other) if isinstance(found[n], str)), None)
            row = {"objective": objective, "run": name, "against": other, "bounds": bounds}
            if missing:
                row["failed"], said = found[missing], f"  {missing}: {found[missing]}"
                row["within"] = False
            else:
                row["apart"] = apart(objective, found[name], found[other])
                row["within"] = all(d <= b for d, b in zip(row["apart"], bounds))
                said = "".join(f"{d:>9.1e} ({b:g})".rjust(18) for d, b in zip(row["apart"], bounds))
                said += f"{found[name]['seconds']:>7.1f}"
                said += "  NOT within" if not row["within"] else "  same bits" if not any(row["apart"]) else ""
            good &= row["within"]
            whole.append(row)
            print(f"{objective:<5}{name:<17}{other:<15}{said}", flush=True)
        (o.out / "traces.json").write_text(json.dumps({"device": o.device, "rows": whole}, indent=1) + "\n")
    print("all within their bounds" if good else "something is NOT within its bound")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
