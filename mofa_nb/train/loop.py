"""The loop around every training stage: optimiser, averaged weights, clock, log, checkpoints."""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mofa_nb.checks import InputError


@dataclass(frozen=True)
class Schedule:
    """How long and how fast one stage is trained.

    Attributes:
        minutes: wall clock; the learning rate decays to a twentieth over them (cosine).
        max_steps: stop earlier after this many optimiser steps, 0 for no limit.
        lr: peak learning rate, reached after `warmup` steps (a resumed run warms up again).
        average: decay of the averaged weights, which are the ones that are kept.
        save_minutes: time between checkpoints.
    """

    minutes: float
    max_steps: int = 0
    lr: float = 3e-4
    warmup: int = 100
    weight_decay: float = 1e-2
    average: float = 0.999
    clip: float = 1.0
    save_minutes: float = 2.0
    seed: int = 0


class Trainer:
    """Trains the parameters of `modules` but those whose name starts with a `frozen` prefix.

    Modules may be in half precision: the optimiser then works on float32 copies.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        out: Path,
        schedule: Schedule,
        frozen: tuple[str, ...] = (),
    ):
        self.modules, self.out, self.schedule = dict(modules), Path(out), schedule
        self.parameters = {
            f"{name}.{key}": value
            for name, module in self.modules.items()
            for key, value in module.named_parameters()
            if not f"{name}.{key}".startswith(frozen)
        }
        if not self.parameters:
            raise InputError(f"nothing is left to train: {', '.join(frozen)} freeze all of it")
        for value in self.parameters.values():
            value.requires_grad_(True)
        self.masters = {
            key: value if value.dtype == torch.float32 else value.detach().float().requires_grad_()
            for key, value in self.parameters.items()
        }
        device = next(iter(self.parameters.values())).device
        self.optimiser = torch.optim.AdamW(
            self.masters.values(),
            lr=schedule.lr,
            weight_decay=schedule.weight_decay,
            fused=device.type == "cuda",
        )
        self.averages = {key: value.detach().clone() for key, value in self.masters.items()}
        self.step, self.elapsed, self.log = 0, 0.0, []
        self.out.mkdir(parents=True, exist_ok=True)

    def fit(
        self,
        loss_of: Callable[[int], tuple[Tensor, dict[str, Tensor]]],
        every: int = 50,
        report: Callable[[str], None] | None = None,
    ) -> list[dict[str, int | float]]:
        """Minimise `loss_of(step)` until the minutes are spent; returns the log.

        Args:
            loss_of: a scalar loss, and further scalars for the log.
            every: steps between log lines, which hold means over them.
            report: called with each log line as text.
        """
        begin, since_save, sums = time.monotonic() - self.elapsed, time.monotonic(), {}
        first = self.step
        budget = self.schedule.minutes * 60
        limit = self.schedule.max_steps or float("inf")
        while self.elapsed < budget and self.step < limit:
            rate = self._rate(self.elapsed / budget, self.step - first)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            loss, extras = loss_of(self.step)
            loss.backward()
            self._update()
            self.step += 1
            for key, value in {"loss": loss, **extras}.items():
                sums[key] = sums.get(key, 0) + value.detach()
            self.elapsed = time.monotonic() - begin
            if self.step % every == 0:
                self._write_log(sums, min(every, self.step - first), rate, report)
                sums = {}
            if time.monotonic() - since_save > self.schedule.save_minutes * 60:
                self.save()
                since_save = time.monotonic()
        self.save()
        return self.log

    def _rate(self, done: float, fresh_steps: int) -> float:
        warm = min(1.0, (fresh_steps + 1) / self.schedule.warmup)
        return self.schedule.lr * warm * (0.05 + 0.95 * (1 + math.cos(math.pi * min(done, 1))) / 2)

    def _update(self) -> None:
        pairs = [(self.masters[key], value) for key, value in self.parameters.items()]
        copied = [(master, value) for master, value in pairs if master is not value]
        for master, value in copied:
            master.grad = None if value.grad is None else value.grad.float()
            value.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters.values(), self.schedule.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if copied:
            masters, values = zip(*copied, strict=True)
            torch._foreach_copy_([v.data for v in values], [m.data for m in masters])
        decay = min(self.schedule.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(
            list(self.averages.values()),
            [value.detach() for value in self.masters.values()],
            1 - decay,
        )

    def _write_log(
        self, sums: dict, count: int, rate: float, report: Callable[[str], None] | None
    ) -> None:
        line = {"step": self.step, "seconds": round(self.elapsed, 1), "lr": rate}
        line |= {key: round(float(value) / count, 5) for key, value in sums.items()}
        self.log.append(line)
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if report is not None:
            report(json.dumps(line))

    def use_averages(self) -> None:
        """Put the averaged weights into the modules, in float32: training ends here."""
        for name, module in self.modules.items():
            module.float()
            for key, value in module.named_parameters():
                if f"{name}.{key}" in self.averages:
                    value.data.copy_(self.averages[f"{name}.{key}"])

    def save(self) -> Path:
        """Write everything that a later run needs to go on, through a temporary name."""
        path = self.out / "checkpoint.pt"
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "masters": self.masters,
            "averages": self.averages,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
            "log": self.log,
        }
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
        return path

    def resume(self, fresh_clock: bool = False) -> bool:
        """Go on from `out/checkpoint.pt`; False when there is none.

        Args:
            fresh_clock: give this run its own `minutes` instead of what is left of the old ones.
        """
        path = self.out / "checkpoint.pt"
        if not path.is_file():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        for key, value in state["averages"].items():
            self.averages[key].copy_(value)
            self.masters[key].data.copy_(state["masters"][key])
        self.step, self.log = state["step"], state["log"]
        self.elapsed = 0.0 if fresh_clock else state["elapsed"]
        return True
