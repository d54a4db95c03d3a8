"""Loading a whole model strictly: mini, release, or a folder of either layout; and a voice."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import init_empty_weights
from diffusers import EulerDiscreteScheduler
from torch import Tensor, nn

from mofa_nb.checks import InputError, naming
from mofa_nb.config import Settings
from mofa_nb.faces.voice import VoiceNetworks
from mofa_nb.models import checkpoints, single_file, weights
from mofa_nb.models import models as whole
from mofa_nb.models.checkpoints import CMP_FILE, SIZES, Dtypes, ReleaseFiles
from mofa_nb.models.frame_decoder import decode_alone
from mofa_nb.models.memory import fitted_into_memory
from mofa_nb.models.weights import Sizes, State
from mofa_nb.paths import check_parts, model_folder

# What torch before 2.1 called the positional convolution's weight, and what it is called now.
_CONV = "audio_encoder.encoder.pos_conv_embed.conv."
_NOW = f"{_CONV}parametrizations.weight.original"
_OLD = {f"{_CONV}weight_g": f"{_NOW}0", f"{_CONV}weight_v": f"{_NOW}1"}

Device = str | torch.device
Report = Callable[[str, int, int], None]


def load_models(
    model: str | Path = "mini", device: Device | None = None, dtypes: Dtypes | None = None,
    base: str | Path | None = None, few_step: str | Path | None = None,
    report: Report | None = None,
) -> whole.Models:  # fmt: skip
    """Load a model strictly from its own files, by default onto a GPU if there is one: "mini",
    "release" (of the hub's cache or downloaded), or a folder of our or of a released layout.
    `dtypes`: number formats of parts instead of those of `model_dtypes`. A released model may have
    another `base`, as for `checkpoints.find_release`, and as `few_step` the weights (a file, or its
    folder) of a UNet distilled to a few steps (AnimateLCM-SVD; 4 steps and guidance 1 to 1.2, if
    not told). `report`: called with a part's name, the megabytes that are read, and those of all.
    To a card only that is brought which fits there with a clip (`models.memory`)."""
    device = device or whole.default_device()
    whole.check_device(device)
    dtypes = whole.model_dtypes(device) | dict(dtypes or {})
    check_parts(folder := model_folder(model), base, few_step)
    unet = _few_step_file(Path(few_step), dtypes["unet"]) if few_step else None
    if folder and (folder / "settings.json").is_file():
        files = _find_ours(folder, dtypes)
        settings = Settings.load(folder / "settings.json")
    else:
        files = checkpoints.find_release(folder, dtypes, Path(base) if base else None)
        settings = Settings()
    if unet:
        files = replace(files, weights={**files.weights, "unet": unet})
        settings = replace(settings, few_step=True, steps=4, guidance=(1.0, 1.2))
    models = _load(settings, files, device, dtypes, report or (lambda part, done, total: None))
    models = replace(models, folder=folder, target=torch.device(device))
    if models.device.type != "cpu":
        side, guided = settings.short_side, max(settings.guidance) > 1
        fitted_into_memory(models, settings.num_frames, (side, side * 16 // 9), guided=guided)
    return models


def _few_step_file(path: Path, dtype: torch.dtype) -> Path:
    """The file itself, or that of a folder, of a whole pipeline, too."""
    inner = path / "unet" if (path / "unet").is_dir() else path
    return weights.weight_file(inner, dtype) if path.is_dir() else path


def _find_ours(folder: Path, dtypes: Dtypes) -> ReleaseFiles:
    parts = (*whole.FROZEN_PARTS, *whole.OPTIONAL_PARTS)
    places = {part: weights.part_folder(folder, part) for part in parts}
    optional = (part for part in whole.OPTIONAL_PARTS if weights.has_weights(places[part]))
    names = [*whole.FROZEN_PARTS, *optional]
    if not {*whole.ADAPTER_PARTS.values()} & {*names}:
        raise InputError(f"the model folder {folder} has no adapter with weights: add one")
    files = {name: weights.weight_file(places[name], dtypes[name]) for name in names}
    return ReleaseFiles(files, {name: places[name] for name in names}, folder / "scheduler")


def _load(
    settings: Settings, files: ReleaseFiles, device: Device, dtypes: Dtypes, report: Report
) -> whole.Models:
    """The model in main memory."""
    own, stock = files.scheduler, EulerDiscreteScheduler.from_config
    recorded, hashes = weights.recorded_hashes(own.parent) if own else {}, []
    scheduler = whole.read_scheduler(own) if own else stock(single_file.SCHEDULER)
    for file, part in {file: part for part, file in files.weights.items()}.items():
        digest = weights.content_hash(file)
        hashes += [digest] if part != "taesd" else []  # which makes no clip
        if recorded.get(f"{file.parent.name}/{file.name}", digest) != digest:
            expected = f"the file whose SHA-256 is recorded in {own.parent / weights.SUMS}"
            remedy = "fetch it again, or if you changed it yourself, delete that record"
            raise InputError(f"{file} is not {expected}: {remedy}")
    parts, notes, few = {}, [], "unet" if settings.few_step else ""
    sizes = {part: file.stat().st_size for part, file in files.weights.items()}
    done, total = 0, sum(sizes.values())
    for part, file in files.weights.items():
        report(part, done // 10**6, total // 10**6)
        done += sizes[part]
        place = files.configs.get(part)
        if place and part != few:
            parts[part] = weights.load_part(part, place, dtypes[part], file=file)
            continue
        if part in SIZES:
            state, config = published_state(part, file, dtypes[part], notes), SIZES[part].to_dict()
        else:
            config = weights.read_config(place) if place else single_file.SIZES[part]
            state = single_file.part_state(part, weights.read_weights(file), config)
        parts[part] = weights.fill(part, config, state, str(file), dtypes[part])
    report("all", total // 10**6, total // 10**6)
    if settings.decode_alone:
        decode_alone(parts["vae"])
    whole.decode_in_half(parts["vae"], dtypes)
    if torch.device(device).type == "cpu":  # as its bfloat16 kernels want them: benchmarks.layout
        layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
        for value in (value for value in parts["vae"].parameters() if value.ndim in layouts):
            value.data = value.data.contiguous(memory_format=layouts[value.ndim])
    fingerprint = hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]
    models = whole.assemble(settings, parts, scheduler, fingerprint)
    return replace(models, notes=tuple(notes))


@functools.lru_cache(maxsize=1)
def load_voice(folder: Path | None = None, device: str | torch.device = "cpu") -> VoiceNetworks:
    """AniPortrait's two speech networks in float32, kept for the next time; `folder` as for
    `checkpoints.find_voice`. InputError: a file is missing, damaged, or does not fit."""
    files = checkpoints.find_voice(folder).items()
    states = ((part, published_state(part, file, torch.float32), str(file)) for part, file in files)
    return VoiceNetworks(*(fill_voice(*state, {}, device) for state in states))


def fill_voice(part: str, state: State, source: str, sizes: Sizes, device="cpu") -> nn.Module:
    """One network with a published file's tensors; `sizes` are other than the published ones."""
    renamed = {_OLD.get(key, key): value for key, value in state.items()}
    with naming("AniPortrait published other networks by this name"):
        return weights.fill(part, sizes, renamed, source, device=device)


def published_state(part: str, path: Path, dtype: torch.dtype, notes: list | None = None) -> dict:
    """A file's tensors by name, floating ones in `dtype`; InputError for anything else. Where a
    CMP checkpoint holds what the network has no use for, `notes` gets a sentence."""
    state = weights.read_weights(path)
    if part == "s2d":
        state = _cmp_state(state, path, [] if notes is None else notes)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} holds no named tensors: use the published {part} checkpoint")
    if path.suffix != ".safetensors":  # those are mapped from disk, pickles lie in memory
        for key, value in state.items():
            state[key] = value.to(dtype) if value.is_floating_point() else value
    return state


def _cmp_state(file: object, path: Path, notes: list[str]) -> dict[str, Tensor]:
    """The network's own tensors out of a CMP checkpoint; others are ignored, as in the original.
    Those of old PyTorch lack batch norm's `num_batches_tracked`, which is never read in use."""
    if not isinstance(file, dict) or not isinstance(file.get("state_dict"), dict):
        raise InputError(f'{path} has no "state_dict": use the published {CMP_FILE}')
    state = {str(key).removeprefix("module."): v for key, v in file["state_dict"].items()}
    with init_empty_weights():
        wanted = weights.build("s2d", SIZES["s2d"].to_dict()).state_dict()
    if extra := [key for key in state if key not in wanted]:
        notes.append(f"{path.name} holds {len(extra)} unused tensors, for example {extra[0]!r}")
    counters = {key: torch.zeros((), dtype=torch.int64) for key in wanted if "num_batches" in key}
    return counters | {key: value for key, value in state.items() if key in wanted}
