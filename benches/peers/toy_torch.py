"""The toy in plain eager PyTorch, one seed after the other, as in a research notebook."""

import math
import time

import torch

import toy

o = toy.options(__doc__)
torch.set_num_threads(o.threads)
torch.set_default_dtype(torch.float32 if o.float32 else torch.float64)
R = torch.tensor(toy.R, dtype=torch.get_default_dtype())
LOG_REF = torch.tensor(toy.REF, dtype=torch.get_default_dtype()).log()
BETA = toy.BETA


def loss_fn(name, logits, y1, y2, y1_wins):
    logp = torch.log_softmax(logits, dim=0)
    u = logp - LOG_REF
    if name == "copg":
        rb = R - BETA * u
        return ((rb[y1] - rb[y2]) ** 2).mean() / (2 * BETA)
    if name == "ipo":
        d = torch.where(y1_wins, u[y1] - u[y2], u[y2] - u[y1])
        return ((0.5 - BETA * d) ** 2).mean()
    # Policy gradient on off-policy samples, with baseline 0 or E_pi[R].
    b = 0.0 if name == "pg-zero" else (logp.exp() * R).sum().detach()
    advantage = (R - BETA * u).detach() - b
    return -(advantage[y1] * logp[y1] + advantage[y2] * logp[y2]).mean()


@torch.no_grad()
def regret(logits):
    logp = torch.log_softmax(logits, dim=0)
    return toy.BEST - (logp.exp() * (R - BETA * (logp - LOG_REF))).sum().item()


def train(name, seed, data, epochs):
    torch.manual_seed(seed)
    y1, y2, y1_wins = data
    logits = torch.zeros(3, requires_grad=True)
    opt = torch.optim.Adam([logits], lr=toy.LR, betas=(toy.ADAM_B1, toy.ADAM_B2), eps=toy.ADAM_EPS)
    curve = []
    for _ in range(epochs):
        perm = torch.randperm(toy.N)
        for i in range(0, toy.N, toy.BATCH):
            idx = perm[i:i + toy.BATCH]
            loss = loss_fn(name, logits, y1[idx], y2[idx], y1_wins[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
        value = regret(logits)
        assert math.isfinite(value)
        curve.append(value)
    return curve


datasets = [tuple(map(torch.from_numpy, toy.dataset(s))) for s in range(o.measured_seeds)]
train("copg", 0, datasets[0], 1)  # warm up: first-call costs are not training
seconds, regrets = {}, {}
for name in toy.OBJECTIVES:
    start = time.perf_counter()
    regrets[name] = [train(name, s, data, o.epochs) for s, data in enumerate(datasets)]
    seconds[name] = time.perf_counter() - start
toy.report(o, "PyTorch eager", torch.__version__, seconds, regrets)
