"""The loop around every training stage, on accelerate: steps, averages, log, checkpoints.
All randomness of a micro-batch follows from the seed and the micro-batch's number, so a resumed
run draws what the uninterrupted one would have drawn, and nothing has to be remembered."""

import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import Tensor, nn

from mofa_nb.checks import InputError, refusing
from mofa_nb.train.job import Schedule
from mofa_nb.train.sources import drawn_seed

MEASURED_STEPS, MEASURED_SHARE = 50, 0.05  # after which --minutes become a number of steps
FIRST_STEPS = 8  # of them that do not count: pools are filled
PROGRESS = ("step", "batches", "begin", "total", "seconds", "log", "figures", "sums")
STATE, LOG = "extra.pt", "log.jsonl"
WRITING = (OSError, RuntimeError, SafetensorError)  # what a full disk raises, by who writes
LossOf = Callable[[int], tuple[Tensor, dict[str, Tensor]]]  # a loss, and figures for the log
Report = Callable[[str], Any]
Sampled = Callable[[int], dict[str, float]]  # figures of a step


class Stopped(Exception):
    """A signal ended the run after it was saved; `code` is the exit code for it."""

    def __init__(self, sentence: str, code: int):
        super().__init__(sentence)
        self.code = code


class Trainer:
    """Trains the parameters of `modules` but those whose name starts with a `frozen` prefix; of
    those in half precision the optimiser has float32 copies."""

    def __init__(
        self, modules: Mapping[str, nn.Module], out: Path, schedule: Schedule,
        frozen: tuple[str, ...] = (), accelerator: Accelerator | None = None,
    ):  # fmt: skip
        alone = {"cpu": True, "gradient_accumulation_steps": schedule.accumulate}
        self.accelerator = accelerator or Accelerator(**alone)
        self.modules, self.schedule = dict(modules), schedule
        self.parameters = {
            f"{name}.{key}": value.requires_grad_(True)
            for name, module in self.modules.items()
            for key, value in module.named_parameters()
            if not f"{name}.{key}".startswith(frozen)
        }
        if not self.parameters:
            raise InputError(f"nothing is left to train: {', '.join(frozen)} freeze all of it")
        self.masters = {
            key: value if value.dtype == torch.float32 else value.detach().float().requires_grad_()
            for key, value in self.parameters.items()
        }
        pairs = {key: (self.masters[key], value) for key, value in self.parameters.items()}
        self.copied = {key: pair for key, pair in pairs.items() if pair[0] is not pair[1]}
        self.trained = _Trained(self.modules)
        optimiser = optimizer_of(schedule, list(self.masters.values()))
        self.model, self.optimiser = self.accelerator.prepare(self.trained, optimiser)
        self.averages = EMAModel(self.masters.values(), decay=schedule.average, foreach=True)
        text = "\n".join(f"{key} {tuple(value.shape)}" for key, value in self.parameters.items())
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        about = f"{len(self.parameters)} trained tensors {digest}"
        self.folder = RunFolder(out, self.accelerator, about, schedule.keep)
        self.step, self.begin, self.batches = 0, 0, 0  # batches: of all processes
        self.total = 0 if schedule.minutes else schedule.steps  # 0: not known yet
        self.seconds, self.log, self.sums, self.figures = 0.0, [], {}, {}

    def fit(
        self, loss_of: LossOf, every: int = 50, report: Report = lambda line: None,
        sampled: Sampled | None = None, sample_every: int = 0,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Minimise `loss_of(turn)` of this process' micro-batches until the steps are done; returns
        the log, means over `every` steps a line, each also given to `report`. sampled: figures of
        the averaged weights, before the first step and every `sample_every` (0: never). InputError:
        another run holds the folder, or a checkpoint cannot be written. Stopped: a signal came."""
        self.trained.loss_of = loss_of
        with self.folder.held(), _noted_signals() as caught:
            if self.accelerator.is_main_process:  # what was logged after the last checkpoint goes
                (self.folder.path / LOG).write_text("".join(json.dumps(x) + "\n" for x in self.log))
            self._plan()
            if sample_every and not self.step:
                self._sample(sampled)
                self._write_line({"step": 0}, report)
            clock, times = time.monotonic() - self.seconds, []
            while self.step < (self.total or self.schedule.steps or float("inf")):
                self._one_step()
                self.seconds = time.monotonic() - clock
                if not self.total:
                    times.append(self.seconds)
                    self._settle(times, report)
                if sample_every and self.step % sample_every == 0:
                    self._sample(sampled)
                if self.step % every == 0:
                    self._write_log(report)
                stopped = self._agreed(bool(caught))
                if stopped or self.step % self.schedule.save_every == 0:
                    self.save()
                if stopped:
                    goes_on = "the same command with --resume goes on from there"
                    code = 128 + (caught or [0])[-1]
                    raise Stopped(f"stopped after step {self.step}: {goes_on}", code)
            if self.step % self.schedule.save_every:
                self.save()
        return self.log

    def _one_step(self) -> None:
        accelerator, size = self.accelerator, self.schedule.accumulate
        first = self.batches // accelerator.num_processes
        for turn in range(first, first + size):
            number = turn * accelerator.num_processes + accelerator.process_index
            set_seed(drawn_seed(self.schedule.seed, number))
            with accelerator.accumulate(self.model):
                loss, extras = self.model(turn)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    for master, value in self.copied.values():
                        master.grad = None if value.grad is None else value.grad.float()
                        value.grad = None
                    if self.schedule.clip:
                        accelerator.clip_grad_norm_(list(self.masters.values()), self.schedule.clip)
                self.optimiser.step()
                self.optimiser.zero_grad()
            for key, value in {"loss": loss, **extras}.items():
                self.sums[key] = self.sums.get(key, 0) + value.detach().float() / size
        if self.copied:
            masters, values = zip(*self.copied.values(), strict=True)
            torch._foreach_copy_([v.data for v in values], [m.data for m in masters])
        self.averages.step(self.masters.values())
        self.rate = self.scheduler.get_last_lr()[0]
        self.scheduler.step()
        self.step += 1
        self.batches = (first + size) * accelerator.num_processes
        self.sums["count"] = self.sums.get("count", 0) + 1

    def _plan(self) -> None:
        """The learning rate from this step on; the first is a `warmup`-th of the peak."""
        inner = getattr(self.optimiser, "optimizer", self.optimiser)
        for group in inner.param_groups:
            group["initial_lr"] = self.schedule.lr
        self.scheduler = get_scheduler(
            self.schedule.decay if self.total else "constant_with_warmup",
            inner,
            num_warmup_steps=max(self.schedule.warmup, 1),
            num_training_steps=(self.total or 0) - self.begin + 1,
            last_epoch=self.step - self.begin,
        )

    def _settle(self, times: list[float], report: Report) -> None:
        """Turn the minutes into steps, while the warm-up lasts: what was done stays as it was."""
        budget, done = 60 * self.schedule.minutes, self.step - self.begin
        enough = done >= min(self.schedule.warmup, MEASURED_STEPS)
        if not self._agreed(enough or times[-1] > MEASURED_SHARE * budget):
            return
        first = min(FIRST_STEPS, len(times) - 2)  # clips are made in them
        pace = (times[-1] - times[first]) / (len(times) - 1 - first) if first >= 0 else times[0]
        total = self.begin + max(done, int(budget / max(pace, 1e-6)))
        self.total = broadcast_object_list([min(total, self.schedule.steps or total)])[0]
        self._plan()
        report(f"{self.total} steps fit: --steps {self.total} repeats this run")

    def _sample(self, sampled: Sampled) -> None:
        if self.accelerator.is_main_process:
            values = list(self.parameters.values())
            self.averages.store(values)
            self.averages.copy_to(values)
            self.figures = sampled(self.step)
            self.averages.restore(values)

    def _agreed(self, mine: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return mine
        votes = torch.tensor(float(mine), device=self.accelerator.device)
        return bool(self.accelerator.reduce(votes) > 0)

    def _write_log(self, report: Report) -> None:
        count, sums = self.sums.pop("count"), self.sums
        means = {key: self.accelerator.reduce(v, "mean") / count for key, v in sums.items()}
        line = {"step": self.step, "seconds": round(self.seconds, 1), "lr": self.rate}
        line |= {key: round(float(value), 5) for key, value in means.items()}
        self.sums = {}
        self._write_line(line, report)

    def _write_line(self, line: dict[str, float], report: Report) -> None:
        line, self.figures = line | self.figures, {}
        self.log.append(line)
        if self.accelerator.is_main_process:
            with (self.folder.path / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self.accelerator.log({k: v for k, v in line.items() if k != "step"}, step=self.step)
            report(json.dumps(line))

    def use_averages(self) -> None:
        """Put the averaged weights into the modules, in float32: training ends here."""
        for module in self.modules.values():
            module.float()
        self.averages.copy_to(self.parameters.values())

    def save(self) -> None:
        """Write everything that a later run needs to go on."""
        state = {name: getattr(self, name) for name in PROGRESS}
        state["masters"] = {key: master for key, (master, _) in self.copied.items()}
        self.folder.save(self.step, state | {"averages": self.averages.state_dict()})

    def resume(self, fresh_clock: bool = False) -> None:
        """Go on from the newest checkpoint (InputError: there is none that fits), with a clock,
        warm-up and decay of its own if `fresh_clock`."""
        state = self.folder.load()
        for key, value in state.pop("masters").items():
            self.masters[key].data.copy_(value)
        self.averages.load_state_dict(state.pop("averages"))
        self.averages.to(self.accelerator.device)
        vars(self).update(state)
        if fresh_clock:
            self.begin, self.seconds, self.total = self.step, 0.0, 0
        elif self.schedule.steps and not self.schedule.minutes:
            self.total = self.schedule.steps


class _Trained(nn.Module):
    """What is trained as one module with the loss as its output, for accelerate to wrap."""

    def __init__(self, modules: Mapping[str, nn.Module]):
        super().__init__()
        self.parts, self.loss_of = nn.ModuleDict(modules), None

    def forward(self, turn: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss_of(turn)


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Within this block the first SIGTERM or Ctrl-C is only noted; a second one acts as usual."""
    caught, before = [], {}

    def note(number: int, frame: object) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    with ExitStack() as after:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, note)
                after.callback(signal.signal, number, before[number])
        yield caught


def optimizer_of(schedule: Schedule, values: list[Tensor]) -> torch.optim.Optimizer:
    settings = {"lr": schedule.lr, "weight_decay": schedule.weight_decay}
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(values, **settings, fused=values[0].is_cuda)
    with refusing("--optimizer adamw8bit needs bitsandbytes", "install it by pip", ImportError):
        from bitsandbytes.optim import AdamW8bit
    return AdamW8bit(values, **settings)


class RunFolder:
    """Checkpoints `step-00001000/` of one run, whole or not there, the last `keep` of them; `about`
    is what a checkpoint must agree on to be loaded here."""

    def __init__(self, path: Path, accelerator: Accelerator, about: str, keep: int):
        self.path, self.accelerator, self.about, self.keep = path, accelerator, about, keep
        self.own: set[Path] = set()  # checkpoints of this run: those of an older one make way
        self.path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder, at most as long as the process lives; InputError: another run has it."""
        lock = FileLock(self.path / "run.lock", timeout=0)
        remedy = "wait for it, or give another --out"
        with refusing(f"another run is writing to {self.path}", remedy, Timeout):
            with lock if self.accelerator.is_main_process else nullcontext():
                yield

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write what `accelerator` holds, and `state`, then drop old checkpoints and those of an
        older run. InputError: it cannot be written; those before it stay as they were."""
        target, part = self.path / f"step-{step:08d}", self.path / "part"
        main, ready = self.accelerator.is_main_process, self.accelerator.wait_for_everyone
        remedy = "free some space, then --resume from the one before it, if there is one"
        wrong = f"checkpoint {target} cannot be written"
        with refusing(wrong, remedy, *WRITING), ExitStack() as after:
            if main:
                shutil.rmtree(part, ignore_errors=True)
                after.callback(shutil.rmtree, part, ignore_errors=True)
            ready()
            self.accelerator.save_state(str(part))
            ready()
            if main:
                torch.save({"about": self.about, **state}, part / STATE)
                shutil.rmtree(target, ignore_errors=True)
                os.replace(part, target)
        if main:
            self.own = set(sorted({*self.own, target})[-self.keep :])
            for path in {*self.path.glob("step-*")} - self.own:
                shutil.rmtree(path, ignore_errors=True)
        ready()

    def load(self) -> dict[str, Any]:
        """Put the newest checkpoint into what `accelerator` holds; its `state`. InputError: there
        is none, it is damaged, or it belongs to another run."""
        if not (checkpoints := sorted(self.path.glob("step-*"))):
            raise InputError(f"no checkpoint to resume in {self.path}: leave --resume out")
        damaged = f"checkpoint {(newest := checkpoints[-1])} is damaged or not one of ours"
        remedy = "delete that folder, and --resume goes on from the one before it"
        with refusing(damaged, remedy, Exception):
            state = torch.load(newest / STATE, map_location="cpu", weights_only=True)
            if (about := state.pop("about")) != self.about:
                wrong = f"{newest} belongs to another run (it has {about}, this has {self.about})"
                raise InputError(f"{wrong}: resume with that run's options, or another --out")
            self.accelerator.load_state(str(newest))
        self.own = set(checkpoints)
        self.accelerator.step = 0  # micro-batches of a step; their number may have changed
        return state
