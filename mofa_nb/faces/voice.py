"""AniPortrait's way from a voice to landmarks (Wei et al., arXiv 2403.17694): two networks, each
with a wav2vec2 (parameters' names as in the published files), pieces, smoothing, projection.

The face stands in centimetres before the camera that the face model was made with: at the origin,
looking along -z, 63 degrees high. Head space is the canonical face's.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor, nn
from torch.nn import functional

from mofa_nb.checks import whole_number
from mofa_nb.faces import mesh
from mofa_nb.faces.detect import Face
from mofa_nb.faces.mesh import SKIN
from mofa_nb.faces.points import ANIPORTRAIT_68, Marks, resampled
from mofa_nb.faces.retarget import region_gain
from mofa_nb.faces.speech import LEAD_IN, blinks
from mofa_nb.media.sound import SPEECH_RATE
from mofa_nb.motion.face import Strengths

HEADS, LAYERS, SPEAKERS = 8, 8, 100  # of the pose decoder; rows of its table of speakers
SPEAKER = 42  # the one that the original's demo asks for
LONGEST = 600  # frames of its table of positions
RATE = 25  # frames per second at which the original's demo asks the networks
POSE_PIECE = 5 * SPEECH_RATE  # samples that a head's pose is made of; the last piece is longer
ANGLE_SHARE, SMOOTHED_OVER = 0.5, 7  # of the angles that are taken over; frames of their average
MESH_PIECE, MARGIN = 120, 4  # seconds of a long sound heard at once, and around them as well
POSE_LEAD_IN = 0.5  # seconds in which the head leaves the photographed pose
FOCAL = 1 / np.tan(np.radians(63 / 2))  # over half of the picture's height
RELEASED_DEPTH = np.float32(1.0001)  # what the original divides by, as a share of the depth

Waveform = Float[Tensor, " n"]  # at 16 kHz, with mean 0 and variance 1
Mesh, Poses = Float[np.ndarray, "468 3"], Float[np.ndarray, "T 6"]
Progress = Callable[[float], None]  # is told the share that is done


class AudioToMesh(nn.Module):
    """How the vertices of a neutral face move with a voice; wav2vec2 "base" is the `encoder`."""

    def __init__(self, width: int = 512, encoder: Mapping[str, Any] | None = None):
        super().__init__()
        self.audio_encoder = _encoder(encoder)
        self.in_fn = nn.Linear(self.audio_encoder.config.hidden_size, width)
        self.out_fn = nn.Linear(width, SKIN * 3)

    def forward(self, sound: Waveform, num_frames: int) -> Float[Tensor, "T 468 3"]:
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

    def forward(self, sound: Waveform, num_frames: int, speaker: int = SPEAKER) -> Tensor:
        """[T, 6] degrees about x, y, z and a shift in cm, head space, of at most 600 frames.
        `speaker`: whose way of moving, 0 to 99."""
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
        weight, bias = cross.in_proj_weight[2 * width :], cross.in_proj_bias[2 * width :]
        self.heard = cross.out_proj(functional.linear(memory, weight, bias))
        self.layer, self.now = layer, 0
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
        keys, values = self.keys[:, : t + 1], self.values[:, : t + 1]
        bias = (self.slopes[:, None] * torch.arange(-t, 1, device=token.device))[:, None]
        seen = functional.scaled_dot_product_attention(query[:, None], keys, values, bias)
        return net.out_proj(seen.flatten())


def _encoder(settings: Mapping[str, Any] | None) -> nn.Module:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    return Wav2Vec2Model(Wav2Vec2Config(**settings or {}))


def _heard(encoder: nn.Module, sound: Waveform, num_frames: int) -> Float[Tensor, "T hidden"]:
    """wav2vec2's last layer, one row per frame: first and last feature are first and last frame."""
    whole_number(len(sound), 400, 10**9, "the number of samples of sound")  # one feature's
    features = encoder.feature_extractor(sound[None])
    features = functional.interpolate(features, num_frames, mode="linear", align_corners=True)
    hidden, _ = encoder.feature_projection(features.transpose(1, 2))
    return encoder.encoder(hidden).last_hidden_state[0]


@dataclass(frozen=True)
class VoiceNetworks:
    mesh: AudioToMesh
    pose: AudioToPose


@dataclass(frozen=True)
class VoiceMotion:
    """How a voice moves a neutral face in head space."""

    offsets: Float[np.ndarray, "T 468 3"]  # of the vertices, cm
    poses: Poses  # degrees about x, y, z and a shift in cm
    fps: float
    seconds: float  # that the voice lasts


def voice_motion(
    networks: VoiceNetworks, samples: Float[np.ndarray, " n"], fps: float = RATE, *,
    speaker: int = SPEAKER, as_released: bool = False, progress: Progress = lambda fraction: None,
) -> VoiceMotion:  # fmt: skip
    """What the networks make of a voice (16 kHz) at `fps`, at most 60; angles halved and smoothed.
    A sound of up to ten seconds is one piece, where the original fails. `as_released`: frames are
    counted with the original's rounding, and the mesh hears sounds of any length at once."""
    frames = frame_count(len(samples), fps, as_released=as_released)
    length = frames if as_released else MESH_PIECE * round(fps)
    sound = torch.from_numpy(normalised(samples)).to(next(networks.mesh.parameters()).device)
    offsets, poses, begin = [], [], 0
    with torch.inference_mode():
        for first, last in pairwise([*range(0, frames, length), frames]):
            offsets.append(_offsets(networks.mesh, sound, (first, last), frames))
            progress(last / frames / 2)
        for length, count in pose_pieces(len(samples), frames, fps):
            poses.append(networks.pose(sound[begin : begin + length], count, speaker))
            begin += length
            progress(0.5 + begin / len(samples) / 2)
    pose = torch.cat(poses).cpu().numpy() * np.float32([ANGLE_SHARE] * 3 + [1] * 3)
    offsets, seconds = torch.cat(offsets).cpu().numpy(), len(samples) / SPEECH_RATE
    return VoiceMotion(offsets, smoothed(pose), float(fps), seconds)


def frame_count(samples: int, fps: float, *, as_released: bool = False) -> int:
    """Frames that a sound lasts; the original's rounding can make it one too many."""
    exact = samples / SPEECH_RATE * fps
    return max(1, math.ceil(exact if as_released else exact - 1e-6))


def pose_pieces(samples: int, frames: int, fps: float) -> list[tuple[int, int]]:
    """Samples and frames of each piece of sound; the last lasts up to ten seconds."""
    count = max(1, math.ceil(samples / POSE_PIECE) - 1)
    cuts = [round(i * POSE_PIECE / SPEECH_RATE * fps) for i in range(count)] + [frames]
    lengths = [POSE_PIECE] * (count - 1) + [samples - POSE_PIECE * (count - 1)]
    return [(n, last - first) for n, (first, last) in zip(lengths, pairwise(cuts), strict=True)]


def smoothed(poses: Poses, window: int = SMOOTHED_OVER) -> Poses:
    """Centred moving average, at the ends over the frames that exist."""
    reach, starts = window // 2, range(len(poses))
    return np.stack([poses[max(0, t - reach) : t + reach + 1].mean(0) for t in starts])


def normalised(samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The whole sound with mean 0 and variance 1, float32."""
    samples = np.asarray(samples, np.float32)
    return (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)


def _offsets(net: AudioToMesh, sound: Waveform, part: tuple[int, int], frames: int) -> Tensor:
    """The mesh's offsets for a part of the frames, heard with some sound around it."""
    margin = round(MARGIN * frames * SPEECH_RATE / len(sound))
    first, last = max(0, part[0] - margin), min(frames, part[1] + margin)
    heard = sound[len(sound) * first // frames : len(sound) * last // frames]
    return net(heard, last - first)[part[0] - first : part[1] - first]


@dataclass(frozen=True)
class MetricFace:
    mesh: Mesh  # in head space, cm
    transform: Float[np.ndarray, "4 4"]  # from there to camera space
    size: tuple[int, int]  # (width, height) of the picture, pixels

    def seen(
        self, meshes: Float[np.ndarray, "T 468 3"], poses: Poses, *, as_released: bool = False
    ) -> Float[np.ndarray, "T 468 2"]:
        """Pixels of meshes in head space after the head has moved (see `pose_matrices`).
        `as_released`: with the depth 0.01 % too large, as the original has it."""
        matrices = self.transform @ pose_matrices(poses)
        moved = np.einsum("tij,tvj->tvi", matrices[:, :3, :3], meshes) + matrices[:, None, :3, 3]
        x, y, z = np.moveaxis(moved, -1, 0)
        depth = -z * (RELEASED_DEPTH if as_released else 1)
        width, height = self.size
        across, up = np.float32(FOCAL * height / width), np.float32(FOCAL)
        right = (across * x / depth + 1) * width / 2
        return np.stack([right, (1 - up * y / depth) * height / 2], -1)


def metric_face(
    points: np.ndarray, size: tuple[int, int], canonical: Mesh | None = None,
    weights: Float[np.ndarray, " 468"] | None = None,
) -> MetricFace:  # fmt: skip
    """The detected face (pixels [P, 3]; `size`: width, height) in centimetres, as MediaPipe's face
    geometry has it. `canonical`, `weights`: the neutral face and how much each vertex says of the
    pose, the face model's by default."""
    canonical = mesh.canonical_geometry()[0].astype(np.float64) if canonical is None else canonical
    weights = mesh.rigid_weights() if weights is None else weights
    width, height = size
    unit = 2 / FOCAL / height  # of a plane at depth 1, per pixel
    flat = (points[: mesh.SKIN] - (width / 2, height / 2, 0)) * (unit, -unit, unit)
    depth = flat[:, 2] - flat[:, 2].mean() + 1

    def before_camera(scale: float) -> np.ndarray:
        away = depth / scale
        return np.stack([flat[:, 0] * away, flat[:, 1] * away, -away], 1)

    scale = _similarity(canonical, flat * (1, 1, -1), weights)[0]
    scale *= _similarity(canonical, before_camera(scale), weights)[0]
    target = before_camera(scale)
    transform = _similarity(canonical, target, weights)[1]
    shape = np.linalg.solve(transform[:3, :3], (target - transform[:3, 3]).T).T
    return MetricFace(shape, transform, size)


def pose_matrices(poses: Poses) -> Float[np.ndarray, "T 4 4"]:
    """Rotation about the fixed axes x, y, z in turn (degrees), then the shift in cm."""
    matrices = np.tile(np.eye(4), (len(poses), 1, 1))
    matrices[:, :3, :3] = Rotation.from_euler("xyz", poses[:, :3], degrees=True).as_matrix()
    matrices[:, :3, 3] = poses[:, 3:]
    return matrices


def _similarity(source: Mesh, target: Mesh, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and matrix that lay the source onto the target, weighted least squares."""
    weights = weights / weights.sum()
    a, b = source - weights @ source, target - weights @ target
    turn, _ = Rotation.align_vectors(b, a, weights=weights)
    scale = float(weights @ (b * turn.apply(a)).sum(1) / (weights @ (a**2).sum(1)))
    matrix = np.eye(4)
    matrix[:3, :3] = scale * turn.as_matrix()
    matrix[:3, 3] = weights @ target - matrix[:3, :3] @ (weights @ source)
    return scale, matrix


def spoken_landmarks(
    face: Face, motion: VoiceMotion, fps: float, strengths: Strengths | None = None, seed: int = 0
) -> Marks:
    """A portrait's landmarks under a voice, pixels; frame 0 is the portrait itself. Unlike in the
    original frame t shows what is heard then, not one frame later; the face
    leaves the photographed one within a moment, not at once; and it blinks (by `seed`)."""
    strengths = strengths or Strengths()
    times = np.arange(max(2, math.ceil(motion.seconds * fps))) / fps
    offsets = resampled(motion.offsets, motion.fps, fps, len(times))
    poses = resampled(motion.poses[:, None], motion.fps, fps, len(times))[:, 0]
    reference = metric_face(face.points, face.size)
    lead = np.clip(times / LEAD_IN, 0, 1)[:, None, None]
    meshes = reference.mesh + lead * offsets * region_gain(strengths).numpy()[:, None]
    closed = np.minimum(strengths.eyes * blinks(times, np.random.default_rng(seed)), 1)
    lids = closed[:, None] * [name.startswith("blink") for name in mesh.EXPRESSIONS]
    meshes = mesh.express(torch.from_numpy(meshes), torch.from_numpy(lids)).numpy()
    poses = poses * strengths.pose * np.clip(times / POSE_LEAD_IN, 0, 1)[:, None]
    marks = reference.seen(meshes, poses)[:, list(ANIPORTRAIT_68)]
    marks[0] = face.points[list(ANIPORTRAIT_68), :2]
    return marks
