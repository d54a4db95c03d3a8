"""`python -m mofa_nb.train STAGE`: one command line per training stage."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, is_tensorboard_available
from diffusers.optimization import SchedulerType

from mofa_nb.checks import InputError, number_between, shown, whole_number
from mofa_nb.config import AdapterConfig, Settings
from mofa_nb.models.parts import ADAPTER_PARTS
from mofa_nb.train.loop import Schedule, Stopped, Trainer
from mofa_nb.train.parts import open_parts, save_memory, store_log, store_parts
from mofa_nb.train.samples import SAMPLE_SEED, held_out_clip, sample
from mofa_nb.train.shards import has_shards
from mofa_nb.train.stages import HALF, STAGES, Job, Parts

_PAPER = {
    "lr": 2e-5, "decay": "constant", "warmup": 0, "clip": 0.0, "batch": 1, "frames": 25,
    "size": (384, 384), "precision": "fp16", "high_share": 0.0, "free_share": 0.0,
}  # fmt: skip
RECIPES = {  # SPEC 6.4, and SVD_Xtend's defaults
    "paper-stage1": _PAPER | {"from_unet": True},
    "paper-stage2": _PAPER
    | {
        "size": (320, 320),
        "optimizer": "adamw8bit",
        "s2d_share": 1.0,
        "freeze": ("adapter.flow_encoder", "adapter.controlnet_cond_embedding"),
    },
    "svd-xtend": _PAPER
    | {"lr": 1e-5, "warmup": 500, "decay": "constant_with_warmup", "clip": 1.0, "free_share": 1.0}
    | {"size": (320, 512), "train": ("unet",), "log_normal": True},
}
DECAYS = [k for k in SchedulerType if k != SchedulerType.PIECEWISE_CONSTANT]


def main(argv: list[str] | None = None) -> int:
    """Train one stage; returns the exit code."""
    job = parse(argv)
    try:
        check(job)
        train(job)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except Stopped as stopped:
        sys.stderr.write(f"{stopped}\n")
        return stopped.code
    return 0


def check(job: Job) -> None:
    """Refuse (InputError) what cannot be trained, before anything is loaded."""
    Settings.load(job.model / "settings.json")
    parts = STAGES[job.stage].parts
    for name in job.trained:
        if name not in parts:
            raise InputError(
                f"stage {job.stage} cannot train {shown(name)}: choose from {', '.join(parts)}"
            )
    least = {
        "batch": 1,
        "frames": 2,
        "pool": 1,
        "chunk": 1,
        "renew": 0,
        "log_every": 1,
        "sample_every": 0,
    }
    for name, low in least.items():
        whole_number(getattr(job, name), low, 1_000_000, "--" + name.replace("_", "-"))
    for name in job.log_with:
        if name not in {kind.value for kind in get_available_trackers()}:
            raise InputError(f"--log-with {shown(name)}: install it first, or leave it out")
    for name in ("s2d_share", "faces_share", "clips_share", "high_share", "free_share"):
        number_between(getattr(job, name), 0, 1, "--" + name.replace("_", "-"))
    number_between(job.drop_rate, 0, 1 / 3, "--drop-rate")
    _check_schedule(job.schedule)
    adapters = [job.model / part / "config.json" for part in ADAPTER_PARTS.values()]
    strides = [AdapterConfig.load(path).strides[-1] for path in adapters if path.is_file()]
    if any(side < 1 or side % stride for side in job.size for stride in strides):
        height, width = job.size
        raise InputError(
            f"--size {height} {width} does not fit this model: both must be multiples of "
            f"{max(strides)}"
        )
    if job.cells:
        _check_cells(job, AdapterConfig.load(adapters[0]))


def _check_schedule(schedule: Schedule) -> None:
    if not 0 <= schedule.minutes < float("inf") or not (schedule.minutes or schedule.steps):
        raise InputError(f"--minutes must be more than 0, but {schedule.minutes:g} came")
    for name in ("steps", "warmup", "accumulate", "save_every", "keep"):
        least = int(name not in ("steps", "warmup"))
        whole_number(getattr(schedule, name), least, 10**9, "--" + name.replace("_", "-"))


def _check_cells(job: Job, config: AdapterConfig) -> None:
    """A part of the latents is whole at every level of the adapter, and not more than all."""
    unit, most = config.strides[-1] // config.strides[0], min(job.size) // config.downscale
    if job.cells % unit or not 0 < job.cells <= most:
        raise InputError(
            f"--cells {job.cells} does not fit: 0, or a multiple of {unit} up to {most}"
        )


def train(job: Job) -> None:
    """Open the parts, run the stage's loss for its steps, store averaged weights.

    Under `accelerate launch` every process runs this, and the first one stores.
    """
    stage, schedule = STAGES[job.stage], job.schedule
    accelerator = _accelerator(job)
    job = replace(job, device=str(accelerator.device))
    torch.manual_seed(schedule.seed)
    settings = Settings.load(job.model / "settings.json")
    unstored = (*job.from_scratch, *(("adapter",) if job.from_unet else ()))
    parts = open_parts(job.model, stage.opened(job.model), job.device, unstored)
    trained = {name: parts[name].train() for name in job.trained or stage.trained}
    for name, part in trained.items():
        for inner, module in part.named_modules():
            if f"{name}.{inner}".startswith(job.frozen):
                module.eval()  # batch statistics rest, too
    loss_of = stage.loss(job, parts, settings)
    if job.gradient_checkpointing:
        for part in parts.values():
            save_memory(part)
    trainer = Trainer(trained, job.out / f"{job.stage}_run", schedule, job.frozen, accelerator)
    if job.resume:
        trainer.resume(job.fresh_clock)
    sampled = _sampler(job, parts, settings, accelerator) if job.sample_every else None
    say = lambda line: sys.stderr.write(line + "\n")  # noqa: E731
    log = trainer.fit(loss_of, job.log_every, say, sampled, job.sample_every)
    accelerator.end_training()
    if accelerator.is_main_process:
        trainer.use_averages()
        _store(job, parts, trained)
        store_log(job.out / "curves", job.stage, log)


def _accelerator(job: Job) -> Accelerator:
    """One for this job: an earlier job of this process may have had another number format."""
    AcceleratorState._reset_state()
    mixed = job.precision if job.precision in HALF else "no"
    accelerator = Accelerator(
        cpu=job.device == "cpu",
        mixed_precision=mixed,
        gradient_accumulation_steps=job.schedule.accumulate,
        log_with=list(job.log_with) or None,
        project_dir=job.out / f"{job.stage}_run",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if job.log_with:
        asked = {key: str(value) for key, value in {**vars(job), **vars(job.schedule)}.items()}
        accelerator.init_trackers("mofa_nb", asked)
    return accelerator


def _sampler(
    job: Job, parts: Parts, settings: Settings, accelerator: Accelerator
) -> Callable[[int], dict[str, float]]:
    """Figures of one clip that no step draws."""
    torch.manual_seed(SAMPLE_SEED)
    if has_shards(job.data):
        clip = held_out_clip(job, parts)
    else:
        clip = replace(job.source(), faces_share=0.0).draw(1, job.frames, job.size)
    folder = job.out / f"{job.stage}_run" / "samples"

    def sampled(step: int) -> dict[str, float]:
        torch.manual_seed(SAMPLE_SEED)
        with accelerator.autocast():
            return sample(job, parts, settings, clip, folder / f"step-{step:08d}.mp4")

    return sampled


def _store(job: Job, parts: Parts, trained: Parts) -> None:
    """Write what was trained, in the types that were asked for."""
    for part in trained.values():
        part.eval()
    torch.manual_seed(job.schedule.seed)
    changes = STAGES[job.stage].changes
    dtype = torch.int8 if job.bits == 8 else torch.float16
    store_parts(job.out, trained, job.model, dtype, changes(job, parts) if changes else {})


def parse(argv: list[str] | None) -> Job:
    parser = argparse.ArgumentParser(prog="python -m mofa_nb.train", description=__doc__)
    add = parser.add_argument
    add("stage", choices=sorted(STAGES))
    add("--model", type=Path, required=True, help="model folder: configs, and weights if any")
    add("--data", type=Path, required=True, help="bank of photographs and clips")
    add("--out", type=Path, required=True, help="where trained parts and checkpoints go")
    add("--minutes", type=float, help="so long, in steps of the measured pace (default 10)")
    add("--steps", type=int, default=0, help="so many steps, whatever they take; repeatable")
    add("--batch", type=int, default=8)
    add("--frames", type=int, default=14)
    add("--size", type=int, nargs=2, default=(128, 128), metavar=("HEIGHT", "WIDTH"))
    add("--lr", type=float, default=3e-4)
    add("--warmup", type=int, default=100, help="steps until the full learning rate")
    add("--decay", default="cosine", choices=[kind.value for kind in DECAYS], help="after warm-up")
    add("--accumulate", type=int, default=1, help="batches in a step")
    add("--save-every", type=int, default=500, help="steps between checkpoints")
    add("--keep", type=int, default=3, help="checkpoints that stay")
    add("--clip", type=float, default=1.0, help="of the gradient's norm (0: none)")
    add("--weight-decay", type=float, default=1e-2)
    add("--seed", type=int, default=0)
    add("--train", nargs="*", default=(), help="parts to train, if not the stage's own")
    add("--freeze", nargs="*", default=(), help="name prefixes to leave alone, as vae.encoder")
    add("--average", type=float, default=0.999, help="decay of the averaged weights")
    add("--high-share", type=float, default=0.0, help="share of samples at high noise")
    add("--free-share", type=float, default=0.15, help="without residuals, where the UNet learns")
    add("--drop-rate", type=float, default=0.1, help="without token, image or both, each")
    add("--log-normal", action="store_true", help="noise levels as SVD_Xtend draws them")
    add("--cells", type=int, default=0, help="train on a part of the latents, so wide (0: all)")
    add("--s2d-share", type=float, default=0.0, help="share of batches with flow made by S2D")
    add("--distill", action="store_true", help="scenes show what picture and flow alone tell")
    add("--epe-weight", type=float, default=0.05, help="of the end-point error in S2D's loss")
    add("--faces-share", type=float, default=0.0, help="share of batches of rendered faces")
    add("--clips-share", type=float, default=0.25, help="share of batches of real clips")
    add("--chunk", type=int, default=32, help="clips made at once")
    add("--renew", type=int, default=16, help="steps between two new chunks")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--pool", type=int, default=256, help="clips kept ready; more need more memory")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--fresh-clock", action="store_true", help="with --resume: a new budget of --minutes")
    add("--bits", type=int, choices=(8, 16), default=16, help="of a stored weight")
    add("--from-scratch", nargs="*", default=(), metavar="PART", help="may have no weights; or all")
    add("--from-unet", action="store_true", help="the adapter begins as a copy of the UNet")
    add("--precision", choices=("auto", "no", *HALF), default="auto", help="auto: bf16 if fast")
    add("--gradient-checkpointing", action="store_true", help="less memory, a third more time")
    add("--optimizer", choices=("adamw", "adamw8bit"), default="adamw")
    add("--sample-every", type=int, default=0, help="steps between sample clips (0: none)")
    loggers = ("tensorboard",) if is_tensorboard_available() else ()
    add("--log-with", nargs="*", default=loggers, help="trackers by accelerate's names, as wandb")
    add("--log-every", type=int, default=50)
    add("--recipe", choices=sorted(RECIPES), help="settings of a published training, as defaults")
    recipe = parser.parse_args(argv).recipe
    parser.set_defaults(**RECIPES.get(recipe, {}))
    given = parser.parse_args(argv)
    del given.recipe
    values = vars(given)
    if values["minutes"] is None:
        values["minutes"] = 0.0 if values["steps"] else 10.0
    clock = {f.name: values.pop(f.name) for f in fields(Schedule) if f.name in values}
    schedule = Schedule(**clock)
    tuples = {"size": tuple(values.pop("size")), "trained": tuple(values.pop("train"))}
    tuples["frozen"] = tuple(values.pop("freeze"))
    tuples |= {name: tuple(values.pop(name)) for name in ("from_scratch", "log_with")}
    return Job(**values, **tuples, schedule=schedule)


if __name__ == "__main__":
    raise SystemExit(main())
