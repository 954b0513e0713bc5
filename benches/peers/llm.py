"""What the twins of a training step share: models, batches, options.

A model folder in Hugging Face's layout (random weights) and a file of token batches are written once by
`run_llm.py`; pistar's `examples/llm_step` and `llm_torch.py` read both, so that they do the same step.
"""

import argparse
import json

MODELS = {
    # A Llama of 24.9 million parameters.
    "25m": dict(hidden_size=384, num_hidden_layers=8, num_attention_heads=6, num_key_value_heads=2,
                intermediate_size=1024, vocab_size=16000, max_position_embeddings=512),
    # The shape of stories260K.
    "260k": dict(hidden_size=64, num_hidden_layers=5, num_attention_heads=8, num_key_value_heads=4,
                 intermediate_size=172, vocab_size=512, max_position_embeddings=512),
}
# Sequences of a batch (pairs for DPO: half as many), tokens of the longest.
SIZES = {"25m": (8, 128), "260k": (16, 128)}
BATCHES = 4
PROMPT = {"dpo": 32, "sft": 1}
BETA = 0.1
LR = 1e-4
CLIP = 1.0


def lengths(name, ragged, random):
    """Tokens of each sequence of a batch: all the longest, or ragged with one the longest."""
    count, longest = SIZES[name]
    if not ragged:
        return [longest] * count
    drawn = [random.randint(longest // 4 + PROMPT["dpo"] // 2, longest) for _ in range(count)]
    drawn[random.randrange(count)] = longest
    return drawn


def config(name):
    return dict(MODELS[name], architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu",
                rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=name == "260k",
                attention_bias=False, mlp_bias=False, torch_dtype="float32", bos_token_id=1, eos_token_id=2)


def options(doc):
    p = argparse.ArgumentParser(description=doc)
    p.add_argument("--model", required=True, help="a folder")
    p.add_argument("--batches", required=True, help="a file of batches")
    p.add_argument("--objective", choices=["dpo", "sft"], required=True)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--warm-up", type=int, default=2, help="steps that do not count")
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--fused", action="store_true", help="AdamW's fused form (PyTorch only; not its default)")
    p.add_argument("--json", required=True, metavar="FILE")
    return p.parse_args()


def report(path, **numbers):
    with open(path, "w") as f:
        json.dump(numbers, f)


def resident(key):
    """A line of this process's memory in MB: VmHWM is the peak."""
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith(key):
                return int(line.split()[1]) / 1024
    return None
