"""`python -m mofa_nb.train STAGE`: one command line per training stage."""

import argparse
import json
import sys
from dataclasses import MISSING, Field, fields, replace
from typing import Annotated, Any, get_args, get_origin

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from mofa_nb.checks import InputError, choice, number_between, whole_number
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.config import AdapterConfig, Settings
from mofa_nb.flow.optical_flow import clip_flow
from mofa_nb.media.video import write_clip
from mofa_nb.models import weights
from mofa_nb.models.models import ADAPTER_PARTS, FROZEN_PARTS, assemble, read_scheduler
from mofa_nb.sampling import denoise
from mofa_nb.train.job import HALF, OLDER_STAGES, Job, Schedule
from mofa_nb.train.loop import Sampled, Stopped, Trainer
from mofa_nb.train.parts import open_parts, save_memory
from mofa_nb.train.s2d import ClipHints, s2d_flow
from mofa_nb.train.shards import has_shards, held_out_clip
from mofa_nb.train.sources import in_bytes, open_source, watershed_hints
from mofa_nb.train.stages import STAGES, trained_parts
from mofa_nb.train.video import Core, Parts, VideoLoss, moved_clips, prepare_clips

_PAPER = {
    "lr": 2e-5, "decay": "constant", "warmup": 0, "clip": 0.0, "batch": 1, "frames": 25,
    "size": (384, 384), "precision": "fp16", "high_share": 0.0, "free_share": 0.0,
}  # fmt: skip
SAMPLE_STEPS, SAMPLE_FPS, SAMPLE_SEED = 12, 7, 2**31 - 1
NOISES = 4  # draws of noise that a sample's loss is a mean of
_FIRST_LAYERS = ("trajectory_adapter.flow_encoder", "trajectory_adapter.controlnet_cond_embedding")
RECIPES = {  # SPEC 6.4, and SVD_Xtend's defaults
    "paper-stage1": _PAPER | {"from_unet": True},
    "paper-stage2": _PAPER
    | {"size": (320, 320), "optimizer": "adamw8bit", "s2d_share": 1.0, "freeze": _FIRST_LAYERS},
    "svd-xtend": _PAPER
    | {"lr": 1e-5, "warmup": 500, "decay": "constant_with_warmup", "clip": 1.0, "free_share": 1.0}
    | {"size": (320, 512), "train": ("unet",), "log_normal": True},
}


def main(argv: list[str] | None = None) -> int:
    job = parse(argv)
    try:
        check(job)
        train(job)
    except (InputError, Stopped) as error:
        sys.stderr.write(f"{error}\n")
        return getattr(error, "code", 2)
    return 0


def parse(argv: list[str] | None) -> Job:
    """The command line: every annotated field of Job and Schedule is an option."""
    parser = argparse.ArgumentParser(prog="python -m mofa_nb.train", description=__doc__)
    as_today = lambda name: OLDER_STAGES.get(name, name)  # noqa: E731
    parser.add_argument("stage", type=as_today, choices=sorted(STAGES))
    for option in (*fields(Job), *fields(Schedule)):
        if get_origin(option.type) is Annotated:
            _add_option(parser, option)
    help_text = "settings of a published training, as defaults"
    parser.add_argument("--recipe", choices=sorted(RECIPES), help=help_text)
    parser.set_defaults(minutes=None)
    parser.set_defaults(**RECIPES.get(parser.parse_args(argv).recipe, {}))
    given = vars(parser.parse_args(argv))
    del given["recipe"]
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    if values["minutes"] is None:
        values["minutes"] = 0.0 if values["steps"] else 10.0
    clock = {f.name: values.pop(f.name) for f in fields(Schedule)}
    return Job(**values, schedule=Schedule(**clock))


def _add_option(parser: argparse.ArgumentParser, option: Field) -> None:
    kind, *notes = get_args(option.type)
    how: dict[str, Any] = {"help": _note(notes, str)}
    if kind is bool:
        how["action"] = "store_true"
    elif get_origin(kind) is tuple:
        one, another = get_args(kind)
        pair = {"nargs": 2, "metavar": ("HEIGHT", "WIDTH")}
        how |= {"type": one} | ({"nargs": "*"} if another is ... else pair)
    else:
        how |= {"type": kind, "choices": _note(notes, list)}
    default = option.default if option.default_factory is MISSING else option.default_factory()
    how |= {"required": True} if default is MISSING else {"default": default}
    parser.add_argument("--" + option.name.replace("_", "-"), **how)


def _note(notes: list, kind: type) -> Any:
    return next((note for note in notes if isinstance(note, kind)), None)


def check(job: Job) -> None:
    """Refuse (InputError) what cannot be trained, before anything is loaded."""
    if not (job.model / "settings.json").is_file():
        remedy = f"python -m mofa_nb.train.convert {job.model} OUT makes one of a released"
        raise InputError(f"{job.model} is no model folder (no settings.json): {remedy} model")
    Settings.load(job.model / "settings.json")
    for name in job.train:
        choice(name, STAGES[job.stage].parts, f"--train of stage {job.stage}")
    for name in job.log_with:
        installed = [kind.value for kind in get_available_trackers()]
        choice(name, installed, "--log-with, of what is installed,")
    for owner in (job, job.schedule):
        for option in fields(owner):
            kind, *notes = get_args(option.type) or [None]
            if within := _note(notes, tuple):
                inside = whole_number if kind is int else number_between
                inside(getattr(owner, option.name), *within, f"--{option.name.replace('_', '-')}")
    trained, parts = trained_parts(job), STAGES[job.stage].parts
    shown = "s2d" in parts and trained != ("landmark_adapter",)  # by a sample
    works = {"as_released": "unet" in parts, "sample_every": shown}
    for option in (name for name in works if getattr(job, name) and not works[name]):
        what = f"--{option.replace('_', '-')} does nothing in stage {job.stage}"
        raise InputError(f"{what}, which trains {', '.join(trained)}: leave it out")
    minutes = job.schedule.minutes
    if not 0 <= minutes < float("inf") or not (minutes or job.schedule.steps):
        raise InputError(f"--minutes must be more than 0, but {minutes:g} came")
    configs = [weights.part_folder(job.model, p) / "config.json" for p in ADAPTER_PARTS.values()]
    strides = [AdapterConfig.load(path).strides[-1] for path in configs if path.is_file()]
    if any(side < 1 or side % stride for side in job.size for stride in strides):
        expected = f"both must be multiples of {max(strides)}"
        raise InputError(f"--size {job.size[0]} {job.size[1]} does not fit this model: {expected}")
    if job.cells:  # whole at every level of the adapter, and not more than all
        config = AdapterConfig.load(configs[0])
        unit, most = config.strides[-1] // config.strides[0], min(job.size) // config.downscale
        if job.cells % unit or not 0 < job.cells <= most:
            expected = f"0, or a multiple of {unit} up to {most}"
            raise InputError(f"--cells {job.cells} does not fit: {expected}")


def train(job: Job) -> None:
    """Open the parts, run the stage's loss for its steps, store averaged weights;
    under `accelerate launch` every process runs this, and the first one stores."""
    stage, schedule = STAGES[job.stage], job.schedule
    accelerator = _accelerator(job)
    job = replace(job, device=str(accelerator.device))
    torch.manual_seed(schedule.seed)
    settings = Settings.load(job.model / "settings.json")
    begun = job.from_unet and "unet" in stage.parts and "trajectory_adapter" in stage.trained
    fresh = ("trajectory_adapter",) if begun else ()
    parts = open_parts(job.model, stage.opened(job.model), job.device, job.from_scratch, fresh)
    trained = {name: parts[name].train() for name in trained_parts(job)}
    for name, part in trained.items():
        for inner, module in part.named_modules():
            if f"{name}.{inner}".startswith(job.freeze):
                module.eval()  # batch statistics rest, too
    loss_of = stage.loss(job, parts, settings)
    if job.gradient_checkpointing:
        for part in parts.values():
            save_memory(part)
    trainer = Trainer(trained, job.out / f"{job.stage}_run", schedule, job.freeze, accelerator)
    if job.resume:
        trainer.resume(job.fresh_clock)
    sampled = sampler(job, parts, settings, accelerator) if job.sample_every else None
    say = lambda line: sys.stderr.write(line + "\n")  # noqa: E731
    log = trainer.fit(loss_of, job.log_every, say, sampled, job.sample_every)
    accelerator.end_training()
    if accelerator.is_main_process:
        trainer.use_averages()
        for part in trained.values():
            part.eval()
        torch.manual_seed(schedule.seed)
        changes = stage.changes(job, parts) if stage.changes else {}
        dtype = torch.int8 if job.bits == 8 else torch.float16
        for name, part in trained.items():
            config = weights.read_config(weights.part_folder(job.model, name))
            config |= changes.get(name, {})
            weights.save_part(name, part, config, job.out / name, dtype)
        curve = json.dumps([line for line in log if line["step"]])
        (job.out / "curves").mkdir(exist_ok=True)
        (job.out / "curves" / f"{job.stage}.json").write_text(curve + "\n", encoding="utf-8")


def _accelerator(job: Job) -> Accelerator:
    """One for this job: an earlier job of this process may have had another number format."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=job.device == "cpu", mixed_precision=job.precision if job.precision in HALF else "no",
        gradient_accumulation_steps=job.schedule.accumulate, log_with=list(job.log_with) or None,
        project_dir=job.out / f"{job.stage}_run",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )  # fmt: skip
    if job.log_with:
        asked = {key: str(value) for key, value in {**vars(job), **vars(job.schedule)}.items()}
        accelerator.init_trackers("mofa_nb", asked)
    return accelerator


def sampler(job: Job, parts: Parts, settings: Settings, accelerator: Accelerator) -> Sampled:
    """What tells the figures of a step, and writes its film: the clip, and beside it what is made
    of its first frame and its flow.

    `sample_epe`, pixels, is of the flow (DIS) that the made clip shows, or of S2D's dense flow from
    watershed hints where there is no video model. `sample_loss` is the clip's denoising loss under
    the same high noise always, and `sample_loss_still` that when the trajectory adapter is told
    that nothing moves: how far they are apart is how much it is heard."""
    torch.manual_seed(SAMPLE_SEED)
    if has_shards(job.data):
        clip = held_out_clip(job, parts["vae"])
    else:
        clip, _ = replace(open_source(job), faces_share=0.0).draw(1, job.frames, job.size)
    flow, visible = clip.flow[0], clip.visible[0, :, 0]

    @torch.no_grad()
    def sampled(step: int) -> dict[str, float]:
        torch.manual_seed(SAMPLE_SEED)
        with accelerator.autocast():
            if set(FROZEN_PARTS) <= parts.keys():
                shown = _film(job, parts, settings, clip, step).to(flow.device)
            else:
                hints = ClipHints(watershed_hints(clip, torch.default_generator), clip.flow)
                network = parts.get("landmark_s2d", parts.get("s2d"))
                first = clip.frames[:, 0]
                shown = s2d_flow(network, first, hints)[0] if network is not None else flow
            figures = {"sample_epe": round(float((shown - flow).norm(dim=1)[visible].mean()), 4)}
            if "trajectory_adapter" in parts and "vae" in parts:
                figures |= _losses(job, parts, settings, clip)
        return figures

    return sampled


def _losses(job: Job, parts: Parts, settings: Settings, clip: SceneBatch) -> dict[str, float]:
    whole = replace(job, high_share=1.0, drop_rate=0.0, cells=0, log_normal=False)
    loss = VideoLoss(whole, parts, parts["trajectory_adapter"], settings, 0.0)
    loss.run = Core(loss.adapter, parts["unet"])  # nothing is captured for a few calls
    clips, figures = prepare_clips(parts, clip, clip.flow, settings, job.as_released), {}
    for name, flow in (("sample_loss", clip.flow), ("sample_loss_still", 0 * clip.flow)):
        clips["given"], values = flow, []
        if loss.adapter.config.warp == "picture":
            clips["moved"] = in_bytes(moved_clips(clip, flow))
        for seed in range(NOISES):
            torch.manual_seed(seed)
            values.append(float(loss(clips)[0]))
        figures[name] = round(sum(values) / NOISES, 5)
    return figures


def _film(job: Job, parts: Parts, settings: Settings, clip: SceneBatch, step: int) -> Tensor:
    """Write the film of a clip that goes the tracks' way; the flow it shows [steps, 2, H, W]."""
    scheduler = read_scheduler(job.model / "scheduler")
    models = assemble(replace(settings, num_frames=job.frames), parts, scheduler, "")
    generator = torch.Generator().manual_seed(SAMPLE_SEED)
    start, noise = denoise.begin(models, clip.frames[:, 0], job.frames, generator)
    adapter = models.adapter("trajectory")
    dtype = next(adapter.parameters()).dtype
    control = denoise.Control(adapter, adapter.reference(start.image.to(dtype), clip.flow))
    how = {"steps": min(settings.steps, SAMPLE_STEPS), "guidance": (1.0, 1.0)}
    *_, last = denoise.denoise_steps(models, start, [control], noise, **how)
    frames = torch.cat(list(denoise.decode(models, last.latents)))
    films = [denoise.to_pixels(film) for film in (clip.frames[0] * 2 - 1, frames)]
    path = job.out / f"{job.stage}_run" / "samples" / f"step-{step:08d}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, torch.cat(films, dim=2).numpy(), SAMPLE_FPS, title=settings.name)
    return clip_flow(((frames + 1) / 2).clamp(0, 1))


if __name__ == "__main__":
    raise SystemExit(main())
