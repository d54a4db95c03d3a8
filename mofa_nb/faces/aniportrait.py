"""AniPortrait's speech networks (Wei et al., arXiv 2403.17694): mesh and head pose from a voice.

Both hear through their own wav2vec2, whose convolution features are read off at the frames before
they are projected. Names of parameters are those of the published files.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mofa_nb.checks import InputError, whole_number
from mofa_nb.faces.mesh import SKIN

HEADS, LAYERS, SPEAKERS = 8, 8, 100  # of the pose decoder; rows of its table of speakers
SPEAKER = 42  # the one that the original's demo asks for
LONGEST = 600  # frames of its table of positions
FEWEST_SAMPLES = 400  # that the convolutions make one feature of

Sound = Float[Tensor, " n"]  # at 16 kHz, with mean 0 and variance 1


class AudioToMesh(nn.Module):
    """How the vertices of a neutral face move with a voice. `width` is the latent's, `encoder`
    wav2vec2's settings (those of "base" by default)."""

    def __init__(self, width: int = 512, encoder: Mapping[str, Any] | None = None):
        super().__init__()
        self.audio_encoder = _encoder(encoder)
        self.in_fn = nn.Linear(self.audio_encoder.config.hidden_size, width)
        self.out_fn = nn.Linear(width, SKIN * 3)

    def forward(self, sound: Sound, num_frames: int) -> Float[Tensor, "T 468 3"]:
        """Offsets in cm, head space."""
        heard = _heard(self.audio_encoder, sound, num_frames)
        return self.out_fn(self.in_fn(heard)).unflatten(-1, (SKIN, 3))


class AudioToPose(nn.Module):
    """How a head turns and shifts with a voice, each frame after all former ones."""

    def __init__(self, width: int = 512, encoder: Mapping[str, Any] | None = None):
        super().__init__()
        self.audio_encoder = _encoder(encoder)
        self.in_fn = nn.Linear(self.audio_encoder.config.hidden_size, width)
        self.pose_map = nn.Linear(6, width)
        self.pose_map_r = nn.Linear(width, 6)
        self.PPE = nn.Module()
        self.PPE.register_buffer("pe", position_table(width))
        self.id_embed = nn.Embedding(SPEAKERS, width)
        layer = nn.TransformerDecoderLayer(width, HEADS, 2 * width, batch_first=True)
        self.transformer_decoder = nn.TransformerDecoder(layer, LAYERS)

    def forward(
        self, sound: Sound, num_frames: int, speaker: int = SPEAKER
    ) -> Float[Tensor, "T 6"]:
        """Degrees about x, y, z and a shift in cm, head space; at most 600 frames. `speaker`: whose
        way of moving, 0 to 99."""
        whole_number(num_frames, 1, LONGEST, "the number of frames of the head's pose")
        speaker = whole_number(speaker, 0, SPEAKERS - 1, "the speaker")
        memory = self.in_fn(_heard(self.audio_encoder, sound, num_frames))
        layers = [_Cached(layer, memory) for layer in self.transformer_decoder.layers]
        poses, pose = [], memory.new_zeros(6)
        for place in self.PPE.pe[0, :num_frames] + self.id_embed.weight[speaker]:
            token = self.pose_map(pose) + place
            for layer in layers:
                token = layer.step(token)
            pose = self.pose_map_r(token)
            poses.append(pose)
        return torch.stack(poses)


def position_table(width: int) -> Float[Tensor, "1 600 width"]:
    """Sines and cosines of the frame's number; the published file holds this table."""
    speeds = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
    angles = torch.arange(LONGEST)[:, None] * speeds
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[None]


class _Cached:
    """A decoder layer that takes one frame at a time and keeps keys and values of former ones; it
    hears its own moment of the sound only, so cross-attention is a linear map of the memory."""

    def __init__(self, layer: nn.TransformerDecoderLayer, memory: Float[Tensor, "T d"]):
        cross, width = layer.multihead_attn, memory.shape[1]
        values = functional.linear(
            memory, cross.in_proj_weight[2 * width :], cross.in_proj_bias[2 * width :]
        )
        self.layer, self.heard, self.now = layer, cross.out_proj(values), 0
        shape = (HEADS, len(memory), width // HEADS)
        self.keys, self.values = memory.new_empty(shape), memory.new_empty(shape)
        self.slopes = 2.0 ** -torch.arange(1, HEADS + 1, device=memory.device)

    def step(self, token: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """The layer's output for the next frame."""
        layer = self.layer
        token = layer.norm1(token + self._looking_back(token))
        token = layer.norm2(token + self.heard[self.now])
        self.now += 1
        return layer.norm3(token + layer.linear2(layer.linear1(token).relu()))

    def _looking_back(self, token: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """Self-attention over all frames so far; the further back, the less one counts (ALiBi)."""
        net, t = self.layer.self_attn, self.now
        mixed = functional.linear(token, net.in_proj_weight, net.in_proj_bias)
        query, self.keys[:, t], self.values[:, t] = mixed.view(3, HEADS, -1)
        back = torch.arange(-t, 1, device=token.device)
        seen = functional.scaled_dot_product_attention(
            query[:, None],
            self.keys[:, : t + 1],
            self.values[:, : t + 1],
            attn_mask=(self.slopes[:, None] * back)[:, None],
        )
        return net.out_proj(seen.flatten())


def _encoder(settings: Mapping[str, Any] | None) -> nn.Module:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    return Wav2Vec2Model(Wav2Vec2Config(**settings or {}))


def _heard(encoder: nn.Module, sound: Sound, num_frames: int) -> Float[Tensor, "T hidden"]:
    """wav2vec2's last layer, one row per frame: first and last feature are first and last frame."""
    if len(sound) < FEWEST_SAMPLES:
        came = f"{len(sound)} came: use a longer sound"
        raise InputError(f"at least {FEWEST_SAMPLES} samples of sound are needed, but {came}")
    features = encoder.feature_extractor(sound[None])
    features = functional.interpolate(features, num_frames, mode="linear", align_corners=True)
    hidden, _ = encoder.feature_projection(features.transpose(1, 2))
    return encoder.encoder(hidden).last_hidden_state[0]
