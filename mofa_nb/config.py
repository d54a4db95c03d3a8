"""Sizes and settings as frozen dataclasses; the release and the mini model are two sets of them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mofa_nb import checks
from mofa_nb.checks import InputError, choice, naming, number_between, refuse_unknown, shown

C = TypeVar("C", bound="Config")
# Names that settings had, as in older model folders, cards and calls.
OLDER = {
    "control_scale": "trajectory_scale", "control_span": "trajectory_span",
    "face_scale": "landmark_scale", "face_span": "landmark_span",
}  # fmt: skip
# Settings that there were: how far the photograph itself was carried into a clip, and how a part
# of it was decoded.
GONE = (
    "anchor", "face_anchor", "trajectory_anchor", "landmark_anchor", "anchor_holes", "anchor_sigma",
    "detail", "decode_context",
)  # fmt: skip
# Ranges by how a setting's name ends: between two whole numbers or two others.
RANGES: dict[str, tuple[float, float]] = {
    "num_frames": (2, 10_000), "steps": (1, 1000), "short_side": (0, 2048), "fps": (1.0, 240.0),
    "chunk": (1, 10_000), "scale": (0.0, 100.0), "guidance": (0.0, 100.0),
    "seed": (0, 2**63 - 1), "grid": (8, 1024),
    "bins": (2, 1024), "blocks": (1, 64), "per_block": (1, 64), "layers": (1, 64),
    "image_size": (1, 2048), "scaling_factor": (1e-6, 1e6), "timesteps": (1, 100_000),
}  # fmt: skip
_OTHERS = (-1, 2**20)
_TEXTS = {"estimate": ("mean", "median"), "warp": ("features", "picture")}
_ANY_LENGTH = ("embedder_channels", "landmark_channels")


@dataclass(frozen=True)
class Config:
    """A frozen setting that is stored as a JSON object with exactly its field names."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, like, value = field.name, field.default, getattr(self, field.name)
            if isinstance(like, tuple) != isinstance(value, tuple):
                expected = "a list" if isinstance(like, tuple) else "a single value"
                raise InputError(f"{name} must be {expected}, but {shown(value)} came")
            if isinstance(like, tuple) and name not in _ANY_LENGTH and len(value) != len(like):
                raise InputError(f"{name} must have {len(like)} values, but {shown(value)} came")
            check_value(name, value, like if like != () else 1)

    @classmethod
    def from_dict(cls: type[C], values: dict[str, Any]) -> C:
        """Build from a JSON object; lists become tuples. What does not fit raises InputError."""
        refuse_unknown(values, [field.name for field in dataclasses.fields(cls)], cls.__name__)
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    @classmethod
    def load(cls: type[C], path: str | Path) -> C:
        """Read from a JSON file; InputError names the file and the first thing wrong with it."""
        values = read_object(path)
        with naming(f"{path} cannot be used"):
            return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def read_object(path: str | Path) -> dict[str, Any]:
    """The object that a JSON file holds; a missing or broken file raises InputError."""
    values = checks.read_json(path, "settings file")
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold a JSON object: fetch it again")
    return values


def check_value(name: str, value: object, like: object) -> None:
    """InputError unless `value`, or every value in its lists, is in range and of the kind of
    `like`, a value that may stand there, or a list of such."""
    if isinstance(value, list | tuple):
        for one in value:
            check_value(name, one, like)
        return
    while isinstance(like, list | tuple):
        like = like[0] if like else None
    low, high = next((r for end, r in RANGES.items() if name.endswith(end)), _OTHERS)
    expected = {bool: "true or false", str: "a text"}.get(type(like))
    if isinstance(like, int) and isinstance(low, int):
        expected = expected or "a whole number"
    if expected and type(value) is not type(like):
        raise InputError(f"{name} must be {expected}, but {shown(value)} came")
    if name in _TEXTS:
        choice(value, _TEXTS[name], name)
    if isinstance(like, int | float) and not isinstance(like, bool):
        number_between(value, low, high, name)


@dataclass(frozen=True)
class S2DConfig(Config):
    """Sizes of the sparse-to-dense network (defaults: the released CMP network)."""

    grid: int = 384  # side of the square grid on which it runs, pixels
    bins: int = 99  # of displacements per axis, over [-flow_range, flow_range] pixels of the grid
    flow_range: float = 50.0
    blocks: tuple[int, ...] = (3, 4, 6, 3)  # bottlenecks in each stage of the image encoder
    width: int = 64  # channels of the stem, and of the first stage's bottleneck
    image_channels: int = 256  # of the image's branch at 1/8 resolution
    sparse_channels: int = 16  # of the hints' branch
    branch_channels: int = 128  # of each of the four decoder branches
    fusion_channels: tuple[int, ...] = (256, 128, 64)  # at 1/8, 1/4 and 1/2 resolution
    skip_channels: tuple[int, ...] = (128, 32)  # at 1/4 and 1/2 resolution
    # Of the distribution over bins; at an unsure outline the mean is a motion that nothing has.
    estimate: str = "mean"  # or "median"
    meets_hints: bool = False  # a face's flow is bent to take its landmarks where they are asked


@dataclass(frozen=True)
class AdapterConfig(Config):
    """Sizes of a MOFA-Adapter (defaults: the released trajectory adapter)."""

    in_channels: int = 8
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = (  # as the UNet's
        *["CrossAttnDownBlockSpatioTemporal"] * 3, "DownBlockSpatioTemporal",
    )  # fmt: skip
    layers_per_block: int = 2
    # Per block. The released adapters always use these, whatever their stored config says, while
    # the UNet beside them uses (5, 10, 20, 20).
    num_attention_heads: tuple[int, ...] = (5, 10, 10, 20)
    cross_attention_dim: int = 1024
    addition_time_embed_dim: int = 256
    # Of the first-frame embedder, with a stride-2 step between neighbours.
    embedder_channels: tuple[int, ...] = (16, 32, 96, 256)
    landmark_channels: tuple[int, ...] = ()  # of that of landmarks; a trajectory adapter has none
    # Of a landmark adapter's occlusion nets: three on the way in and the one they end with.
    occlusion_channels: tuple[int, ...] = (128, 256, 512, 64)
    # What is moved: each level's "features" (the release) on its grid, or the first "picture",
    # what moved farther in front, of which features are made.
    warp: str = "features"

    @property
    def downscale(self) -> int:
        """Image pixels per latent cell along one axis."""
        return 2 ** (len(self.embedder_channels) - 1)

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each feature level, finest first."""
        return tuple(self.downscale * 2**k for k in range(len(self.block_out_channels)))


@dataclass(frozen=True)
class Speed:
    """What of a clip's denoising is computed."""

    # Adapters and all of the UNet run in every so manieth step; between, what they left is used by
    # its outermost blocks (arXiv 2312.00858).
    every: int = 1
    guided: tuple[float, float] = (0.0, 1.0)  # the part of the steps with two guidance halves
    steps: float = 1.0  # share of the steps that a model takes by itself
    aligned: bool = False  # few steps are spaced as measured for SVD (arXiv 2404.14507)

    def steps_of(self, own: int) -> int:
        return max(1, round(own * self.steps))

    def guides(self, at: float) -> bool:
        """Whether the step that begins at this fraction of all is guided."""
        return self.guided[0] <= at < self.guided[1]


EXACT = Speed()
SPEEDS = {
    "exact": EXACT,
    "fast": Speed(every=2, guided=(0.2, 0.8), steps=0.6, aligned=True),
    "draft": Speed(every=2, guided=(0.0, 0.0), steps=0.28, aligned=True),
}
WAYS = ("full", "balanced", "low")  # of fitting a clip into a card's memory: `models.memory`


@dataclass(frozen=True)
class Settings(Config):
    """How a model is used unless the caller says otherwise; stored beside its weights."""

    name: str = "release"  # on every card, picture and table
    num_frames: int = 25  # native clip length, first frame included
    short_side: int = 512  # the image's shorter side in pixels after fitting
    face_short_side: int = 0  # the same where a face moves, whose lips need more; 0: alike
    steps: int = 25
    # Of the first and the last frame, linear between; none above 1: no guidance, half the cost.
    guidance: tuple[float, ...] = (1.0, 3.0)
    trajectory_scale: float = 0.6  # factor on each adapter's residuals
    landmark_scale: float = 1.0
    noise_aug: float = 0.02  # deviation of the noise added to the image in [-1, 1] pixels
    time_ids: tuple[float, ...] = (6.0, 128.0, 0.02)  # fps, motion bucket and noise, always given
    fps: int = 20  # of saved clips
    decode_chunk: int = 8  # frames decoded at once
    decode_alone: bool = False  # each frame without its neighbours: less work, a little softer
    window_fade: bool = False  # the windows of a long clip count less towards their ends
    seed: int = 42
    few_step: bool = False  # the UNet was distilled to a consistency model: `sampling.speed`

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Settings":
        """As of any config; older names of settings are read, too, those that are gone left out."""
        left = {name: value for name, value in values.items() if name not in GONE}
        return super().from_dict({OLDER.get(name, name): value for name, value in left.items()})
