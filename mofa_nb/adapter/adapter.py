"""The MOFA-Adapter (paper section 3.1): first frame + dense flow -> residuals for the frozen SVD.

`conditioning` is everything that depends on image and flow alone, once per video; `forward` the
encoder copy that runs in every denoising step."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_3d_blocks import UNetMidBlockSpatioTemporal, get_down_block
from jaxtyping import Float
from torch import Tensor, nn

from mofa_nb.adapter.blocks import streamline
from mofa_nb.adapter.unet import Residuals, encode, feature_count, time_embedding
from mofa_nb.config import AdapterConfig
from mofa_nb.flow.resize import flow_pyramid
from mofa_nb.flow.warp import forward_warped, ordered_splat

Image = Float[Tensor, "B 3 H W"]
Flows = Float[Tensor, "B steps 2 H W"]  # image pixels, frame 0 -> t
PicturesOf = Callable[[Sequence[int]], Tensor]  # frame numbers -> a picture of each


@dataclass(frozen=True)
class Reference:
    """What an adapter keeps of a whole video, however long; windows of it are made on demand."""

    features: tuple[Tensor, ...]  # of the first frame, per level, finest first: [B, C, h, w]
    flow: Flows  # on any device
    landmarks: PicturesOf | None = None  # [B, T, 3, H, W]
    # The first frame moved, in [-1, 1], [B, T-1, 3, H, W]; None where its features are moved.
    pictures: PicturesOf | None = None
    # What is in front where several things land (`flow.warp`); None: they are averaged.
    order: Float[Tensor, "B 1 H W"] | None = None


@dataclass(frozen=True)
class Conditioning:
    """Everything an adapter knows about the frames it is run on, computed once."""

    flow: Flows
    features: tuple[Tensor, ...]  # of the first frame, per level, finest first: [B, C, h, w]
    warped: tuple[Tensor, ...]  # in every frame, unwarped in slot 0: [B, T, C, h, w]
    landmarks: Tensor | None = None  # embedded, [B, T, C, h, w] at the finest level
    # Per level the mask [B, T-1, 1, h, w] that keeps warped features where it is 1; empty for an
    # adapter without occlusion nets.
    occlusion: tuple[Tensor, ...] = ()


class Adapter(nn.Module):
    """A MOFA-Adapter for dense flow, and with `landmark_channels` for facial landmarks too."""

    def __init__(self, config: AdapterConfig):
        super().__init__()
        self.config = config
        channels, time_dim = config.block_out_channels, config.addition_time_embed_dim
        first, last = channels[0], channels[-1]
        self.conv_in = nn.Conv2d(config.in_channels, first, 3, padding=1)
        self.time_proj = Timesteps(first, True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(first, first * 4)
        self.add_time_proj = Timesteps(time_dim, True, 0)
        self.add_embedding = TimestepEmbedding(3 * time_dim, first * 4)
        self.down_blocks = nn.ModuleList(_down_blocks(config))
        self.mid_block = UNetMidBlockSpatioTemporal(
            last, temb_channels=first * 4, cross_attention_dim=config.cross_attention_dim,
            num_attention_heads=config.num_attention_heads[-1],
        )  # fmt: skip
        widths = [first]  # channels of each encoder feature
        for block, width in zip(self.down_blocks, channels, strict=True):
            widths += [width] * feature_count(block)
        self.controlnet_down_blocks = nn.ModuleList(_zero_conv(width) for width in widths)
        self.controlnet_mid_block = _zero_conv(last)
        self.controlnet_cond_embedding = Embedder(config.embedder_channels, first)
        self.flow_encoder = FeaturePyramid(channels, emit_convs=not config.landmark_channels)
        if config.landmark_channels:
            self.controlnet_ldmk_embedding = Embedder(config.landmark_channels, first)
            widths, hidden = (first, *channels[:-1]), config.occlusion_channels
            levels = dict(zip(map(str, config.strides), widths, strict=True))
            self.occlusions = nn.ModuleDict({s: OcclusionNet(c, hidden) for s, c in levels.items()})
            self.zero_outs = nn.ModuleDict({s: _zero_conv(c) for s, c in levels.items()})
        streamline(self)

    def conditioning(
        self, image: Image, flow: Flows, landmarks: Float[Tensor, "B T 3 H W"] | None = None
    ) -> Conditioning:
        """Everything of a whole clip: first frame in [-1, 1], flow in pixels, landmark images in
        [0, 1], for a landmark adapter only (ValueError)."""
        reference = self.reference(image, flow, landmarks)
        return self.window(reference, range(flow.shape[1] + 1))

    def reference(
        self, image: Image, flow: Flows,
        landmarks: Float[Tensor, "B T 3 H W"] | PicturesOf | None = None,
        pictures: PicturesOf | None = None, order: Float[Tensor, "B 1 H W"] | None = None,
    ) -> Reference:  # fmt: skip
        """The part of `conditioning` that is done once for a clip of any length.

        Landmarks are drawn images, or what draws those of some frames when they are needed.
        `pictures` moves the first frame, where that is done, in place of `forward_warped`."""
        if (landmarks is None) == bool(self.config.landmark_channels):
            raise ValueError("a landmark adapter needs landmark images, any other takes none")
        fine, draw = self.controlnet_cond_embedding(image), landmarks
        if isinstance(landmarks, Tensor):
            draw = lambda frames: landmarks[:, frames]  # noqa: E731
        move = pictures or partial(moved_pictures, image, flow, order=order)
        move = move if self.config.warp == "picture" else None
        return Reference((fine, *self.flow_encoder(fine)), flow, draw, move, order)

    def window(
        self, reference: Reference, frames: Sequence[int], part: Callable = lambda whole: whole
    ) -> Conditioning:
        """Warp (and fill) the features for some frames of a clip; frames[0] is its frame 0. In
        training, `part` cuts a part out of each warped map, of which all the rest is made."""
        frames, fine = list(frames), reference.features[0]
        flow = reference.flow[:, [f - 1 for f in frames[1:]]].to(fine.device)
        warped, masks = [], []
        flows = flow_pyramid(flow, self.config.strides)
        # Warping per scale (paper section 3.1): F_s moved by the flow in cells of that scale.
        levels = reference.features, flows, self._moved(reference, frames[1:], flows)
        for stride, *level in zip(self.config.strides, *levels, strict=True):
            still, level_flow, moved = map(part, level)
            if self.config.landmark_channels:
                moved, mask = self._filled(still, level_flow, moved, str(stride))
                masks.append(mask)
            warped.append(torch.cat([still[:, None], moved], dim=1))
        marks = None
        if reference.landmarks is not None:
            images = part(reference.landmarks(frames).to(fine)).unbind(1)
            marks = torch.stack([self.controlnet_ldmk_embedding(i) for i in images], dim=1)
        return Conditioning(flow, reference.features, tuple(warped), marks, tuple(masks))

    def _moved(
        self, reference: Reference, frames: Sequence[int], flows: Sequence[Tensor]
    ) -> Iterator[Float[Tensor, "B steps C h w"]]:
        """Per level, the first frame's features moved, or the features of the moved first frame."""
        if reference.pictures is None:
            levels = zip(self.config.strides, reference.features, flows, strict=True)
            for stride, level, flow in levels:
                yield ordered_splat(flow, reference.order, stride).apply(level)
            return
        pictures = reference.pictures(frames).to(reference.features[0])
        fine = self.controlnet_cond_embedding(pictures.flatten(0, 1))
        for level in (fine, *self.flow_encoder(fine)):
            yield level.unflatten(0, pictures.shape[:2])

    def _filled(
        self, still: Tensor, flow: Tensor, moved: Tensor, stride: str
    ) -> tuple[Tensor, Tensor]:
        """What the occlusion net of a level makes of warped features [B, T-1, C, h, w]."""
        maps, size = (still[:, None].expand_as(moved), flow.to(still.dtype), moved), moved.shape[:2]
        filled, mask = self.occlusions[stride](*(each.flatten(0, 1) for each in maps))
        return self.zero_outs[stride](filled).unflatten(0, size), mask.unflatten(0, size)

    def forward(
        self, sample: Float[Tensor, "B T C h w"],
        timestep: Float[Tensor, ""] | Float[Tensor, " B"],
        encoder_hidden_states: Float[Tensor, "B 1 D"], added_time_ids: Float[Tensor, "B 3"],
        conditioning: Conditioning, scale: float = 1.0,
    ) -> Residuals:  # fmt: skip
        """Residuals for the UNet's encoder features, times `scale`. A conditioning of batch 1
        serves every half of a guidance batch.

        The coarsest warped feature enters three times (after the last two down blocks and again
        before the middle block), as in the released network."""
        batch, frames = sample.shape[:2]
        emb = time_embedding(self, sample, timestep, added_time_ids)
        context = encoder_hidden_states.repeat_interleave(frames, dim=0)
        image_only = sample.new_zeros(batch, frames)
        fine, *coarser = (_flat(w, batch, sample.dtype) for w in conditioning.warped)
        hidden = self.conv_in(sample.flatten(0, 1)) + fine
        after = [*coarser, coarser[-1]]
        if conditioning.landmarks is not None:
            marks = _flat(conditioning.landmarks, batch, sample.dtype)
            hidden = hidden + marks
            after = self._add_landmarks(after, marks)
        hidden, features = encode(self, hidden, emb, context, image_only, after)
        hidden = self.mid_block(hidden + coarser[-1], emb, context, image_only)
        down = (
            conv(f) * scale for conv, f in zip(self.controlnet_down_blocks, features, strict=True)
        )
        return Residuals(tuple(down), self.controlnet_mid_block(hidden) * scale)

    def _add_landmarks(self, after: list[Tensor], marks: Tensor) -> list[Tensor]:
        """Nearest-downscaled landmark features join where the width fits the finest level's: with
        the released widths, after the first block only."""
        joined, widths = [], self.config.block_out_channels
        for width, addition in zip(widths, after, strict=True):
            marks = F.interpolate(marks, size=addition.shape[-2:], mode="nearest")
            joined.append(addition + marks if width == widths[0] else addition)
        return joined


def moved_pictures(
    image: Image, flow: Flows, frames: Sequence[int],
    order: Float[Tensor, "B 1 H W"] | None = None,
) -> Float[Tensor, "B T 3 H W"]:  # fmt: skip
    """First frames in [-1, 1] where their flow takes them in some frames (`forward_warped`)."""
    flow = flow[:, [f - 1 for f in frames]].to(image.device)
    orders = [None] * len(image) if order is None else order
    each = zip(image.float(), flow, orders, strict=True)
    return torch.stack([forward_warped(one[None], steps[None], o) for one, steps, o in each])


class Embedder(nn.Module):
    """Image [B, 3, H, W] -> features on the latent grid; SiLU after every conv but the last."""

    def __init__(self, widths: Sequence[int], out_channels: int):
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in itertools.pairwise(widths):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, stride=2, padding=1))
        self.conv_out = _zero_conv(widths[-1], out_channels, 3)

    def forward(self, image: Image) -> Float[Tensor, "B C h w"]:
        hidden = F.silu(self.conv_in(image))
        for conv in self.blocks:
            hidden = F.silu(conv(hidden))
        return self.conv_out(hidden)


class FeaturePyramid(nn.Module):
    """The first frame's features at the three coarser levels; with `emit_convs` after a 1x1
    convolution, before which the next level is computed (as in the release)."""

    def __init__(self, channels: Sequence[int], emit_convs: bool):
        super().__init__()
        pairs = list(itertools.pairwise((channels[0], *channels[:-1])))
        self.encoders = nn.ModuleList(_conv(a, b, "conv_in", stride=2) for a, b in pairs)
        if emit_convs:
            self.zeroconvs = nn.ModuleList(_zero_conv(b) for _, b in pairs)

    def forward(self, hidden: Float[Tensor, "B C h w"]) -> list[Tensor]:
        levels = []
        for k, encoder in enumerate(self.encoders):
            hidden = F.silu(encoder.conv_in(hidden))
            levels.append(self.zeroconvs[k](hidden) if hasattr(self, "zeroconvs") else hidden)
        return levels


class OcclusionNet(nn.Module):
    """Still feature [N, C, h, w], flow and warped feature -> warped * mask + fill * (1 - mask), and
    the mask [N, 1, h, w] in [0, 1]."""

    def __init__(self, channels: int, hidden: Sequence[int]):
        super().__init__()
        self.hourglass = _Hourglass(2 * channels + 2, hidden)
        self.matting_mask = nn.Conv2d(hidden[-1], 1, 7, padding=3)
        self.matting = nn.Conv2d(hidden[-1], channels, 7, padding=3)

    def forward(self, still: Tensor, flow: Tensor, warped: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hourglass(torch.cat([still, flow, warped], dim=1))
        mask = self.matting_mask(hidden).sigmoid()
        return warped * mask + self.matting(hidden) * (1 - mask), mask


class _Hourglass(nn.Module):
    """Three convolutions down and three up in width; resolution never changes."""

    def __init__(self, channels: int, hidden: Sequence[int]):
        super().__init__()
        a, b, c, out = hidden
        down, up = ((channels, a), (a, b), (b, c)), ((c, b), (2 * b, a), (2 * a, out))
        self.encoder = nn.ModuleDict({"down_blocks": nn.ModuleList(_conv(*pair) for pair in down)})
        self.decoder = nn.ModuleDict({"up_blocks": nn.ModuleList(_conv(*pair) for pair in up)})

    def forward(self, features: Tensor) -> Tensor:
        skips = []
        for block in self.encoder.down_blocks:
            features = F.relu(block.conv(features))
            skips.append(features)
        skips.pop()
        for block in self.decoder.up_blocks:
            features = F.relu(block.conv(features))
            features = torch.cat([skips.pop(), features], dim=1) if skips else features
        return features


def _conv(channels: int, out_channels: int, name: str = "conv", stride: int = 1) -> nn.ModuleDict:
    """A 3x3 convolution by the name that checkpoints give it inside its block."""
    return nn.ModuleDict({name: nn.Conv2d(channels, out_channels, 3, stride, padding=1)})


def _down_blocks(config: AdapterConfig) -> list[nn.Module]:
    channels, last = config.block_out_channels, len(config.block_out_channels) - 1
    return [
        get_down_block(
            config.down_block_types[k], num_layers=config.layers_per_block,
            in_channels=channels[max(k - 1, 0)], out_channels=channels[k],
            temb_channels=channels[0] * 4, add_downsample=k != last, resnet_eps=1e-5,
            resnet_act_fn="silu", transformer_layers_per_block=1,
            num_attention_heads=config.num_attention_heads[k],
            cross_attention_dim=config.cross_attention_dim,
        )
        for k in range(len(channels))
    ]  # fmt: skip


def _flat(levels: Float[Tensor, "B T C h w"], batch: int, dtype: torch.dtype) -> Tensor:
    """[B or 1, T, C, h, w] -> [batch * T, C, h, w]."""
    return levels.expand(batch, *levels.shape[1:]).flatten(0, 1).to(dtype)


def _zero_conv(channels: int, out_channels: int | None = None, side: int = 1) -> nn.Conv2d:
    """Zero-initialised, so that an untrained adapter changes nothing."""
    conv = nn.Conv2d(channels, out_channels or channels, side, padding=side // 2)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv
