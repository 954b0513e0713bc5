"""The toy in JAX: jit + vmap over seeds, lax.scan over steps and epochs, one program per objective."""

import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

import toy

o = toy.options(__doc__, lambda p: p.add_argument(
    "--shuffle", choices=["permutation", "sort"], default="permutation",
    help="jax.random.permutation, or a shuffle written for this task"))
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", not o.float32)
FLOAT = jnp.float32 if o.float32 else jnp.float64
R = jnp.asarray(toy.R, FLOAT)
LOG_REF = jnp.log(jnp.asarray(toy.REF, FLOAT))
BETA = toy.BETA
STEPS = -(-toy.N // toy.BATCH)
PAD = STEPS * toy.BATCH - toy.N
# 1 for a pair, 0 for the padding that fills the last batch up.
WEIGHT = jnp.asarray(np.arange(STEPS * toy.BATCH) < toy.N, FLOAT).reshape(STEPS, toy.BATCH)


def pick(v, y):
    """v[y] for three arms. Selects fuse and differentiate faster on a CPU than a gather does."""
    return jnp.where(y == 0, v[0], jnp.where(y == 1, v[1], v[2]))


def loss_fn(name, logits, pair, weight):
    y1, y2, y1_wins = pair >> 3, (pair >> 1) & 3, pair & 1
    logp = jax.nn.log_softmax(logits)
    u = logp - LOG_REF
    if name == "copg":
        rb = R - BETA * u
        each = (pick(rb, y1) - pick(rb, y2)) ** 2 / (2 * BETA)
    elif name == "ipo":
        d = pick(u, y1) - pick(u, y2)
        each = (0.5 - BETA * jnp.where(y1_wins == 1, d, -d)) ** 2
    else:
        b = 0.0 if name == "pg-zero" else jnp.sum(jnp.exp(logp) * R)
        advantage = jax.lax.stop_gradient(R - BETA * u - b)
        each = -(pick(advantage, y1) * pick(logp, y1) + pick(advantage, y2) * pick(logp, y2))
    return jnp.sum(weight * each) / jnp.sum(weight)


def regret(logits):
    logp = jax.nn.log_softmax(logits)
    return toy.BEST - jnp.sum(jnp.exp(logp) * (R - BETA * (logp - LOG_REF)))


def shuffle(key, pairs):
    """A fresh random order. `permutation` is what one would write; `sort` is about ten times
    faster on a CPU: a pair fits in 5 bits, so sorting words of 27 random bits and the pair shuffles
    with one single-array sort. (Some 0.4 couples of words an epoch share their random bits; those
    two neighbours then stand in the order of their codes.)"""
    if o.shuffle == "permutation":
        return jax.random.permutation(key, pairs)
    words = (jax.random.bits(key, (toy.N,), jnp.uint32) & ~jnp.uint32(31)) | pairs
    return jnp.sort(words) & jnp.uint32(31)


def train(name, key, pairs):
    grad = jax.grad(lambda logits, pair, weight: loss_fn(name, logits, pair, weight))

    def step(state, batch):
        logits, m, v, t = state
        g = grad(logits, *batch)
        t = t + 1
        m = toy.ADAM_B1 * m + (1 - toy.ADAM_B1) * g
        v = toy.ADAM_B2 * v + (1 - toy.ADAM_B2) * g * g
        m_hat, v_hat = m / (1 - toy.ADAM_B1**t), v / (1 - toy.ADAM_B2**t)
        return (logits - toy.LR * m_hat / (jnp.sqrt(v_hat) + toy.ADAM_EPS), m, v, t), None

    def epoch(state, key):
        batches = jnp.pad(shuffle(key, pairs), (0, PAD)).reshape(STEPS, toy.BATCH)
        state, _ = jax.lax.scan(step, state, (batches, WEIGHT))
        return state, regret(state[0])

    zero = jnp.zeros(3, FLOAT)
    start = (zero, zero, zero, jnp.zeros((), FLOAT))
    return jax.lax.scan(epoch, start, jax.random.split(key, o.epochs))[1]


data = [toy.dataset(s) for s in range(o.measured_seeds)]
pairs = jnp.asarray(np.stack([(y1 << 3) | (y2 << 1) | w for y1, y2, w in data]), jnp.uint32)
keys = jax.random.split(jax.random.key(0), o.measured_seeds)
# One program leaves the other cores idle at this size: one share of the seeds per thread
# (JAX releases the interpreter lock) scales, sharding over virtual CPU devices does not.
shares = np.array_split(np.arange(o.measured_seeds), min(o.threads, o.measured_seeds))
shares = [(keys[i], pairs[i]) for i in shares]

seconds, compile_seconds, regrets = {}, {}, {}
with ThreadPoolExecutor(len(shares)) as pool:
    for name in toy.OBJECTIVES:
        start = time.perf_counter()
        f = jax.jit(jax.vmap(lambda key, pairs: train(name, key, pairs)))
        programs = {len(k): None for k, _ in shares}
        for k, p in shares:
            programs[len(k)] = programs[len(k)] or f.lower(k, p).compile()
        compile_seconds[name] = time.perf_counter() - start

        def run(share):
            return programs[len(share[0])](*share).block_until_ready()

        list(pool.map(run, shares))  # warm up
        start = time.perf_counter()
        parts = list(pool.map(run, shares))
        seconds[name] = time.perf_counter() - start
        regrets[name] = np.concatenate(parts)
        assert np.isfinite(regrets[name]).all()
toy.report(o, f"JAX jit+vmap, {o.shuffle}", jax.__version__, seconds, regrets,
           compile_seconds=sum(compile_seconds.values()))
print(f"compiling took {sum(compile_seconds.values()):.2f} s more (not counted above)")
