"""Optimizers and their learning rates: AdamW, and the BertAdam of the reference implementation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from lxcompress.recipe import Train

BETAS, EPSILON = (0.9, 0.999), 1e-6
"""The betas and the epsilon of Adam with which BERT was trained (Devlin et al. 2019)."""

Schedule = Callable[[int, int, float], float]
"""a step, the number of all steps, and the fraction (0-1) of warm-up steps -> the factor (0-1) of the learning rate"""


class BertAdam(torch.optim.Optimizer):
    """Adam as in LXMERT's reference implementation: without bias correction, and with weight decay on every tensor.

    update = m / (sqrt(v) + epsilon) + decay * w. Source: BERT's AdamWeightDecayOptimizer (Devlin et al. 2019).
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float | Tensor, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight] = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
            gradients = [weight.grad for weight in weights]
            mean = [self.state[weight]["exp_avg"] for weight in weights]
            square = [self.state[weight]["exp_avg_sq"] for weight in weights]
            torch._foreach_lerp_(mean, gradients, 1 - BETAS[0])
            torch._foreach_mul_(square, BETAS[1])
            torch._foreach_addcmul_(square, gradients, gradients, 1 - BETAS[1])
            root = torch._foreach_sqrt(square)
            torch._foreach_add_(root, EPSILON)
            update = torch._foreach_div(mean, root)
            torch._foreach_add_(update, weights, alpha=group["weight_decay"])
            torch._foreach_mul_(update, group["lr"])
            torch._foreach_sub_(weights, update)


class CapturedAdamW(torch.optim.AdamW):
    """AdamW for a CUDA graph; the steps before the capture, and the last one of an epoch, run without a warning.

    Torch warns at the first step of a capturable optimizer outside a capture: it may be slower than a plain one.
    """

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
            super().step(closure)


def make_optimizer(names: Mapping[str, nn.Parameter], settings: Train, *, captured: bool) -> torch.optim.Optimizer:
    """Return the optimizer that `settings` ask for, on the named weights `names`.

    If `captured`, its learning rate is a tensor on the device, as a CUDA graph needs it. AdamW applies weight decay to
    matrices only, not to biases and LayerNorm gains (Devlin et al. 2019); BertAdam applies it to all weights.
    """
    rate = torch.tensor(settings.learning_rate, device=next(iter(names.values())).device) if captured else None
    if settings.optimizer == "bert-adam":
        return BertAdam(
            names.values(), lr=settings.learning_rate if rate is None else rate, weight_decay=settings.weight_decay
        )
    groups = [
        {"params": [weight for weight in names.values() if weight.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in names.values() if weight.dim() <= 1], "weight_decay": 0.0},
    ]
    if rate is None:
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, eps=EPSILON, fused=True)
    return CapturedAdamW(groups, lr=rate, betas=BETAS, eps=EPSILON, fused=True, capturable=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group; a rate that is a tensor is changed in place, for CUDA graphs."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def schedule(step: int, total: int, warmup: float) -> float:
    """Return the factor (0-1) of the learning rate at `step` of `total`: it rises during the warm-up, then falls to 0.

    Both parts are linear; `warmup` is the fraction (0-1) of warm-up steps. The factor of the first step is above 0:
    (step + 1) / (number of warm-up steps + 1).
    """
    done = step / total
    if done < warmup:
        return (step + 1) / (total * warmup + 1)
    return max(0.0, (1 - done) / (1 - warmup))


def reference_schedule(step: int, total: int, warmup: float) -> float:
    """Return the factor of `schedule` as the reference code computes it: 0 at the first step (step / warm-up steps)."""
    done = step / total
    if done < warmup:
        return done / warmup
    return max(0.0, (1 - done) / (1 - warmup))


SCHEDULES: Mapping[str, Schedule] = {"adamw": schedule, "bert-adam": reference_schedule}
"""value of train.optimizer -> the schedule of its learning rate"""
