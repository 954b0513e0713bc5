"""Times greedy generation in pistar and transformers on this machine: tokens/s, ratios, peak memory.

Exit status: 0 both generate the same tokens, 1 they do not, 2 something could not be run.
"""

import argparse
import json
import os
import platform
import random
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

import torch
import transformers

import llm
from run import cpu_model
from run_llm import run, write_model

HERE = Path(__file__).resolve().parent
PROMPT = 32


def fail(message):
    print(f"run_generate.py: {message}", file=sys.stderr)
    sys.exit(2)


def write_prompts(path, name, count):
    draw = random.Random(2)
    vocabulary = llm.MODELS[name]["vocab_size"]
    path.write_text(json.dumps([[draw.randrange(3, vocabulary) for _ in range(PROMPT)] for _ in range(count)]))


def compare(o, tmp, name, batch, threads):
    common = ["--model", str(tmp / name), "--prompts", str(tmp / f"{name}-{batch}.json"), "--batch", str(batch),
              "--new", str(o.new), "--threads", str(threads), "--runs", str(o.runs),
              "--temperature", str(o.temperature), "--top-p", str(o.top_p)]
    python = [sys.executable, str(HERE / "generate_torch.py"), *common]
    commands = {"pistar": [o.pistar, *common]} | {a: [*python, "--attention", a] for a in o.attention}
    runs = {who: [] for who in commands}
    for _ in range(o.repeats):  # in turn, so that a disturbance meets all
        for who, command in commands.items():
            runs[who].append(run(o, command, tmp / "out.json"))
    row = {"model": name, "batch": batch, "threads": threads, "prompt": PROMPT, "new": o.new,
           "others": max(d["others"] for done in runs.values() for d in done)}
    for who, done in runs.items():
        seconds = statistics.median(s for d in done for s in d["seconds"])
        row[who] = {"seconds": seconds, "tokens_per_second": batch * o.new / seconds,
                    "seconds_all": [d["seconds"] for d in done],
                    "peak_mb": max(d["peak_mb"] for d in done), "start_mb": done[0]["start_mb"],
                    "version": f"{done[0]['implementation']} {done[0]['version']}"}
    best = min(o.attention, key=lambda a: row[a]["seconds"])
    row["best"] = best
    row["ratio"] = row[best]["seconds"] / row["pistar"]["seconds"]
    pairs = list(zip(runs["pistar"][0]["tokens"], runs[best][0]["tokens"], strict=True))
    row["same"] = sum(a == b for a, b in pairs) / len(pairs)
    return row


def show(row):
    own, peer = row["pistar"], row[row["best"]]
    print(f"{row['model']:<6}{row['batch']:>6}{row['threads']:>4}{own['tokens_per_second']:>12.0f}"
          f"{peer['tokens_per_second']:>14.0f}  {row['best']:<6}{row['ratio']:>7.2f}"
          f"{own['peak_mb']:>8.0f}{own['peak_mb'] - own['start_mb']:>6.0f}"
          f"{peer['peak_mb']:>8.0f}{peer['peak_mb'] - peer['start_mb']:>6.0f}"
          f"{row['same']:>7.0%}{row['others']:>8.0%}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", nargs="+", choices=llm.MODELS, default=list(llm.MODELS))
    p.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    p.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    p.add_argument("--attention", nargs="+", choices=["sdpa", "eager"], default=["sdpa", "eager"],
                   help="transformers' attention; the faster one counts")
    p.add_argument("--new", type=int, default=128, help="tokens of each completion")
    p.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    p.add_argument("--top-p", type=float, default=1.0)
    p.add_argument("--runs", type=int, default=3, help="generations of a process, after one that does not count")
    p.add_argument("--repeats", type=int, default=2, help="processes of each; the median of all counts")
    p.add_argument("--others", type=float, default=0.05, metavar="SHARE",
                   help="a run during which other processes took more of the machine is repeated")
    p.add_argument("--patience", type=float, default=60, metavar="SECONDS", help="for how long")
    p.add_argument("--pistar", default="target/release/examples/llm_generate", help="the built example")
    p.add_argument("--json", metavar="FILE", help="write the numbers here")
    o = p.parse_args()
    if not os.access(o.pistar, os.X_OK):
        fail(f"{o.pistar} is not there: run cargo build --release --example llm_generate from the repository root")
    command = shlex.join(["python3", os.path.relpath(__file__), *sys.argv[1:]])
    load = os.getloadavg()[0]
    how = "greedy" if o.temperature == 0 else f"temperature {o.temperature:g}, top-p {o.top_p:g}"
    print(f"command    {command}")
    print(f"machine    {cpu_model()}, {os.cpu_count()} CPUs, load {load:.2f} before the runs; "
          f"Python {platform.python_version()}, PyTorch {torch.__version__}, transformers {transformers.__version__}")
    print(f"task       {o.new} tokens after {PROMPT}, {how}, EOS disabled, f32; the median of "
          f"{o.repeats * o.runs} generations")
    print("memory     peak resident MB, and that above what was resident before the model was loaded")
    print("same       completions with the same tokens")
    print("others     share of the machine that other processes took in the worst of a row's runs\n")
    print(f"{'model':<6}{'batch':>6}{'thr':>4}{'pistar t/s':>12}{'transformers':>14}  {'':<6}{'ratio':>7}"
          f"{'MB':>8}{'':>6}{'theirs':>8}{'':>6}{'same':>7}{'others':>8}")
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        for name in o.models:
            write_model(tmp / name, name)
            for batch in o.batches:
                write_prompts(tmp / f"{name}-{batch}.json", name, batch)
                for threads in o.threads:
                    rows.append(compare(o, tmp, name, batch, threads))
                    show(rows[-1])
    if o.json:
        Path(o.json).write_text(json.dumps({"command": command, "cpu": cpu_model(), "load_before": load,
                                            "rows": rows}, indent=1) + "\n")
    bad = o.temperature == 0 and any(r["same"] < 1 for r in rows)
    if o.temperature == 0:
        print(f"agreement  {'NO' if bad else 'yes'}: all completions have the tokens of transformers")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
