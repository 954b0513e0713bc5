"""A training step of a Llama in plain eager PyTorch: DPO or SFT, clipping, AdamW.

Causal attention through `scaled_dot_product_attention`, logits at predicted positions only, right padding
(which causal attention needs no mask for).
"""

import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import llm


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        width, inner = c["hidden_size"], c["intermediate_size"]
        self.size = width // self.heads
        self.epsilon = c["rms_norm_eps"]
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.input_layernorm = nn.RMSNorm(width, self.epsilon)
        self.post_attention_layernorm = nn.RMSNorm(width, self.epsilon)
        self.self_attn = nn.ModuleDict({
            "q_proj": linear(width, width), "k_proj": linear(width, self.kv_heads * self.size),
            "v_proj": linear(width, self.kv_heads * self.size), "o_proj": linear(width, width)})
        self.mlp = nn.ModuleDict({
            "gate_proj": linear(width, inner), "up_proj": linear(width, inner), "down_proj": linear(inner, width)})

    def forward(self, x, cos, sin):
        b, t, width = x.shape
        h = self.input_layernorm(x)
        heads = lambda y, n: y.view(b, t, n, self.size).transpose(1, 2)
        q = rotate(heads(self.self_attn.q_proj(h), self.heads), cos, sin)
        k = rotate(heads(self.self_attn.k_proj(h), self.kv_heads), cos, sin)
        v = heads(self.self_attn.v_proj(h), self.kv_heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.self_attn.o_proj(y.transpose(1, 2).reshape(b, t, width))
        h = self.post_attention_layernorm(x)
        return x + self.mlp.down_proj(F.silu(self.mlp.gate_proj(h)) * self.mlp.up_proj(h))


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-b, a], dim=-1) * sin).to(x.dtype)


class Llama(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList([Block(c) for _ in range(c["num_hidden_layers"])])
        self.norm = nn.RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        if c["tie_word_embeddings"]:
            self.lm_head.weight = self.embed_tokens.weight
        size = c["hidden_size"] // c["num_attention_heads"]
        frequencies = c["rope_theta"] ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles = torch.outer(torch.arange(c["max_position_embeddings"], dtype=torch.float64), frequencies)
        angles = torch.cat([angles, angles], dim=-1)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, tokens):
        x = self.embed_tokens(tokens)
        cos, sin = self.cos[:tokens.shape[1]], self.sin[:tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)

    def load(self, folder):
        weights = load_file(Path(folder, "model.safetensors"))
        names = {k.removeprefix("model."): v for k, v in weights.items()}
        if self.lm_head.weight is self.embed_tokens.weight:
            names["lm_head.weight"] = names["embed_tokens.weight"]
        self.load_state_dict(names)


class Padded:
    """A batch as a plain loop has it: right-padded, with a mask of predicted tokens."""

    def __init__(self, batch):
        sequences, prompts = batch["sequences"], batch["prompts"]
        longest = max(map(len, sequences))
        pad = lambda s: s + [0] * (longest - len(s))
        tokens = torch.tensor([pad(s) for s in sequences])
        self.inputs, self.targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        self.mask = torch.tensor([[p - 1 <= i < len(s) - 1 for i in range(longest - 1)]
                                  for s, p in zip(sequences, prompts)])
        self.same = len({(len(s), p) for s, p in zip(sequences, prompts)}) == 1
        self.prompt = prompts[0]
        self.reference = torch.tensor(batch.get("log_reference", []))

    def log_probs(self, model):
        """ln pi of every predicted token, and their sums."""
        h = model(self.inputs)
        if self.same:
            logits = model.lm_head(h[:, self.prompt - 1:])
            targets = self.targets[:, self.prompt - 1:]
            each = logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
            return each, each.sum(-1)
        logits = model.lm_head(h[self.mask])
        each = logits.log_softmax(-1).gather(-1, self.targets[self.mask].unsqueeze(-1)).squeeze(-1)
        rows = self.mask.nonzero()[:, 0]
        return each, torch.zeros(len(self.inputs)).index_add(0, rows, each)

    def loss(self, model, objective):
        each, sums = self.log_probs(model)
        if objective == "sft":
            return -each.mean()
        u = sums - self.reference
        chosen, rejected = u.chunk(2)
        return -F.logsigmoid(llm.BETA * (chosen - rejected)).mean()


def main():
    o = llm.options(__doc__)
    torch.set_num_threads(o.threads)
    start = llm.resident("VmRSS")
    config = json.loads(Path(o.model, "config.json").read_text())
    model = Llama(config)
    model.load(o.model)
    batches = [Padded(b) for b in json.loads(Path(o.batches).read_text())]
    more = {"fused": True} if o.fused else {}
    optimizer = torch.optim.AdamW(model.parameters(), lr=llm.LR, weight_decay=0.01, **more)
    ms, losses, norms = [], [], []
    for step in range(o.warm_up + o.steps):
        batch = batches[step % len(batches)]
        begin = time.perf_counter()
        loss = batch.loss(model, o.objective)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), llm.CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        ms.append(1e3 * (time.perf_counter() - begin))
        norms.append(norm.item())
    llm.report(o.json, implementation="PyTorch", version=torch.__version__, ms=ms[o.warm_up:], losses=losses,
               norms=norms, start_mb=start, peak_mb=llm.resident("VmHWM"))


if __name__ == "__main__":
    main()
