"""AniPortrait's speech networks, loaded strictly from their published files."""

import functools
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mofa_nb.checks import InputError
from mofa_nb.faces.aniportrait import AudioToMesh, AudioToPose
from mofa_nb.faces.voice import VoiceNetworks
from mofa_nb.models.checkpoints import find_voice
from mofa_nb.models.load import published_state
from mofa_nb.models.weights import filled

NETWORKS = {"audio2mesh": AudioToMesh, "audio2pose": AudioToPose}
# What torch before 2.1 called the weight of the positional convolution, and what it is called now.
_CONV = "audio_encoder.encoder.pos_conv_embed.conv."
_OLD = {f"{_CONV}weight_{kind}": f"original{n}" for n, kind in enumerate("gv")}


@functools.lru_cache(maxsize=1)
def load_voice(folder: Path | None = None, device: str | torch.device = "cpu") -> VoiceNetworks:
    """The two networks in float32; kept for the next time.

    Args:
        folder: of a model, in or beside which the files lie; see `checkpoints.find_voice`.
    Raises:
        InputError: a file is missing, damaged, or does not fit.
    """
    nets = [
        fill_voice(part, published_state(part, path, torch.float32), str(path), {}, device)
        for part, path in find_voice(folder).items()
    ]
    return VoiceNetworks(*nets)


def fill_voice(
    part: str,
    state: Mapping[str, Tensor],
    source: str,
    sizes: Mapping[str, object],
    device: str | torch.device = "cpu",
) -> nn.Module:
    """One network with a published file's tensors; `sizes` are other than the published ones."""
    renamed = {
        f"{_CONV}parametrizations.weight.{_OLD[key]}" if key in _OLD else key: value
        for key, value in state.items()
    }
    try:
        return filled(lambda: NETWORKS[part](**sizes), renamed, part, source, device=device)
    except InputError as error:
        raise InputError(f"{error} (AniPortrait published other networks by this name)") from None
