"""What both sides of the comparison on a GPU share: shapes, batches, what is counted.

Shapes are Llama's: a 125M one, TinyLlama's 1.1B, Llama 2's 7B; `tiny` tries the scripts out on a CPU.
"""

MODELS = {
    "tiny": dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                 intermediate_size=128, vocab_size=512),
    "125m": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=12,
                 intermediate_size=2048, vocab_size=32000),
    "1b": dict(hidden_size=2048, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4,
               intermediate_size=5632, vocab_size=32000),
    "7b": dict(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
               intermediate_size=11008, vocab_size=32000),
}
# Sequences of a step, the largest first: of each side the first that fits counts. DPO: half as many pairs.
BATCHES = {"tiny": [4, 2], "125m": [32, 16, 8], "1b": [16, 8, 4], "7b": [8, 4, 2]}
# Weights are written, and both sides' losses compared. A 7B's would be 13 GB.
WRITTEN = {"tiny", "125m", "1b"}
RECOMPUTED = {"7b"}
STEPS = {"tiny": (2, 3), "125m": (5, 15), "1b": (4, 10), "7b": (3, 6)}  # warm-up, counted
COUNT = 2  # batches, in turn
LENGTH = {"tiny": 64, "125m": 2048, "1b": 2048, "7b": 2048}  # tokens fed of each sequence
BETA = 0.1
LR = 1e-4
CLIP = 1.0
DEVIATION = 0.02

# How far losses may be apart: absolute, and relative to PyTorch's. In f32 and in bf16; after all steps.
# bf16 has 8 bits: a token's log-probability errs by some 5e-3, a DPO sum of 1,792 of them by 0.2, times beta
# 0.02 a pair; SFT's mean of tens of thousands of tokens by far less than one token's.
BOUND = {("sft", "f32"): (0.0, 1e-4), ("dpo", "f32"): (1e-3, 1e-3),
         ("sft", "bf16"): (0.0, 3e-3), ("dpo", "bf16"): (0.03, 0.0)}


def config(name):
    return dict(MODELS[name], architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu",
                rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False, attention_bias=False,
                mlp_bias=False, torch_dtype="bfloat16", bos_token_id=1, eos_token_id=2,
                max_position_embeddings=LENGTH[name], initializer_range=DEVIATION)


def prompt(name, objective):
    """Tokens of the prompt: of DPO an eighth of the sequence, and the one that is not fed."""
    return 1 if objective == "sft" else LENGTH[name] // 8 + 1


def predicted(name, objective):
    return LENGTH[name] + 1 - prompt(name, objective)


def counts(name):
    """Parameters: of the blocks' matrices, of the output head, and all."""
    c = MODELS[name]
    width, layers, inner = c["hidden_size"], c["num_hidden_layers"], c["intermediate_size"]
    kv = width // c["num_attention_heads"] * c["num_key_value_heads"]
    blocks = layers * (2 * width * width + 2 * width * kv + 3 * width * inner)
    head = width * c["vocab_size"]
    return blocks, head, blocks + 2 * head + (2 * layers + 1) * width


def flops(name, objective, sequences):
    """Floating-point operations of a step: three products a weight and token (6 N), of the head where a token
    is predicted, and attention's, 12 layers width T a token, halved since it is causal. Recomputation is not counted.
    """
    c, length = MODELS[name], LENGTH[name]
    blocks, head, _ = counts(name)
    attention = 6 * c["num_hidden_layers"] * c["hidden_size"] * length
    return sequences * (length * (6 * blocks + attention) + 6 * head * predicted(name, objective))
