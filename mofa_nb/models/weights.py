"""Build the parts of a model from their configs and load their weights strictly: a folder for each,
with `config.json` and a safetensors file, stock parts as diffusers and transformers write them."""

import contextlib
import functools
import hashlib
import inspect
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLTemporalDecoder, AutoencoderTiny
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mofa_nb.adapter.adapter import Adapter
from mofa_nb.adapter.blocks import streamline
from mofa_nb.adapter.unet import VideoUNet
from mofa_nb.checks import InputError, whole_file
from mofa_nb.config import AdapterConfig, Config, S2DConfig, check_value, read_object
from mofa_nb.faces.voice import AudioToMesh, AudioToPose
from mofa_nb.flow.s2d import S2D

State, Sizes = Mapping[str, Tensor], Mapping[str, Any]  # weights; a config's values
# File names a part's weights may have, best first: ours, transformers', diffusers'.
WEIGHT_NAMES = ("model.safetensors", "diffusion_pytorch_model.safetensors")
HALF_NAMES = ("model.fp16.safetensors", "diffusion_pytorch_model.fp16.safetensors")
SUMS = "SHA256SUMS"  # in a model folder: what `sha256sum */*.safetensors` says
_LFS_POINTER = b"version https://git-lfs."
LARGE = 64 << 20  # bytes of a file whose hash is worth keeping
SCALE = ".scale"  # ends the name of what a tensor kept in 8 or 4 bits is multiplied with
VOICE_NETWORKS = {"audio2mesh": AudioToMesh, "audio2pose": AudioToPose}
# Networks that diffusers reads, too, and by which name.
STOCK = {"unet": VideoUNet, "vae": AutoencoderKLTemporalDecoder, "taesd": AutoencoderTiny}
STOCK_CLASS = {name: network.__name__ for name, network in STOCK.items()}
STOCK_CLASS["unet"] = "UNetSpatioTemporalConditionModel"
# Our own networks, each of a config that checks itself.
OWN: dict[str, tuple[type[nn.Module], type[Config]]] = {
    "s2d": (S2D, S2DConfig),
    "landmark_s2d": (S2D, S2DConfig),
    "trajectory_adapter": (Adapter, AdapterConfig),
    "landmark_adapter": (Adapter, AdapterConfig),
}


# Names that the folders of parts had.
OLDER_PARTS = {"trajectory_adapter": "adapter", "landmark_s2d": "face_s2d"}


def part_folder(model: Path, part: str) -> Path:
    """Where a model folder keeps a part: by its name, or in an older folder by the older one."""
    place, older = model / part, model / OLDER_PARTS.get(part, part)
    return older if older.is_dir() and not place.is_dir() else place


def read_config(folder: Path) -> dict[str, Any]:
    """The part's `config.json`; a missing or broken file raises InputError."""
    return read_object(folder / "config.json")


def build(part: str, config: Mapping[str, Any], source: str = "its config") -> nn.Module:
    """A freshly initialised part. InputError: the config, called `source`, does not describe it."""
    try:
        for name, value in config.items():
            check_value(name, value, _stock_defaults(part).get(name))
        if part in OWN:
            network, sizes = OWN[part]
            return network(sizes.from_dict(dict(config)))
        if part in VOICE_NETWORKS:
            return VOICE_NETWORKS[part](**config)
        if part == "image_encoder":
            return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(dict(config)))
        if part == "taesd":  # its config holds what its class no longer takes
            config = {name: config[name] for name in _stock_defaults(part) if name in config}
        module = STOCK[part].from_config(dict(config))
        if part in ("unet", "vae"):
            streamline(module)
        return module
    except MemoryError:
        raise
    except Exception as error:  # the stock classes stumble in many ways over what they are given
        raise undescribed(f"a {part}", source, error) from error


def undescribed(what: str, source: object, error: Exception) -> InputError:
    """The sentence for a config with which the stock classes made nothing."""
    reason = error if isinstance(error, InputError) else type(error).__name__
    return InputError(f"{source} does not describe {what} ({reason}): fetch it again")


@functools.cache
def _stock_defaults(part: str) -> Mapping[str, Any]:
    """What a stock part takes where its config says nothing: examples of what may stand there."""
    if part == "image_encoder":
        return CLIPVisionConfig().to_dict()
    parameters = inspect.signature(STOCK[part].__init__).parameters if part in STOCK else {}
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def load_part(
    part: str, folder: Path, dtype=torch.float32, device="cpu", *, file: Path | None = None
) -> nn.Module:
    """A part of `folder/config.json`, filled strictly from the folder's weight file, or `file`."""
    file, named = file or weight_file(folder, dtype), str(folder / "config.json")
    config, state = read_config(folder), read_weights(file)
    if part == "image_encoder":  # a constant that older versions of transformers stored
        state.pop("vision_model.embeddings.position_ids", None)
    return fill(part, config, state, str(file), dtype, device, named)


def fill(
    part: str, config: Sizes, state: State, source: str,
    dtype=torch.float32, device: str | torch.device = "cpu", named: str = "its config",
) -> nn.Module:  # fmt: skip
    """A part with `state`; messages call weights and config `source` and `named`. InputError: keys
    are missing, left over or of another shape; most values are zero, or some not finite."""
    with init_empty_weights(include_buffers=False):
        module = build(part, config, named)
    called = f"the {part} weights in {source}"
    _check_state(module.state_dict(), state, called)
    cast = {k: v.to(device, dtype if v.is_floating_point() else None) for k, v in state.items()}
    _check_values(cast, called)
    module.load_state_dict(cast, assign=True)
    return module.to(device).eval().requires_grad_(False)


def _check_state(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], called: str) -> None:
    """Keys, shapes and kinds must be exactly the network's; a sentence names the first mismatch."""
    problems = [f"lacks {key!r}" for key in wanted if key not in state]
    problems += [f"has an unknown tensor {key!r}" for key in state if key not in wanted]
    for key in (key for key in wanted if key in state):
        got, own = state[key], wanted[key]
        kinds = {(v.is_floating_point(), v.is_complex(), v.layout) for v in (got, own)}
        if got.shape != own.shape:
            problems.append(f"holds {key!r} as {list(got.shape)} instead of {list(own.shape)}")
        elif len(kinds) > 1:
            problems.append(f"holds {key!r} as {got.dtype} ({got.layout}), not {own.dtype}")
    if problems:
        more = f" ({len(problems) - 1} more differences)" if len(problems) > 1 else ""
        remedy = "use the checkpoint that belongs to this model"
        raise InputError(f"{called} do not fit: the file {problems[0]}{more}; {remedy}")


def _check_values(state: Mapping[str, Tensor], called: str) -> None:
    """Every value is finite, and not most matrices are zero: an untrained adapter has some."""
    empty = []
    for key, value in state.items():
        if value.is_floating_point() and value.numel():
            low, high = (float(edge) for edge in value.aminmax())  # NaN if there is one
            if not math.isfinite(high - low):
                what = f"{key!r} with values that are not finite in {value.dtype}"
                raise InputError(f"{called} hold {what}: fetch the file again")
            if value.ndim > 1:
                empty.append(low == high == 0)
    if sum(empty) > len(empty) / 2:
        raise InputError(f"{called} are all zero: fetch the file again")


def has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in WEIGHT_NAMES + HALF_NAMES)


def weight_file(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The part's weight file; half precision prefers the half-precision file."""
    names = WEIGHT_NAMES + HALF_NAMES if dtype == torch.float32 else HALF_NAMES + WEIGHT_NAMES
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"expected a weight file in {folder} (one of {', '.join(names)}), found none")


def read_weights(path: Path) -> dict[str, Any]:
    """What a safetensors file or a pickle of tensors holds; no code in it is run."""
    if not path.is_file():
        raise InputError(f"expected weights at {path}, found no such file")
    try:
        with path.open("rb") as stream:
            is_pointer = stream.read(len(_LFS_POINTER)) == _LFS_POINTER
        if is_pointer:
            raise InputError(f"{path} is a git-lfs pointer, not the weights: run `git lfs pull`")
        if path.suffix == ".safetensors":
            return unpacked(load_file(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file can make the readers stumble in any way
        wrong = "is damaged, or holds more than tensors, and is not opened"
        raise InputError(f"{path} {wrong}: fetch it again") from error


def packed(state: Mapping[str, Tensor], coarse: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Matrices and kernels as int8 with one scale per output channel: half of float16's size, with
    an error of at most about a 254th of a channel's largest weight. Where names begin as `coarse`
    says, two channels share a byte (uint8): a quarter of the size, and at most a 14th."""
    tensors = dict(state)
    for key, value in state.items():
        if value.is_floating_point() and value.ndim > 1:
            in_pairs = key.startswith(coarse) and len(value) % 2 == 0
            most = 7 if in_pairs else 127
            scale = value.float().abs().flatten(1).amax(1).clamp(min=1e-4) / most
            tensors[key + SCALE] = scale.half()  # as it is stored
            steps = value.float() / _per_channel(tensors[key + SCALE], value)
            steps = steps.round().clamp(-most, most).to(torch.int8)
            if in_pairs:
                low, high = (steps + 8).to(torch.uint8).chunk(2)
                steps = low | high << 4
            tensors[key] = steps
    return tensors


def unpacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `packed`; other states come back as they are."""
    tensors = dict(state)
    for key, value in state.items():
        if value.dtype in (torch.int8, torch.uint8) and key + SCALE in state:
            if value.dtype == torch.uint8:
                value = torch.cat([value & 15, value >> 4]).to(torch.int8) - 8
            tensors[key] = value.float() * _per_channel(tensors.pop(key + SCALE), value)
    return tensors


def _per_channel(scale: Float[Tensor, " C"], value: Tensor) -> Tensor:
    return scale.float().view(-1, *[1] * (value.ndim - 1))


def save_part(
    part: str, net: nn.Module, config: Sizes, folder: Path, dtype: torch.dtype,
    coarse: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Write `config.json` and a weight file, floating point tensors in `dtype`; int8 keeps matrices
    in 8 bits, or 4 (`packed`), the rest in float16, in a file that no stock loader finds."""
    folder.mkdir(parents=True, exist_ok=True)
    state, eight = net.state_dict(), dtype == torch.int8
    if eight:
        state, dtype = packed(state, coarse), torch.float16
    state = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for key, value in state.items()
    }
    name, other = WEIGHT_NAMES[::-1] if part in STOCK and not eight else WEIGHT_NAMES
    with whole_file(folder / name) as partial:
        save_file(state, partial, metadata={"format": "pt"})
    (folder / other).unlink(missing_ok=True)  # an older one might be read first
    stored = {k: v for k, v in config.items() if not k.startswith("_")}
    if part in STOCK:
        stored = {"_class_name": STOCK_CLASS[part], **stored}
    with whole_file(folder / "config.json") as partial:
        partial.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    if sums := recorded_hashes(folder.parent):
        sums[f"{folder.name}/{name}"] = content_hash(folder / name)
        lines = [f"{digest}  {file}\n" for file, digest in sorted(sums.items())]
        with whole_file(folder.parent / SUMS) as partial:
            partial.write_text("".join(lines), encoding="utf-8")


def recorded_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 by weight file, as a model folder records them; empty where it does not."""
    sums = folder / SUMS
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines() if sums.exists() else ()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def content_hash(path: Path) -> str:
    """SHA-256 of a file's content; the hub's cache names large files by it, which saves reading.
    Those of other files over 64 MiB are kept in the user's cache folder, by path, size and time."""
    stored = path.resolve()
    if stored.parent.name == "blobs" and len(stored.name) == 64:
        return stored.name
    status = stored.stat()
    key = hashlib.sha256(f"{stored}|{status.st_size}|{status.st_mtime_ns}".encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mofa_nb" / key
    if status.st_size >= LARGE and cache.is_file():
        return cache.read_text(encoding="ascii")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if status.st_size >= LARGE:
        with contextlib.suppress(OSError):  # hashed again next time
            cache.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(cache) as partial:
                partial.write_text(digest, encoding="ascii")
    return digest
