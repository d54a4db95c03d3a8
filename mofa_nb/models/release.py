"""The published model, loaded strictly from its own files: nothing is renamed or converted."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mofa_nb.checks import InputError
from mofa_nb.config import AdapterConfig, S2DConfig, Settings
from mofa_nb.models import hub, weights
from mofa_nb.models.checkpoints import CMP_FILE, find_in, find_on_hub
from mofa_nb.models.models import Models, assemble
from mofa_nb.models.parts import model_dtypes

# The published adapters always compute with these sizes, whatever the config.json beside them
# says: the class that wrote it never passed its own arguments on. The stored head counts would
# load without complaint and be silently wrong.
SIZES: dict[str, AdapterConfig | S2DConfig] = {
    "adapter": AdapterConfig(),
    "landmark_adapter": AdapterConfig(landmark_channels=(16, 32, 64, 128)),
    "s2d": S2DConfig(),
}
_LFS_POINTER = b"version https://git-lfs."


def load_release(
    folder: Path | None = None,
    device: str | torch.device = "cpu",
    dtypes: Mapping[str, torch.dtype] | None = None,
    kinds: Sequence[str] | None = None,
) -> Models:
    """Load the published model.

    Args:
        folder: holds the checkpoints in a released layout (see `checkpoints.find_in`). None looks
            in the hub's cache and downloads what is missing.
        device: where to put it.
        dtypes: number formats per part; `model_dtypes(device)` by default. Files in another
            format are converted tensor by tensor: no second copy of a part is ever held.
        kinds: adapters wanted, "trajectory" and "landmark". By default the trajectory adapter,
            and the landmark adapter where it is at hand: it is never downloaded unasked.
    Raises:
        InputError: something is missing, damaged or does not fit, or the hub does not give it.
    """
    dtypes = model_dtypes(device) | dict(dtypes or {})
    found = find_on_hub(dtypes, kinds) if folder is None else find_in(Path(folder), dtypes, kinds)
    parts = {
        part: _load(part, path, found.configs.get(part), dtypes[part], device)
        for part, path in found.weights.items()
    }
    content = fingerprint(found.weights.values())
    try:
        return assemble(Settings(), parts, found.scheduler, content)
    except (OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{found.scheduler} does not describe the scheduler ({type(error).__name__}): fetch it"
            " again"
        ) from error


def _load(
    part: str, path: Path, config: Path | None, dtype: torch.dtype, device: str | torch.device
) -> nn.Module:
    """One part from its weight file; `config` is the folder of its config.json, None for ours."""
    sizes = SIZES[part].to_dict() if config is None else weights.read_config(config)
    state = published_state(part, path, dtype)
    try:
        return weights.fill(part, sizes, state, str(path), dtype, device)
    except InputError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        if config is None:
            raise
        raise InputError(
            f"{config / 'config.json'} does not describe a {part} ({type(error).__name__}): fetch"
            " it again"
        ) from error


def published_state(part: str, path: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """A file's tensors, floating ones in `dtype`; InputError for anything else than tensors."""
    with path.open("rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise InputError(
                f"{path} is a git-lfs pointer, not the weights: run `git lfs pull` in its folder"
            )
    state = weights.read_weights(path) if path.suffix == ".safetensors" else _unpickled(path)
    if part == "s2d":
        state = _unwrapped(state, path)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} holds no named tensors: use the published {part} checkpoint")
    if part == "image_encoder":  # a constant that older versions of transformers stored
        state.pop("vision_model.embeddings.position_ids", None)
    if path.suffix != ".safetensors":  # those are mapped from disk, pickles lie in memory
        for key, value in state.items():
            state[key] = value.to(dtype) if value.is_floating_point() else value
    return state


def _unpickled(path: Path) -> object:
    """The content of a pickle that holds tensors and plain values; no code in it is run."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make the reader stumble in any way
        raise InputError(
            f"{path} is damaged, or holds more than tensors, and is not opened: fetch it again"
        ) from error


def _unwrapped(file: object, path: Path) -> dict[str, Tensor]:
    """The network's own tensors out of a CMP checkpoint.

    Checkpoints of old PyTorch lack batch norm's `num_batches_tracked`: it counts training
    batches and is never read in use, so a zero may stand for it.
    """
    if not isinstance(file, dict) or not isinstance(file.get("state_dict"), dict):
        raise InputError(f'{path} has no "state_dict": use the published {CMP_FILE}')
    state = {key.removeprefix("module."): value for key, value in file["state_dict"].items()}
    for key in [key for key in state if key.endswith(".running_mean")]:
        counter = key.removesuffix("running_mean") + "num_batches_tracked"
        state.setdefault(counter, torch.zeros((), dtype=torch.int64))
    return state


def fingerprint(paths: Iterable[Path]) -> str:
    """First 12 hex digits of sha256 over the files' own sha256, which the hub's cache knows."""
    total = hashlib.sha256()
    for path in paths:
        content = hub.content_hash(path)
        if content is None:
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(content.encode())
    return total.hexdigest()[:12]
