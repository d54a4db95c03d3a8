"""What the mini model's recipe (`train_mini.py`) learns with, on a CPU."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from mofa_nb.checks import whole_file


class Learner:
    """AdamW on float32 copies of parameters, with averages of them."""

    def __init__(self, parameters: list[nn.Parameter], rate: float, warmup: int, decay: float):
        self.values = [value.requires_grad_(True) for value in parameters]
        self.copies = [value.detach().float().clone().requires_grad_() for value in self.values]
        self.averages = [value.detach().clone() for value in self.copies]
        self.rate, self.warmup, self.decay, self.count = rate, warmup, decay, 0
        settings = {"lr": rate, "weight_decay": 1e-3, "betas": (0.9, 0.98), "foreach": True}
        self.optimiser, self.sums = torch.optim.AdamW(self.copies, **settings), {}

    def step(self, share: float, loss: Tensor, figures: dict[str, Tensor]) -> None:
        """One step; `share` of the time has passed, which the cosine of the rate follows."""
        loss.backward()
        for copy, value in zip(self.copies, self.values, strict=True):
            copy.grad, value.grad = None if value.grad is None else value.grad.float(), None
        nn.utils.clip_grad_norm_([c for c in self.copies if c.grad is not None], 0.5, foreach=True)
        warm = min(1, (self.count + 1) / self.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * warm * (0.03 + 0.97 * (1 + math.cos(math.pi * share)) / 2)
        self.optimiser.step()
        torch._foreach_copy_([v.data for v in self.values], [c.data for c in self.copies])
        keep = min(self.decay, self.count / (self.count + 10))
        torch._foreach_lerp_(self.averages, [c.detach() for c in self.copies], 1 - keep)
        self.count += 1
        for key, value in figures.items():
            self.sums.setdefault(key, []).append(float(value.detach()))
        if self.count % 100 == 0:
            means = {key: f"{sum(each) / len(each):.4f}" for key, each in self.sums.items()}
            print(self.count, means, flush=True)
            self.sums = {}

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {"copies": self.copies, "averages": self.averages, "count": self.count}
        with whole_file(path) as partial:
            torch.save(state | {"optimiser": self.optimiser.state_dict()}, partial)

    def load(self, state: dict) -> None:
        for name in ("copies", "averages"):
            torch._foreach_copy_([each.data for each in getattr(self, name)], state[name])
        torch._foreach_copy_([v.data for v in self.values], self.copies)
        self.optimiser.load_state_dict(state["optimiser"])
        self.count = state["count"]

    def use_averages(self) -> None:
        torch._foreach_copy_([v.data for v in self.values], self.averages)


def passing(minutes: float) -> Iterator[float]:
    """The share of the minutes that has passed, until all has."""
    begin = time.monotonic()
    while (share := (time.monotonic() - begin) / (60 * minutes)) < 1:
        yield share


def as_last(pictures: Tensor) -> Tensor:
    return pictures.contiguous(memory_format=torch.channels_last)


def channels_last(net: nn.Module) -> nn.Module:
    """Convolutions laid out as a CPU takes them fastest."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)
    return net
