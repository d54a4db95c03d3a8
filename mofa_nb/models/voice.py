"""AniPortrait's speech networks: where their published files lie, and loading them strictly."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.faces.aniportrait import AudioToMesh, AudioToPose
from mofa_nb.faces.voice import VoiceNetworks
from mofa_nb.models.checkpoints import find_voice
from mofa_nb.models.load import published_state
from mofa_nb.models.weights import filled

NETWORKS = {"audio2mesh": AudioToMesh, "audio2pose": AudioToPose}
# What torch before 2.1 called the weight of the positional convolution, and what it is called now.
_CONV = "audio_encoder.encoder.pos_conv_embed.conv."
_RENAMED = {
    f"{_CONV}weight_g": f"{_CONV}parametrizations.weight.original0",
    f"{_CONV}weight_v": f"{_CONV}parametrizations.weight.original1",
}


@functools.lru_cache(maxsize=1)
def load_voice(folder: Path | None = None, device: str | torch.device = "cpu") -> VoiceNetworks:
    """The two networks, loaded strictly in float32; kept for the next time.

    Args:
        folder: of a model, beside or in which the files lie; see `checkpoints.voice_files`.
    Raises:
        InputError: a file is missing, damaged, or does not fit.
    """
    files = find_voice(folder)
    return VoiceNetworks(*(_load(part, files[part], device) for part in NETWORKS))


def _load(part: str, path: Path, device: str | torch.device) -> AudioToMesh | AudioToPose:
    state = published_state(part, path, torch.float32)
    try:
        return filled_network(part, state, str(path), device)
    except InputError as error:
        raise InputError(
            f"{error} (AniPortrait has published other networks by this name)"
        ) from None


def filled_network(
    part: str,
    state: Mapping[str, Tensor],
    source: str,
    device: str | torch.device = "cpu",
    **sizes: Any,
) -> AudioToMesh | AudioToPose:
    """A network with a published file's tensors, every name and shape checked.

    Args:
        part: "audio2mesh" or "audio2pose". source: where the tensors came from, for messages.
        sizes: other than the published ones.
    """
    renamed = {_RENAMED.get(key, key): value for key, value in state.items()}
    return filled(lambda: NETWORKS[part](**sizes), renamed, part, source, device=device)
