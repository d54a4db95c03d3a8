"""A training run as the command line gives it: every option once, with default, help and range."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from accelerate.utils import is_tensorboard_available
from diffusers.optimization import SchedulerType

from mofa_nb.models.models import default_device, has_fast_bfloat16
from mofa_nb.models.weights import OLDER_PARTS

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
DECAYS = [kind.value for kind in SchedulerType if kind != SchedulerType.PIECEWISE_CONSTANT]
# An annotated field is an option of its name: a text is its help, a pair its range, a list what
# may be chosen.
Count = Annotated[int, (1, 10**9)]
CountOrNone = Annotated[int, (0, 10**9)]
Share = Annotated[float, (0, 1)]
Names = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast one stage is trained; of minutes and steps the fewer count, 0: none."""

    minutes: Annotated[float, "so long, in steps of the measured pace (default 10)"] = 0.0
    steps: Annotated[CountOrNone, "so many steps, whatever they take; repeatable"] = 0
    lr: Annotated[float, "peak learning rate"] = 3e-4
    warmup: Annotated[CountOrNone, "steps until the full learning rate"] = 100
    decay: Annotated[str, "of the rate after the warm-up", DECAYS] = "cosine"
    accumulate: Annotated[Count, "batches in a step"] = 1
    save_every: Annotated[Count, "steps between checkpoints"] = 500
    keep: Annotated[Count, "checkpoints that stay"] = 3
    clip: Annotated[float, "of the gradient's norm (0: none)"] = 1.0
    weight_decay: Annotated[float, "of AdamW"] = 1e-2
    seed: Annotated[int, "of all that is drawn"] = 0
    average: Annotated[float, "decay of the averaged weights, which are kept"] = 0.999
    optimizer: Annotated[str, "adamw8bit needs bitsandbytes", ["adamw", "adamw8bit"]] = "adamw"


# Names that stages and parts had.
OLDER_STAGES = {"adapter": "trajectory", "face_s2d": "landmark_s2d"}
_NOW = {older: part for part, older in OLDER_PARTS.items()}


def _present(name: str) -> str:
    """A part, or a prefix of names inside one, as it is called today."""
    part, dot, inner = name.partition(".")
    return _NOW.get(part, part) + dot + inner


@dataclass(frozen=True, kw_only=True)
class Job:
    stage: str
    schedule: Schedule
    model: Annotated[Path, "model folder; mofa_nb.train.convert makes one of a released one"]
    data: Annotated[Path, "bank of photographs and clips, or a folder of shards"]
    out: Annotated[Path, "where trained parts and checkpoints go"]
    batch: Annotated[Count, "clips or pictures of one process at once"] = 8
    frames: Annotated[int, "of a clip", (2, 10**9)] = 14
    size: Annotated[tuple[int, int], "of a clip in pixels"] = (128, 128)
    train: Annotated[Names, "parts to train, if not the stage's own"] = ()
    freeze: Annotated[Names, "name prefixes to leave alone, as vae.encoder"] = ()
    high_share: Annotated[Share, "share of samples at high noise"] = 0.0
    free_share: Annotated[Share, "without residuals, where the UNet learns"] = 0.15
    drop_rate: Annotated[float, "without token, image or both, each", (0, 1 / 3)] = 0.1
    log_normal: Annotated[bool, "noise levels as SVD_Xtend draws them"] = False
    cells: Annotated[int, "train on a part of the latents, so wide (0: all)"] = 0
    s2d_share: Annotated[Share, "share of batches with flow made by S2D"] = 0.0
    distill: Annotated[bool, "scenes show what picture and flow alone tell"] = False
    epe_weight: Annotated[float, "of the end-point error in S2D's loss"] = 0.05
    faces_share: Annotated[Share, "share of batches of rendered faces"] = 0.0
    clips_share: Annotated[Share, "share of batches of real clips"] = 0.25
    chunk: Annotated[Count, "clips made at once"] = 32
    renew: Annotated[CountOrNone, "steps between two new chunks"] = 16
    device: Annotated[str, "cuda or cpu"] = field(default_factory=default_device)
    pool: Annotated[Count, "clips kept ready; more need more memory"] = 256
    resume: Annotated[bool, "go on from the checkpoint in --out"] = False
    fresh_clock: Annotated[bool, "with --resume: a new budget of --minutes"] = False
    bits: Annotated[int, "of a stored weight", [8, 16]] = 16
    from_scratch: Annotated[Names, "parts that may have no weights; or all"] = ()
    from_unet: Annotated[bool, "the adapter begins as a copy of the UNet"] = False
    precision: Annotated[str, "auto: bf16 if fast", ["auto", "no", *HALF]] = "auto"
    as_released: Annotated[bool, "pixels, ids and first-frame noise as the original trains"] = False
    gradient_checkpointing: Annotated[bool, "less memory, a third more time"] = False
    sample_every: Annotated[CountOrNone, "steps between sample clips (0: none)"] = 0
    log_with: Annotated[Names, "trackers by accelerate's names, as wandb"] = field(
        default_factory=lambda: ("tensorboard",) if is_tensorboard_available() else ()
    )
    log_every: Annotated[Count, "steps between lines of the log"] = 50

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage", OLDER_STAGES.get(self.stage, self.stage))
        for option in ("train", "freeze", "from_scratch"):
            object.__setattr__(self, option, tuple(map(_present, getattr(self, option))))

    def autocast(self) -> torch.autocast:
        """bfloat16 arithmetic with float32 weights, where the hardware has it."""
        kind, fast = torch.device(self.device).type, has_fast_bfloat16(self.device)
        return torch.autocast(kind, torch.bfloat16, enabled=fast)
