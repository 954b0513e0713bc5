"""Runs CoPG's toy in pistar, JAX and PyTorch on this machine; prints seconds and ratios.

Exit status: 0 the mean regrets agree, 1 they do not, 2 something could not be run.
"""

import argparse
import csv
import itertools
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OBJECTIVES = ["copg", "ipo", "pg-zero", "pg-value"]
SHOWN_EPOCHS = [1, 10, 25, 50, 100]
LIMIT = 5.0  # standard errors


def fail(message):
    print(f"run.py: {message}", file=sys.stderr)
    sys.exit(2)


def timed(command):
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as e:
        fail(f"cannot start {command[0]}: {e}")
    wall = time.perf_counter() - start
    if done.returncode != 0:
        fail(f"exit status {done.returncode} from: {shlex.join(command)}\n{done.stdout}{done.stderr}")
    return wall


def summary(values):
    n = len(values)
    return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if n > 1 else None, "n": n}


def pistar_command(o, out, program=None):
    objectives = [word for name in OBJECTIVES for word in ("--objective", name)]
    return [program or o.pistar, "sim", "copg-toy", "--seeds", str(o.seeds), "--epochs", str(o.epochs),
            "--lr", "1e-3", *objectives, "--threads", str(o.threads), "--out", out, "--no-figure"]


def run_pistar(o, program):
    """Training seconds, wall seconds of the whole process, regret summaries."""
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp, "out")
        command = pistar_command(o, str(out), program)
        wall = timed(command)
        try:
            seconds = float(json.loads((out / "manifest.json").read_text())["train_s"])
            with open(out / "rows.csv", newline="") as f:
                rows = list(csv.DictReader(f))
            values = {}
            for row in rows:
                key = row["objective"], int(row["epoch"])
                values.setdefault(key, []).append(float(row["regret"]))
            regrets = {(m, e): summary(values[m, e]) for m in OBJECTIVES for e in o.shown}
        except (OSError, KeyError, ValueError) as e:
            fail(f"no usable manifest.json (train_s) and rows.csv (lr,objective,seed,epoch,regret) from\n"
                 f"  {shlex.join(command)}\n{type(e).__name__}: {e}\n(does this build have `sim copg-toy`?)")
    if any(r["n"] != o.seeds for r in regrets.values()):
        fail(f"rows.csv does not hold one row per seed, objective and epoch ({o.seeds} seeds)")
    if not 0 < seconds <= wall:
        fail(f"train_s = {seconds} is not within the process's {wall:.4f} s: is it wall time?")
    return seconds, wall, regrets, {}


def run_twin(o, script, extra):
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp, "out.json")
        wall = timed([sys.executable, str(HERE / script), "--seeds", str(o.seeds), "--epochs",
                      str(o.epochs), "--threads", str(o.threads), "--json", str(out), *extra])
        j = json.loads(out.read_text())
    regrets = {(m, e): j["objectives"][m]["regret"][str(e)] for m in OBJECTIVES for e in o.shown}
    return j["seconds"], wall, regrets, j


def disagreements(results, o):
    """Largest difference of means in standard errors, and those above the limit. The spread over
    seeds is pooled over the implementations, so a twin measured on few seeds is judged fairly."""
    worst, bad = 0.0, []
    for key in itertools.product(OBJECTIVES, o.shown):
        cells = {name: r["regrets"][key] for name, r in results.items()}
        df = sum(c["n"] - 1 for c in cells.values())
        var = sum((c["n"] - 1) * c["sd"] ** 2 for c in cells.values() if c["n"] > 1) / df
        for a, b in itertools.combinations(cells, 2):
            se = math.sqrt(var * (1 / cells[a]["n"] + 1 / cells[b]["n"])) + 1e-12
            z = abs(cells[a]["mean"] - cells[b]["mean"]) / se
            worst = max(worst, z)
            if not z <= LIMIT:
                bad.append(f"{key[0]} epoch {key[1]}: {a} {cells[a]['mean']:.6f}, "
                           f"{b} {cells[b]['mean']:.6f}, {z:.1f} standard errors apart")
    return worst, bad


def cpu_model():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=20)
    p.add_argument("--epochs", type=int, default=100)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--repeats", type=int, default=3, help="runs of each; the median counts")
    p.add_argument("--torch-extrapolate-from", type=int, metavar="K",
                   help="measure PyTorch on K seeds and scale linearly; the table says so")
    p.add_argument("--pistar", default="target/release/pistar", help="the built program")
    p.add_argument("--before", metavar="PROGRAM", help="another build of it, in the same run")
    p.add_argument("--json", metavar="FILE", help="write the numbers here")
    o = p.parse_args()
    if o.seeds < 2 or min(o.epochs, o.threads, o.repeats) < 1:
        p.error("--seeds must be at least 2, --epochs, --threads and --repeats at least 1")
    o.shown = [e for e in SHOWN_EPOCHS if e <= o.epochs]
    for program in filter(None, [o.pistar, o.before]):
        if not os.access(program, os.X_OK):
            fail(f"{program} is not there: run cargo build --release from the repository root, or give --pistar")
    version = subprocess.run([o.pistar, "--version"], capture_output=True, text=True).stdout.strip()

    torch_extra = ["--extrapolate-from", str(o.torch_extrapolate_from)] if o.torch_extrapolate_from else []
    runners = {
        "pistar": lambda: run_pistar(o, o.pistar),
        "jax": lambda: run_twin(o, "toy_jax.py", []),
        "jax-sort": lambda: run_twin(o, "toy_jax.py", ["--shuffle", "sort"]),
        "torch": lambda: run_twin(o, "toy_torch.py", torch_extra),
    }
    if o.before:
        runners["before"] = lambda: run_pistar(o, o.before)
    runs = {name: [] for name in runners}
    load_before = os.getloadavg()[0]
    for _ in range(o.repeats):  # in turn, so that a disturbance meets all of them
        for name, runner in runners.items():
            runs[name].append(runner())
    results = {}
    for name, done in runs.items():
        seconds, walls = [d[0] for d in done], [d[1] for d in done]
        detail = done[0][3]
        results[name] = {
            "version": f"{detail['implementation']} {detail['version']}" if detail else
            "pistar, the other build" if name == "before" else version or "pistar",
            "seconds": statistics.median(seconds), "seconds_all": seconds,
            "process_s": statistics.median(walls), "process_s_all": walls,
            "measured_seeds": detail.get("measured_seeds", o.seeds),
            "compile_s": statistics.median(d[3]["compile_seconds"] for d in done)
            if "compile_seconds" in detail else None,
            "regrets": done[0][2],
        }

    base = results["pistar"]
    command = shlex.join(["python3", os.path.relpath(__file__), *sys.argv[1:]])
    print(f"command    {command}")
    print(f"pistar ran {shlex.join(pistar_command(o, 'TMPDIR'))}")
    print(f"machine    {cpu_model()}, {os.cpu_count()} CPUs, load {load_before:.2f} before the runs; "
          f"Python {platform.python_version()}")
    print(f"task       {o.seeds} seeds x {len(OBJECTIVES)} objectives x {o.epochs} epochs, "
          f"{o.threads} threads, median of {o.repeats}\n")
    print(f"{'implementation':<32}{'training s':>11}  {'(min to max)':<20}{'ratio':>8}{'process s':>11}")
    for r in results.values():
        r["ratio"] = r["seconds"] / base["seconds"]
        part = r["measured_seeds"] < o.seeds
        span = f"({min(r['seconds_all']):.4g} to {max(r['seconds_all']):.4g})"
        print(f"{r['version'] + (' *' if part else ''):<32}{r['seconds']:>11.4f}  {span:<20}"
              f"{r['ratio']:>8.1f}{'-' if part else format(r['process_s'], '.3f'):>11}")
    if results["torch"]["measured_seeds"] < o.seeds:
        print(f"* measured on {results['torch']['measured_seeds']} seeds, scaled linearly to {o.seeds}")
    print(f"JAX's compilation ({results['jax']['compile_s']:.2f} s) is in its process time only; "
          f"ratio = training seconds / pistar's.\n")

    print("mean regret at epoch " + ", ".join(map(str, o.shown)))
    for m in OBJECTIVES:
        for name, r in results.items():
            print(f"  {m:<9} {name:<7}" + "".join(f"{r['regrets'][m, e]['mean']:>10.6f}" for e in o.shown))
    worst, bad = disagreements(results, o)
    print(f"agreement  {'NO' if bad else 'yes'}: largest difference {worst:.2f} standard errors, limit {LIMIT:g}")
    for line in bad:
        print(f"  {line}")

    if o.json:
        for r in results.values():
            r["regrets"] = {m: {str(e): r["regrets"][m, e] for e in o.shown} for m in OBJECTIVES}
        Path(o.json).write_text(json.dumps({
            "command": command, "cpu": cpu_model(), "cpus": os.cpu_count(), "load_before": load_before,
            "python": platform.python_version(), "threads": o.threads, "seeds": o.seeds,
            "epochs": o.epochs, "repeats": o.repeats, "results": results,
            "agree": not bad, "worst_standard_errors": worst, "disagreements": bad,
        }, indent=1) + "\n")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
