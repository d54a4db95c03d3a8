"""Sizes and settings as frozen dataclasses: the only home of numeric constants.

The release and the mini model are two sets of these values; nothing else in the package knows
a model's sizes.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mofa_nb.checks import InputError, number_between, read_json, shown

C = TypeVar("C", bound="Config")
# Names that settings had, as in older model folders, cards and calls.
OLDER = {
    "control_scale": "trajectory_scale",
    "control_span": "trajectory_span",
    "anchor": "trajectory_anchor",
    "face_scale": "landmark_scale",
    "face_span": "landmark_span",
    "face_anchor": "landmark_anchor",
}


# What values may be, by how their names end: between two whole numbers or two others.
_LIMITS: dict[str, tuple[float, float]] = {
    "num_frames": (2, 10_000), "steps": (1, 1000), "short_side": (0, 2048), "fps": (1.0, 240.0),
    "chunk": (1, 10_000), "scale": (0.0, 100.0), "guidance": (0.0, 100.0), "anchor": (0.0, 1.0),
    "detail": (0.0, 1.0), "holes": (0.0, 1.0), "seed": (0, 2**63 - 1), "grid": (8, 1024),
    "bins": (2, 1024), "blocks": (1, 64), "per_block": (1, 64), "layers": (1, 64),
    "image_size": (1, 2048), "scaling_factor": (1e-6, 1e6), "timesteps": (1, 100_000),
}  # fmt: skip
_OTHERS = (-1, 2**20)
_ANY_LENGTH = ("embedder_channels", "landmark_channels", "widths", "depths")


@dataclass(frozen=True)
class Config:
    """A frozen setting that is stored as a JSON object with exactly its field names."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, like, value = field.name, field.default, getattr(self, field.name)
            if isinstance(like, tuple) != isinstance(value, tuple):
                what = "a list" if isinstance(like, tuple) else "a single value"
                raise InputError(f"{name} must be {what}, but {shown(value)} came")
            if isinstance(like, tuple) and name not in _ANY_LENGTH and len(value) != len(like):
                raise InputError(f"{name} must have {len(like)} values, but {shown(value)} came")
            check_value(name, value, like if like != () else 1)

    @classmethod
    def from_dict(cls: type[C], values: dict[str, Any]) -> C:
        """Build from a JSON object; lists become tuples. What does not fit raises InputError."""
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise InputError(f"{cls.__name__} has no setting {unknown}; it has {sorted(names)}")
        frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**frozen)

    @classmethod
    def load(cls: type[C], path: str | Path) -> C:
        """Read from a JSON file; InputError names the file and the first thing wrong with it."""
        values = read_object(path)
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{path} cannot be used: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return dataclasses.asdict(self)


def read_object(path: str | Path) -> dict[str, Any]:
    """The object that a JSON file holds; a missing or broken file raises InputError."""
    values = read_json(path, "settings file")
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold a JSON object: fetch it again")
    return values


def check_value(name: str, value: object, like: object) -> None:
    """InputError unless `value`, or every value in its lists, is of the kind of `like`, in range.

    Args:
        like: a value that may stand there, or a list of such.
    """
    if isinstance(value, list | tuple):
        for one in value:
            check_value(name, one, like)
        return
    while isinstance(like, list | tuple):
        like = like[0] if like else None
    low, high = next((r for end, r in _LIMITS.items() if name.endswith(end)), _OTHERS)
    expected = {bool: "true or false", str: "a text"}.get(type(like))
    if isinstance(like, int) and isinstance(low, int):
        expected = expected or "a whole number"
    if expected and type(value) is not type(like):
        raise InputError(f"{name} must be {expected}, but {shown(value)} came")
    if isinstance(like, int | float) and not isinstance(like, bool):
        number_between(value, low, high, name)


@dataclass(frozen=True)
class S2DConfig(Config):
    """Sizes of the sparse-to-dense network (defaults: the released CMP network).

    Attributes:
        grid: side of the square grid on which it runs, in pixels.
        bins: number of displacement bins per axis.
        flow_range: the bins cover [-flow_range, flow_range] pixels of the grid.
        blocks: bottleneck blocks in each of the four stages of the image encoder.
        width: channels of the stem, and of the first stage's bottleneck.
        image_channels, sparse_channels: channels of the two branches at 1/8 resolution.
        branch_channels: channels of each of the four decoder branches.
        fusion_channels: channels of the fused maps at 1/8, 1/4 and 1/2 resolution.
        skip_channels: channels of the skip connections at 1/4 and 1/2 resolution.
        estimate: "mean" (the release) or "median" of the distribution over bins is the flow. At
            an outline of which the network is unsure the mean is a motion that nothing has.
    """

    grid: int = 384
    bins: int = 99
    flow_range: float = 50.0
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    image_channels: int = 256
    sparse_channels: int = 16
    branch_channels: int = 128
    fusion_channels: tuple[int, ...] = (256, 128, 64)
    skip_channels: tuple[int, ...] = (128, 32)
    estimate: str = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.estimate not in ("mean", "median"):
            raise InputError(f'estimate is "mean" or "median", but {self.estimate!r} came')


@dataclass(frozen=True)
class AdapterConfig(Config):
    """Sizes of a MOFA-Adapter (defaults: the released trajectory adapter).

    Attributes:
        num_attention_heads: heads per block. The released adapters always use (5, 10, 10, 20),
            whatever their stored config says, while the UNet beside them uses (5, 10, 20, 20).
        embedder_channels: widths of the first-frame embedder. It has one stride-2 step between
            neighbours, so its output stands at 1 / 2^(len - 1) of the image: the latent grid.
        landmark_channels: widths of the landmark embedder, empty for a trajectory adapter.
        occlusion_channels: widths of the occlusion nets of a landmark adapter, three on the way
            in and the one they end with.
        residual_gain: factor on all residuals, beside the control scale. A briefly trained adapter
            moves too little; the gain makes a control scale of 1 follow best.
        warp: "features" (the release) moves the first frame's features on each level's own grid,
            where things that meet are averaged; "picture" moves the first frame itself, what moved
            farther in front, and makes features of that: no motion is lost between cells.
    """

    in_channels: int = 8
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    num_attention_heads: tuple[int, ...] = (5, 10, 10, 20)
    cross_attention_dim: int = 1024
    addition_time_embed_dim: int = 256
    embedder_channels: tuple[int, ...] = (16, 32, 96, 256)
    landmark_channels: tuple[int, ...] = ()
    occlusion_channels: tuple[int, ...] = (128, 256, 512, 64)
    residual_gain: float = 1.0
    warp: str = "features"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warp not in ("features", "picture"):
            raise InputError(f'warp is "features" or "picture", but "{self.warp}" came')

    @property
    def downscale(self) -> int:
        """Image pixels per latent cell along one axis."""
        return 2 ** (len(self.embedder_channels) - 1)

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each feature level, finest first."""
        return tuple(self.downscale * 2**k for k in range(len(self.block_out_channels)))


@dataclass(frozen=True)
class CoderConfig(Config):
    """Sizes of a small encoder or decoder.

    Attributes:
        widths: channels per level, the latent grid first, each level twice as fine as the one
            before. An encoder has one level: it folds a picture to the latent grid at once.
        depths: residual blocks per level.
        latent_channels: of the VAE.
        fold: pixels along a side of a cell of the latents.
    """

    widths: tuple[int, ...] = (96, 32, 16)
    depths: tuple[int, ...] = (4, 2, 1)
    latent_channels: int = 8
    fold: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        finest = 2 ** (len(self.widths) - 1)
        if not self.widths or len(self.depths) != len(self.widths) or self.fold % finest:
            raise InputError(
                "widths and depths must have one number for each level of a fold, but "
                f"{shown(self.widths)} and {shown(self.depths)} came for {self.fold}"
            )


@dataclass(frozen=True)
class Speed:
    """What of a clip's denoising is computed.

    Attributes:
        residuals: the adapters run in every so manieth step; between, their residuals stay.
        deep: all of the UNet runs in every so manieth step; between, only its outermost blocks
            do, on the deep features of before (DeepCache, arXiv 2312.00858).
        guided: the steps that are guided as a span, from 0 to 1; elsewhere there is one half.
        steps: share of the steps that a model takes by itself.
        aligned: few steps are spaced as measured for SVD (Align Your Steps, arXiv 2404.14507)
            instead of by the scheduler.
    """

    residuals: int = 1
    deep: int = 1
    guided: tuple[float, float] = (0.0, 1.0)
    steps: float = 1.0
    aligned: bool = False

    def steps_of(self, own: int) -> int:
        """Steps of a model that takes `own` by itself."""
        return max(1, round(own * self.steps))

    def guides(self, at: float) -> bool:
        """Whether the step that begins at this fraction of all is guided."""
        return self.guided[0] <= at < self.guided[1]


EXACT = Speed()
SPEEDS = {
    "exact": EXACT,
    "fast": Speed(residuals=2, deep=2, guided=(0.2, 0.8), steps=0.6, aligned=True),
    "draft": Speed(residuals=2, deep=2, guided=(0.0, 0.0), steps=0.28, aligned=True),
}


WAYS = ("full", "balanced", "low")  # of fitting a clip into a card's memory: `models.memory`


@dataclass(frozen=True)
class Settings(Config):
    """How a model is used unless the caller says otherwise; stored beside its weights.

    Attributes:
        name: the model's name on every card, picture and table.
        num_frames: native clip length, first frame included.
        short_side: the image's shorter side in pixels after fitting.
        face_short_side: the same where a face moves, whose lips and lids need more pixels in a
            small clip; 0 for no difference.
        steps: denoising steps.
        guidance: classifier-free guidance scale of the first and the last frame (linear between).
            A maximum of 1 or less switches guidance off, which halves the cost.
        trajectory_scale, landmark_scale: factor on each adapter's residuals.
        noise_aug: standard deviation of the noise added to the image in [-1, 1] pixels.
        time_ids: the added ids (fps, motion bucket, noise) the network is always given.
        fps: frames per second of saved clips.
        decode_chunk: frames decoded at once.
        decode_context: of these on either side, to be thrown away; the release has none, so that
            its decoder starts anew with every chunk.
        window_fade: whether the windows of a long clip count less towards their ends.
        trajectory_anchor, landmark_anchor: how far the photograph, splatted along the flow of
            tracks or of a face, replaces the estimate; see `mofa_nb.sampling.anchor`. The release
            does not: 0.
        detail: share of a clip's finest detail that is the photograph's, carried along the flow,
            as far as tracks and face are anchored as much as here; see `mofa_nb.sampling.detail`.
        anchor_holes: the part of `trajectory_anchor` in what tracks uncover, inpainted from around
            it.
        anchor_sigma: it does so in steps that start from more noise than this.
        few_step: the UNet was distilled to a consistency model; see `sampling.speed`.
    """

    name: str = "release"
    num_frames: int = 25
    short_side: int = 512
    face_short_side: int = 0
    steps: int = 25
    guidance: tuple[float, ...] = (1.0, 3.0)
    trajectory_scale: float = 0.6
    landmark_scale: float = 1.0
    noise_aug: float = 0.02
    time_ids: tuple[float, ...] = (6.0, 128.0, 0.02)
    fps: int = 20
    decode_chunk: int = 8
    decode_context: int = 0
    window_fade: bool = False
    trajectory_anchor: float = 0.0
    landmark_anchor: float = 0.0
    detail: float = 0.0
    anchor_holes: float = 0.0
    anchor_sigma: float = 1.0
    seed: int = 42
    few_step: bool = False

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Settings":
        """As of any config; older names of settings are read, too."""
        return super().from_dict({OLDER.get(name, name): value for name, value in values.items()})
