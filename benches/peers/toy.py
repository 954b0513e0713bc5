"""CoPG's toy experiment: what the PyTorch and the JAX twin share (no training code here)."""

import argparse
import json

import numpy as np

R = np.array([2.5, 2.0, 1.0])
BETA = 0.5
REF = np.full(3, 1 / 3)
MU1 = np.array([0.1, 0.2, 0.7])
MU2 = np.array([0.05, 0.05, 0.9])
N, BATCH, LR = 10_000, 512, 1e-3
ADAM_B1, ADAM_B2, ADAM_EPS = 0.9, 0.999, 1e-8
OBJECTIVES = ["copg", "ipo", "pg-zero", "pg-value"]
SHOWN_EPOCHS = [1, 10, 25, 50, 100]
BEST = BETA * np.log(np.sum(REF * np.exp(R / BETA)))  # J(pi*)


def dataset(seed):
    """N pairs y ~ mu1, y' ~ mu2 and Bradley-Terry labels (True: y wins), drawn once."""
    rng = np.random.default_rng(seed)
    y1 = rng.choice(3, size=N, p=MU1)
    y2 = rng.choice(3, size=N, p=MU2)
    y1_wins = rng.random(N) < 1 / (1 + np.exp(R[y2] - R[y1]))
    return y1, y2, y1_wins


def options(description, add=lambda parser: None):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--seeds", type=int, default=20)
    p.add_argument("--epochs", type=int, default=100)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--float32", action="store_true", help="train in float32 (default float64)")
    p.add_argument("--extrapolate-from", type=int, metavar="K",
                   help="train only K seeds and scale the seconds by SEEDS / K; the output says so")
    p.add_argument("--json", metavar="OUT", help="write the results here")
    add(p)
    o = p.parse_args()
    o.measured_seeds = o.extrapolate_from or o.seeds
    if not 1 <= o.measured_seeds <= o.seeds:
        p.error("--extrapolate-from must lie between 1 and --seeds")
    if o.epochs < 1 or o.threads < 1:
        p.error("--epochs and --threads must be at least 1")
    return o


def report(o, implementation, version, seconds, regrets, **extra):
    """seconds: objective -> measured seconds; regrets: objective -> (seed, epoch) array."""
    scale = o.seeds / o.measured_seeds
    epochs = [e for e in SHOWN_EPOCHS if e <= o.epochs]
    out = {
        "implementation": implementation, "version": version,
        "dtype": "float32" if o.float32 else "float64",
        "threads": o.threads, "epochs": o.epochs,
        "seeds": o.seeds, "measured_seeds": o.measured_seeds,
        "extrapolated": o.measured_seeds < o.seeds,
        "seconds_measured": sum(seconds.values()),
        "seconds": sum(seconds.values()) * scale,
        **extra, "objectives": {},
    }
    print(f"{implementation} {version}, {out['dtype']}, {o.threads} threads, {o.epochs} epochs, "
          f"{o.measured_seeds} seeds measured")
    print(f"{'objective':<10}{'seconds':>10}  mean regret at epoch " + ", ".join(map(str, epochs)))
    for name in OBJECTIVES:
        r = np.asarray(regrets[name], dtype=float)[:, [e - 1 for e in epochs]]
        mean = r.mean(0)
        sd = r.std(0, ddof=1) if len(r) > 1 else np.full(len(epochs), np.nan)
        out["objectives"][name] = {
            "seconds_measured": seconds[name], "seconds": seconds[name] * scale,
            "regret": {str(e): {"mean": m, "sd": None if np.isnan(s) else s, "n": len(r)}
                       for e, m, s in zip(epochs, mean.tolist(), sd.tolist())},
        }
        print(f"{name:<10}{seconds[name]:>10.3f}  " + "  ".join(f"{m:.6f}" for m in mean))
    print(f"{'total':<10}{out['seconds_measured']:>10.3f}")
    if out["extrapolated"]:
        print(f"extrapolated linearly from {o.measured_seeds} to {o.seeds} seeds: "
              f"{out['seconds']:.3f} s (not measured)")
    if o.json:
        with open(o.json, "w") as f:
            json.dump(out, f, indent=1)
            f.write("\n")
