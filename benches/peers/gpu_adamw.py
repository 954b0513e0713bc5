"""PyTorch's fused AdamW, with clipping by the norm: on f32 weights, or on f32 copies of bf16 ones.

Nothing here waits for the device.
"""

import torch


def make(model, copies, lr, clip):
    """`clip` None: each weight is stepped as soon as its gradient is final, and no gradient is kept."""
    if clip is None:
        return InBackward(model, copies, lr)
    return Copies(model, lr, clip) if copies else Plain(model, lr, clip)


def adamw(weights, lr):
    return torch.optim.AdamW(weights, lr=lr, weight_decay=0.01, fused=True)


def norm_of(gradients):
    """The norm of all, in f32 whatever they are in."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2, dtype=torch.float32)))


class Plain:
    """f32 weights."""

    def __init__(self, model, lr, clip):
        self.weights, self.clip = list(model.parameters()), clip
        self.optimizer = adamw(self.weights, lr)

    def step(self):
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm


class Bucket:
    """Some bf16 weights with their f32 copies."""

    def __init__(self, weights, lr):
        self.weights = weights
        self.masters = [w.detach().float().requires_grad_() for w in weights]
        self.optimizer = adamw(self.masters, lr)

    def step(self, scale=None):
        for weight, master in zip(self.weights, self.masters):
            master.grad = torch.empty_like(master)
        gradients = [m.grad for m in self.masters]
        with torch.no_grad():
            torch._foreach_copy_(gradients, [w.grad for w in self.weights])
            if scale is not None:
                torch._foreach_mul_(gradients, scale)
            self.optimizer.step()
            torch._foreach_copy_(self.weights, self.masters)
        for weight, master in zip(self.weights, self.masters):
            weight.grad = master.grad = None


class Copies:
    """bf16 weights, an f32 copy of each; a block at a time, so that few gradients are in f32 at once."""

    def __init__(self, model, lr, clip):
        self.weights, self.clip = list(model.parameters()), clip
        inner = [list(layer.parameters()) for layer in model.layers]
        seen = {id(w) for weights in inner for w in weights}
        outer = [[w] for w in self.weights if id(w) not in seen]
        self.buckets = [Bucket(weights, lr) for weights in inner + outer]

    def step(self):
        norm = norm_of([w.grad for w in self.weights])
        scale = (self.clip / (norm + 1e-6)).clamp(max=1.0)
        for bucket in self.buckets:
            bucket.step(scale)
        return norm


class InBackward:
    """A step of each weight alone, as soon as its gradient is final."""

    def __init__(self, model, copies, lr):
        for weight in model.parameters():
            if copies:
                bucket = Bucket([weight], lr)
                weight.register_post_accumulate_grad_hook(lambda _, bucket=bucket: bucket.step())
            else:
                optimizer = adamw([weight], lr)

                def hook(weight, optimizer=optimizer):
                    optimizer.step()
                    weight.grad = None
                weight.register_post_accumulate_grad_hook(hook)

    def step(self):
        return None
