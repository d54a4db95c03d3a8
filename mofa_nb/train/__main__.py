"""`python -m mofa_nb.train STAGE`: one command line per training stage."""

import argparse
import sys
from pathlib import Path

import torch

from mofa_nb.checks import InputError, number_between, shown, whole_number
from mofa_nb.config import AdapterConfig, Settings
from mofa_nb.models.parts import ADAPTER_PARTS
from mofa_nb.train.loop import Schedule, Trainer
from mofa_nb.train.parts import open_parts, store_log, store_parts
from mofa_nb.train.stages import STAGES, Job


def main(argv: list[str] | None = None) -> int:
    """Train one stage; returns the exit code."""
    job = parse(argv)
    try:
        check(job)
        train(job)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
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
    least = {"batch": 1, "frames": 2, "pool": 1, "chunk": 1, "renew": 0, "log_every": 1}
    for name, low in least.items():
        whole_number(getattr(job, name), low, 1_000_000, "--" + name.replace("_", "-"))
    for name in ("s2d_share", "faces_share", "clips_share", "high_share", "free_share"):
        number_between(getattr(job, name), 0, 1, "--" + name.replace("_", "-"))
    number_between(job.drop_rate, 0, 1 / 3, "--drop-rate")
    if not 0 < job.schedule.minutes < float("inf"):
        raise InputError(f"--minutes must be more than 0, but {job.schedule.minutes:g} came")
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


def _check_cells(job: Job, config: AdapterConfig) -> None:
    """A part of the latents is whole at every level of the adapter, and not more than all."""
    unit, most = config.strides[-1] // config.strides[0], min(job.size) // config.downscale
    if job.cells % unit or not 0 < job.cells <= most:
        raise InputError(
            f"--cells {job.cells} does not fit: 0, or a multiple of {unit} up to {most}"
        )


def train(job: Job) -> None:
    """Open the parts, run the stage's loss until time is up, store averaged weights."""
    stage = STAGES[job.stage]
    torch.manual_seed(job.schedule.seed)
    settings = Settings.load(job.model / "settings.json")
    parts = open_parts(job.model, stage.opened(job.model), job.device)
    trained = {name: parts[name].train() for name in job.trained or stage.trained}
    for name, part in trained.items():
        for inner, module in part.named_modules():
            if f"{name}.{inner}".startswith(job.frozen):
                module.eval()  # batch statistics rest, too
    loss_of = stage.loss(job, parts, settings)
    trainer = Trainer(trained, job.out / f"{job.stage}_run", job.schedule, job.frozen)
    if job.resume:
        trainer.resume(job.fresh_clock)
    log = trainer.fit(loss_of, job.log_every, lambda line: sys.stderr.write(line + "\n"))
    trainer.use_averages()
    for part in trained.values():
        part.eval()
    changes = stage.changes(job, parts) if stage.changes else {}
    dtype = torch.int8 if job.bits == 8 else torch.float16
    store_parts(job.out, trained, job.model, dtype, changes)
    store_log(job.out / "curves", job.stage, log)


def parse(argv: list[str] | None) -> Job:
    parser = argparse.ArgumentParser(prog="python -m mofa_nb.train", description=__doc__)
    add = parser.add_argument
    add("stage", choices=sorted(STAGES))
    add("--model", type=Path, required=True, help="model folder: configs, and weights if any")
    add("--data", type=Path, required=True, help="bank of photographs and clips")
    add("--out", type=Path, required=True, help="where trained parts and checkpoints go")
    add("--minutes", type=float, default=10.0)
    add("--steps", type=int, default=0, help="stop after this many steps (0: by the clock alone)")
    add("--batch", type=int, default=8)
    add("--frames", type=int, default=14)
    add("--size", type=int, nargs=2, default=(128, 128), metavar=("HEIGHT", "WIDTH"))
    add("--lr", type=float, default=3e-4)
    add("--warmup", type=int, default=100, help="steps until the full learning rate")
    add("--seed", type=int, default=0)
    add("--train", nargs="*", default=(), help="parts to train, if not the stage's own")
    add("--freeze", nargs="*", default=(), help="name prefixes to leave alone, as vae.encoder")
    add("--average", type=float, default=0.999, help="decay of the averaged weights")
    add("--high-share", type=float, default=0.0, help="share of samples at high noise")
    add("--free-share", type=float, default=0.15, help="without residuals, where the UNet learns")
    add("--drop-rate", type=float, default=0.1, help="without token, image or both, each")
    add("--cells", type=int, default=0, help="train on a part of the latents, so wide (0: all)")
    add("--s2d-share", type=float, default=0.0, help="share of batches with flow made by S2D")
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
    add("--log-every", type=int, default=50)
    given = parser.parse_args(argv)
    values = vars(given)
    clock = {
        name: values.pop(name) for name in ("minutes", "steps", "lr", "warmup", "seed", "average")
    }
    schedule = Schedule(max_steps=clock.pop("steps"), **clock)
    tuples = {"size": tuple(values.pop("size")), "trained": tuple(values.pop("train"))}
    tuples["frozen"] = tuple(values.pop("freeze"))
    return Job(**values, **tuples, schedule=schedule)


if __name__ == "__main__":
    raise SystemExit(main())
