"""Times a training step of a Llama in pistar and PyTorch on this machine: ms, ratios, tokens/s, peak memory.

Exit status: 0 both compute the same losses, 1 they do not, 2 something could not be run.
"""

import argparse
import json
import math
import os
import platform
import random
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

import llm
from llm_torch import Llama, Padded
from run import cpu_model

HERE = Path(__file__).resolve().parent
STEPS = {"25m": (2, 8), "260k": (4, 40)}  # warm-up, counted
LIMIT = 1e-3  # relative difference of losses after all steps


def fail(message):
    print(f"run_llm.py: {message}", file=sys.stderr)
    sys.exit(2)


def write_model(folder, name):
    """Random weights, normal with standard deviation 0.02, norms 1."""
    torch.manual_seed(0)
    config = llm.config(name)
    model = Llama(config)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            weight.fill_(1.0) if "norm" in key else weight.normal_(std=0.02)
    weights = {k if k.startswith("lm_head") else f"model.{k}": v.contiguous()
               for k, v in model.state_dict().items()}
    if config["tie_word_embeddings"]:
        del weights["lm_head.weight"]
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return model


def write_batches(path, name, objective, ragged, model):
    draw = random.Random(1)
    batches = []
    for _ in range(llm.BATCHES):
        tokens = [[draw.randrange(llm.MODELS[name]["vocab_size"]) for _ in range(n)]
                  for n in llm.lengths(name, ragged, draw)]
        batch = {"sequences": tokens, "prompts": [llm.PROMPT[objective]] * len(tokens)}
        if objective == "dpo":
            with torch.no_grad():
                batch["log_reference"] = Padded(batch).log_probs(model)[1].tolist()
        batches.append(batch)
    path.write_text(json.dumps(batches))
    real = statistics.fmean(sum(len(s) - 1 for s in b["sequences"]) for b in batches)
    padded = statistics.fmean(len(b["sequences"]) * max(len(s) - 1 for s in b["sequences"]) for b in batches)
    return real, padded


def busy():
    """Processor seconds that anybody used so far, and that our children did."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, f.readline().split()[1:])
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ((user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"),
            children.ru_utime + children.ru_stime)


def others(work):
    """What `work` returns, and the share of the machine that other processes took meanwhile."""
    start, (all0, own0) = time.perf_counter(), busy()
    result = work()
    all1, own1 = busy()
    capacity = (time.perf_counter() - start) * os.cpu_count()
    return result, max(0.0, (all1 - all0 - (own1 - own0)) / capacity)


def run(o, command, out):
    """A run that others did not disturb by more than `--others`, if one comes in time."""
    deadline = time.monotonic() + o.patience
    while True:
        while others(lambda: time.sleep(1))[1] > o.others and time.monotonic() < deadline:
            time.sleep(2)
        try:
            done, share = others(lambda: subprocess.run([*command, "--json", str(out)], capture_output=True,
                                                        text=True))
        except OSError as e:
            fail(f"cannot start {command[0]}: {e}")
        if done.returncode != 0:
            fail(f"exit status {done.returncode} from: {shlex.join(command)}\n{done.stdout}{done.stderr}")
        if share <= o.others or time.monotonic() >= deadline:
            return dict(json.loads(out.read_text()), others=share)


def compare(o, tmp, name, objective, ragged, threads, sizes):
    warm, steps = STEPS[name]
    common = ["--model", str(tmp / name), "--batches", str(tmp / f"{name}-{objective}-{ragged}.json"),
              "--objective", objective, "--threads", str(threads), "--warm-up", str(warm), "--steps", str(steps)]
    python = [sys.executable, str(HERE / "llm_torch.py"), *common]
    commands = {"pistar": [o.pistar, *common], "torch": python}
    if o.fused:
        commands["torch-fused"] = [*python, "--fused"]
    if o.before:
        commands["before"] = [o.before, *common]
    runs = {who: [] for who in commands}
    for _ in range(o.repeats):  # in turn, so that a disturbance meets both
        for who, command in commands.items():
            runs[who].append(run(o, command, tmp / "out.json"))
    row = {"model": name, "objective": objective, "lengths": "ragged" if ragged else "equal",
           "threads": threads, "tokens": sizes[0], "padded_tokens": sizes[1],
           "others": max(d["others"] for done in runs.values() for d in done)}
    for who, done in runs.items():
        row[who] = {"ms": statistics.median(ms for d in done for ms in d["ms"]),
                    "ms_all": [d["ms"] for d in done],
                    "peak_mb": max(d["peak_mb"] for d in done), "start_mb": done[0]["start_mb"],
                    "losses": done[0]["losses"], "version": f"{done[0]['implementation']} {done[0]['version']}"}
    row["ratio"] = row["torch"]["ms"] / row["pistar"]["ms"]
    row["difference"] = max(abs(a - b) / max(abs(b), 1e-9) for a, b in
                            zip(row["pistar"]["losses"], row["torch"]["losses"], strict=True))
    return row


def show(row):
    own, peer = row["pistar"], row["torch"]
    extra = f"{row['torch-fused']['ms']:>9.1f}" if "torch-fused" in row else ""
    if "before" in row:
        extra += f"{row['before']['ms']:>10.2f}"
    print(f"{row['model']:<6}{row['objective']:<5}{row['lengths']:<8}{row['threads']:>3}"
          f"{own['ms']:>10.2f}{peer['ms']:>10.2f}{extra}{row['ratio']:>8.2f}"
          f"{1e3 * row['tokens'] / own['ms']:>11.0f}{1e3 * row['tokens'] / peer['ms']:>9.0f}"
          f"{own['peak_mb']:>9.0f}{own['peak_mb'] - own['start_mb']:>6.0f}"
          f"{peer['peak_mb']:>9.0f}{peer['peak_mb'] - peer['start_mb']:>6.0f}"
          f"{row['difference']:>10.1e}{row['others']:>8.0%}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", nargs="+", choices=llm.MODELS, default=list(llm.MODELS))
    p.add_argument("--objectives", nargs="+", choices=["dpo", "sft"], default=["dpo", "sft"])
    p.add_argument("--lengths", nargs="+", choices=["equal", "ragged"], default=["equal", "ragged"])
    p.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    p.add_argument("--repeats", type=int, default=3, help="runs of each; the median of all steps counts")
    p.add_argument("--others", type=float, default=0.05, metavar="SHARE",
                   help="a run during which other processes took more of the machine is repeated")
    p.add_argument("--patience", type=float, default=60, metavar="SECONDS", help="for how long")
    p.add_argument("--fused", action="store_true", help="also PyTorch with AdamW(fused=True)")
    p.add_argument("--pistar", default="target/release/examples/llm_step", help="the built example")
    p.add_argument("--before", metavar="PROGRAM", help="another build of it, in the same run")
    p.add_argument("--json", metavar="FILE", help="write the numbers here")
    o = p.parse_args()
    for program in filter(None, [o.pistar, o.before]):
        if not os.access(program, os.X_OK):
            fail(f"{program} is not there: run cargo build --release --example llm_step from the repository root")
    command = shlex.join(["python3", os.path.relpath(__file__), *sys.argv[1:]])
    load = os.getloadavg()[0]
    print(f"command    {command}")
    print(f"machine    {cpu_model()}, {os.cpu_count()} CPUs, load {load:.2f} before the runs; "
          f"Python {platform.python_version()}, PyTorch {torch.__version__}")
    print(f"task       forward, loss, backward, clipping, AdamW in f32; median step of {o.repeats} runs in turn")
    print("memory     peak resident MB, and that above what was resident before the model was loaded")
    print("others     share of the machine that other processes took in the worst of a row's runs\n")
    extra = (f"{'fused':>9}" if o.fused else "") + (f"{'before ms':>10}" if o.before else "")
    print(f"{'model':<6}{'loss':<5}{'lengths':<8}{'thr':>3}{'pistar ms':>10}{'torch ms':>10}{extra}{'ratio':>8}"
          f"{'pistar t/s':>11}{'torch':>9}{'MB':>9}{'':>6}{'torch':>9}{'':>6}{'loss diff':>10}{'others':>8}")
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        for name in o.models:
            model = write_model(tmp / name, name)
            for objective in o.objectives:
                for lengths in o.lengths:
                    ragged = lengths == "ragged"
                    sizes = write_batches(tmp / f"{name}-{objective}-{ragged}.json", name, objective, ragged, model)
                    for threads in o.threads:
                        rows.append(compare(o, tmp, name, objective, ragged, threads, sizes))
                        show(rows[-1])
            del model
    if o.json:
        Path(o.json).write_text(json.dumps({"command": command, "cpu": cpu_model(), "load_before": load,
                                            "rows": rows}, indent=1) + "\n")
    bad = [r for r in rows if not (r["difference"] < LIMIT and math.isfinite(r["pistar"]["losses"][-1]))]
    print(f"agreement  {'NO' if bad else 'yes'}: losses of all steps within {LIMIT:g} of PyTorch's")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
