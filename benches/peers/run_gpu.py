"""Times a training step of Llamas on a GPU in pistar and in PyTorch, set up well, beside each other.

For each model and objective: milliseconds, tokens/s, peak memory, share of the measured bf16 peak, ratio, and whether
the losses agree. A side that fails (out of memory is a result) leaves a line that says so; the rest still runs.
Exit status: 0 all ran and agree, 1 something failed or does not agree, 2 nothing could be run.
"""

import argparse
import json
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gpu
import gpu_watch

HERE = Path(__file__).resolve().parent
OUT_OF_MEMORY = 3
# PyTorch's ways that are tried; the fastest counts.
VARIANTS = {"copy": ["--master", "copy"], "autocast": ["--master", "autocast"],
            "copy-chunked": ["--master", "copy", "--head-rows", "8192"]}


def fail(message):
    print(f"run_gpu.py: {message}", file=sys.stderr)
    sys.exit(2)


class Clock:
    """What is left of the minutes, and of one run's."""

    def __init__(self, minutes, each):
        self.end, self.each = time.monotonic() + 60 * minutes, each

    def left(self):
        return min(self.each, self.end - time.monotonic())


def call(command, clock, log):
    """Exit status, what it took of the device's memory, seconds. `None`: stopped, for its time was over."""
    began, left = time.monotonic(), clock.left()
    if left < 5:
        return "no time left", None, 0.0
    with open(log, "a") as f:
        print(f"$ {shlex.join(command)}", file=f, flush=True)
        try:
            child = subprocess.Popen(command, stdout=f, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as e:
            return f"cannot start: {e.strerror}", None, 0.0
        with gpu_watch.Memory() as memory:
            try:
                code = child.wait(timeout=left)
            except subprocess.TimeoutExpired:
                code = f"stopped after {left:.0f} s"
            finally:
                gpu_watch.end(child)
    return code, memory.taken_mb(), time.monotonic() - began


def prepare(o, tmp, clock, name):
    command = [sys.executable, str(HERE / "gpu_prepare.py"), "--model", name, "--out", str(tmp / name),
               "--device", o.kind]
    return call(command, clock, o.log)[0]


def attempts(name, who):
    """Batch sizes and further flags, the best first; the first that fits counts."""
    recompute = ["--recompute"] if name in gpu.RECOMPUTED else []
    for n in gpu.BATCHES[name]:
        yield n, recompute
        if who == "pistar" and not recompute:
            yield n, ["--recompute"]
        if name in gpu.RECOMPUTED:
            yield n, [*recompute, "--optimizer-in-backward"]


def measured(o, tmp, clock, name, objective, who):
    """One side's numbers, or why there are none."""
    warm, steps = gpu.STEPS[name]
    out, tried, left = tmp / "out.json", [], list(attempts(name, who))
    # Where the first way fails: what may not go together on this machine, then no compiler at all.
    ways = [["--compile", o.compile], ["--compile", o.compile, "--attention", "flash"], ["--compile", "off"]]
    ways = [[]] if who == "pistar" else ways if o.compile != "off" else ways[:1]
    while left and ways:
        sequences, flags = left[0]
        common = ["--model", str(tmp / name), "--batches", str(tmp / name / f"{objective}-{sequences}.json"),
                  "--objective", objective, "--dtype", o.dtype, "--lr", str(gpu.LR), "--warm-up", str(warm),
                  "--steps", str(steps), "--threads", str(o.threads), "--json", str(out), *flags]
        if who == "pistar":
            command = [o.pistar, *common, "--device", o.device]
        else:
            command = [sys.executable, str(HERE / "gpu_torch.py"), *common, "--device", o.kind, *VARIANTS[who],
                       *ways[0]]
        out.unlink(missing_ok=True)
        code, taken, seconds = call(command, clock, o.log)
        if code == 0 and out.exists():
            numbers = json.loads(out.read_text())
            return finished(numbers, name, objective, sequences) | {
                "flags": flags, "way": ways[0], "command": shlex.join(command), "seconds": seconds,
                "seen_mb": taken, "tried": tried}
        why = "out of memory" if code == OUT_OF_MEMORY else code if isinstance(code, str) else f"exit status {code}"
        tried.append({"sequences": sequences, "flags": flags, "way": ways[0], "why": why})
        if code == OUT_OF_MEMORY:
            left.pop(0)
        elif isinstance(code, int):
            ways.pop(0)
        else:
            break
    return {"failed": tried[-1]["why"], "tried": tried}


def finished(numbers, name, objective, sequences):
    ms = statistics.median(numbers["ms"])
    tflops = gpu.flops(name, objective, sequences) / ms / 1e9
    tokens = sequences * gpu.LENGTH[name]
    return numbers | {"sequences": sequences, "median_ms": ms, "tokens_per_s": 1e3 * tokens / ms, "tflops": tflops}


def difference(objective, dtype, own, peer):
    """How far the losses are apart at most, in units of the bound; None where that says nothing."""
    if own["sequences"] != peer["sequences"] or ("--optimizer-in-backward" in own["flags"]) != (
            "--optimizer-in-backward" in peer["flags"]):
        return None
    absolute, relative = gpu.BOUND[objective, dtype]
    apart = [abs(a - b) / (absolute + relative * abs(b)) for a, b in zip(own["losses"], peer["losses"], strict=True)]
    return max(apart) if all(x == x for x in apart) else float("inf")


def compare(o, tmp, clock, name, objective):
    """A row, said as it goes."""
    row = {"model": name, "objective": objective}
    for who in ["pistar", *o.variants]:
        row[who] = measured(o, tmp, clock, name, objective, who)
        show(o, name, objective, who, row[who])
        o.save()
    peers = {who: row[who] for who in o.variants if "median_ms" in row[who]}
    if not peers or "median_ms" not in row["pistar"]:
        print(f"{name:<6}{objective:<5}no ratio: {'pistar' if peers else 'PyTorch'} has no time\n", flush=True)
        return row, False
    best = max(peers, key=lambda who: peers[who]["tokens_per_s"])
    own, peer = row["pistar"], peers[best]
    row["best"], row["ratio"] = best, own["tokens_per_s"] / peer["tokens_per_s"]
    apart = None
    if name in gpu.WRITTEN:
        apart = row["apart"] = difference(objective, o.dtype, own, peer)
    said = "not compared" if apart is None else f"{apart:.2f} of the bound: {'agree' if apart <= 1 else 'DISAGREE'}"
    print(f"{name:<6}{objective:<5}ratio {row['ratio']:.3f} (tokens/s, pistar over {best}); losses {said}\n", flush=True)
    return row, apart is None or apart <= 1


def gigabytes(mb):
    return "-" if mb is None else f"{mb / 1e3:.2f}"


def show(o, name, objective, who, side):
    start = f"{name:<6}{objective:<5}{who:<14}"
    if "failed" in side:
        print(f"{start}{side['failed']}; {o.log} has why", flush=True)
        return
    share = f"{side['tflops'] / o.ceilings['product_tflops']:.1%}" if o.ceilings else "-"
    own = side.get("device_peak_mb") or (None if o.kind == "cuda" else side["peak_mb"])
    notes = [*side["flags"], *([side["attention"]] if side.get("attention") else [])]
    if side["way"] != ["--compile", o.compile]:
        notes += side["way"]
    notes += [f"({' '.join([str(t['sequences']), *t['flags'], *t['way']])}: {t['why']})" for t in side["tried"]]
    print(f"{start}{side['sequences']:>4}{side['median_ms']:>11.2f}{side['tokens_per_s']:>11.0f}{side['tflops']:>9.3g}"
          f"{share:>8}{gigabytes(side['seen_mb']):>8}{gigabytes(own):>8}  {side['losses'][-1]:>9.4f}  "
          f"{' '.join(notes)}", flush=True)


def ceilings(o, tmp, clock):
    out = tmp / "ceilings.json"
    call([sys.executable, str(HERE / "gpu_prepare.py"), "--ceilings", str(out), "--device", o.kind], clock, o.log)
    return json.loads(out.read_text()) if out.exists() else None


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", nargs="+", choices=gpu.MODELS, default=["125m", "1b", "7b"])
    p.add_argument("--objectives", nargs="+", choices=["sft", "dpo"], default=["sft", "dpo"])
    p.add_argument("--variants", nargs="+", choices=VARIANTS, default=["copy", "autocast"],
                   help="PyTorch's ways: bf16 weights with f32 copies; the same with logits in parts; autocast")
    p.add_argument("--compile", choices=["block", "model", "off"], default="block", help="PyTorch's compilation")
    p.add_argument("--device", default="cuda:0", help="cuda:0, or cpu to try the scripts out")
    p.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    p.add_argument("--pistar", default="target/release/examples/llm_step", help="the built example")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU [all]")
    p.add_argument("--minutes", type=float, default=60, help="for everything; runs that no longer fit are left out")
    p.add_argument("--limit", type=float, default=240, metavar="SECONDS", help="for one run")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, after every row")
    p.add_argument("--log", type=Path, default=Path("run_gpu.log"), help="what the runs said")
    o = p.parse_args()
    if o.device not in ("cpu", "cuda", "cuda:0"):
        fail(f"--device {o.device}: give cuda:0, the first GPU that CUDA_VISIBLE_DEVICES leaves visible, or cpu")
    o.kind = "cpu" if o.device == "cpu" else "cuda"
    if not os.access(o.pistar, os.X_OK):
        fail(f"{o.pistar} is not there: build the example llm_step, for a GPU with benches/gpu/build.sh, and give it "
             "with --pistar")
    o.pistar = str(Path(o.pistar).resolve())
    o.log.write_text("")
    return o


def heading(o, command):
    print(f"command    {command}")
    print(f"machine    {gpu_watch.machine()}")
    if o.ceilings is None:
        print(f"ceilings   not measured: {o.log} has why")
    else:
        c = o.ceilings
        print(f"peer       PyTorch {c['torch']}, CUDA {c['cuda']}, cuDNN {c['cudnn']}; compile: {o.compile}")
        print(f"ceilings   {c['product_tflops']:.3g} TFLOP/s: a bf16 product of size {c['product_size']}; "
              f"copy {c['copy_tb_per_s']:.3g} TB/s, by PyTorch")
    print(f"task       forward, loss, backward, clipping, AdamW in {o.dtype}; median step")
    print("flops      6 a weight and token, of the head where a token is predicted, and attention's 6 layers width T "
          "a token;\n           recomputation is not counted")
    print("GB         of the device, seen from outside (nvidia-smi); then the most that was allocated\n")
    print(f"{'model':<6}{'loss':<5}{'':<14}{'seqs':>4}{'ms':>11}{'tokens/s':>11}{'TFLOP/s':>9}{'share':>8}"
          f"{'GB':>8}{'alloc':>8}{'last loss':>11}", flush=True)


def main():
    o = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # so that the run in progress is ended too
    command = shlex.join(["python3", os.path.relpath(__file__), *sys.argv[1:]])
    clock = Clock(o.minutes, o.limit)
    rows, good = [], True
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        # What the compiler made is kept between the runs, and nowhere else.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(tmp / "inductor"))
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
        o.ceilings = ceilings(o, tmp, clock)
        whole = {"command": command, "machine": gpu_watch.machine(), "python": platform.python_version(),
                 "dtype": o.dtype, "compile": o.compile, "ceilings": o.ceilings, "rows": rows}

        def save(row=None):
            if o.json:
                o.json.write_text(json.dumps(whole, indent=1) + "\n")
        o.save = save
        heading(o, command)
        for name in o.models:
            code = prepare(o, tmp, clock, name)
            if code != 0:
                print(f"{name:<6}could not be written ({code}); {o.log} has why\n", flush=True)
                rows.append({"model": name, "failed": str(code)})
                good = False
                continue
            for objective in o.objectives:
                row, agreed = compare(o, tmp, clock, name, objective)
                rows.append(row)
                good &= agreed
                save()
            for file in (tmp / name).iterdir():
                file.unlink()
    save()
    print(f"all        {'ran, and losses agree where they are compared' if good else 'did NOT run or agree'}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
