"""Sparse-to-dense motion generation (S2D; paper section 3.2): image + sparse hints -> dense flow.

The network is CMP (conditional motion propagation): at every pixel it predicts a distribution over
displacement bins for each axis; its mean, or the median, is the flow."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mofa_nb.config import S2DConfig

HintFlow, HintMask = Float[Tensor, "N 2 H W"], Float[Tensor, "N 1 H W"]


class ImageFeatures(NamedTuple):
    """What S2D knows about the image alone: computed once per image, whatever the hints."""

    deep: Float[Tensor, "B Cd H/8 W/8"]
    quarter: Float[Tensor, "B Cq H/4 W/4"]
    half: Float[Tensor, "B Ch H/2 W/2"]


class S2D(nn.Module):
    """The sparse-to-dense network; sizes come from its config alone."""

    def __init__(self, config: S2DConfig):
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.flow_encoder = SparseEncoder(config.sparse_channels)
        self.flow_decoder = Decoder(config)

    def image_features(self, image: Float[Tensor, "B 3 H W"]) -> ImageFeatures:
        """Encode an image in [0, 1] on the S2D grid."""
        return self.image_encoder(image * 2 - 1)

    def logits(
        self, features: ImageFeatures, flow: HintFlow, mask: HintMask
    ) -> Float[Tensor, "N bins_x_and_y H/2 W/2"]:
        """Bin scores for N hint fields on one image, or on N: flow in pixels of the grid, zero
        where there is no hint; the mask says how many a pixel has (normally 0 or 1)."""
        return self.flow_decoder.head(self.last_features(features, flow, mask))

    def last_features(
        self, features: ImageFeatures, flow: HintFlow, mask: HintMask
    ) -> Float[Tensor, "N C H/2 W/2"]:
        """What `flow_decoder.head` turns into bin scores, each pixel by itself."""
        sparse = self.flow_encoder(torch.cat([flow, mask, mask], dim=1))
        shared = ImageFeatures(*(f.expand(len(flow), *f.shape[1:]) for f in features))
        return self.flow_decoder(shared, sparse)

    def bin_centres(self, like: Tensor) -> Float[Tensor, " bins"]:
        """Displacement of each bin in pixels of the grid; flow saturates at the outermost two."""
        bins, extent = self.config.bins, self.config.flow_range
        index = torch.arange(bins, device=like.device, dtype=like.dtype)
        return -extent + (index + 0.5) * (2 * extent / bins)

    def probabilities(self, logits: Float[Tensor, "N C h w"]) -> Float[Tensor, "N 2 bins h w"]:
        """The predicted distribution over bins for x (0) and y (1)."""
        return logits.unflatten(1, (2, self.config.bins)).softmax(dim=2)

    def decode(self, logits: Float[Tensor, "N channels h w"]) -> Float[Tensor, "N 2 h w"]:
        """The config's estimate of the flow, in pixels of the grid."""
        return {"mean": self.mean, "median": self.median}[self.config.estimate](logits)

    def mean(self, logits: Float[Tensor, "N channels h w"]) -> Float[Tensor, "N 2 h w"]:
        """Mean of the distribution, in pixels of the grid."""
        centres = self.bin_centres(logits).view(-1, 1, 1)
        # S2D's expectation (paper section 3.2): flow = sum over bins of p_k c_k, along x and y.
        return (self.probabilities(logits) * centres).sum(dim=2)

    def median(self, logits: Float[Tensor, "N channels h w"]) -> Float[Tensor, "N 2 h w"]:
        """Where half of the probability lies below, in pixels of the grid; even within a bin."""
        bins, extent = self.config.bins, self.config.flow_range
        probability = self.probabilities(logits)
        below = probability.cumsum(dim=2)
        middle = (below < 0.5).sum(dim=2, keepdim=True).clamp(max=bins - 1)
        own, up_to = (value.gather(2, middle) for value in (probability, below))
        place = middle + 1 - ((up_to - 0.5) / own.clamp(min=1e-6)).clamp(0, 1)
        return (place * (2 * extent / bins) - extent).squeeze(2)

    def forward(self, features: ImageFeatures, flow: HintFlow, mask: HintMask) -> HintFlow:
        """Dense flow at the full resolution of the grid, in pixels of the grid."""
        half = self.decode(self.logits(features, flow, mask))
        return F.interpolate(half, size=flow.shape[-2:], mode="bilinear", align_corners=True)


class ImageEncoder(nn.Module):
    """Dilated bottleneck ResNet whose last three stages all stand at 1/8 resolution."""

    def __init__(self, config: S2DConfig):
        super().__init__()
        width = config.width
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages = zip(config.blocks, (1, 2, 1, 1), (1, 1, 2, 4), strict=True)
        channels = width
        for k, (blocks, stride, dilation) in enumerate(stages):
            inner = width * 2**k
            layers = [Bottleneck(channels, inner, stride, dilation)]
            channels = inner * Bottleneck.expansion
            layers += [Bottleneck(channels, inner, 1, dilation) for _ in range(blocks - 1)]
            setattr(self, f"layer{k + 1}", nn.Sequential(*layers))
        self.conv5 = nn.Conv2d(channels, config.image_channels, 1)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> ImageFeatures:
        half = F.relu(self.bn1(self.conv1(image)))
        quarter = self.layer1(F.max_pool2d(half, 3, stride=2, padding=1))
        deep = self.layer4(self.layer3(self.layer2(quarter)))
        return ImageFeatures(self.conv5(deep), quarter, half)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut; the stride sits in the 3x3 convolution."""

    expansion = 4

    def __init__(self, channels: int, inner: int, stride: int, dilation: int):
        super().__init__()
        outer = inner * self.expansion
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outer, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outer)
        self.downsample = None
        if stride != 1 or channels != outer:
            shortcut = nn.Conv2d(channels, outer, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outer))

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        features = F.relu(self.bn1(self.conv1(features)))
        features = F.relu(self.bn2(self.conv2(features)))
        return F.relu(self.bn3(self.conv3(features)) + shortcut)


class SparseEncoder(nn.Module):
    """Hints (flow and the mask twice) -> features at 1/8 resolution."""

    def __init__(self, channels: int):
        super().__init__()
        first = nn.Conv2d(4, channels, 5, stride=2, padding=2), nn.BatchNorm2d(channels), nn.ReLU()
        second = _conv(channels, channels)
        self.features = nn.Sequential(*first, nn.MaxPool2d(2), *second, nn.AvgPool2d(2))

    def forward(self, hints: Float[Tensor, "N 4 H W"]) -> Float[Tensor, "N C H/8 W/8"]:
        return self.features(hints)


class Decoder(nn.Module):
    """Four branches at 1/8 to 1/64, fused and refined to 1/2 with the image's skip features.
    `forward` ends before the last layer, `head`, which scores bins."""

    pools = (1, 2, 4, 8)

    def __init__(self, config: S2DConfig):
        super().__init__()
        channels = config.image_channels + config.sparse_channels
        branch = config.branch_channels
        for pool in self.pools:
            shrink = [nn.MaxPool2d(pool)] if pool > 1 else []
            layers = [*_conv(channels, branch), *_conv(branch, branch), *_conv(branch, branch)]
            setattr(self, f"decoder{pool}", nn.Sequential(*shrink, *layers))
        eighth, quarter, half = config.fusion_channels
        skip4, skip2 = config.skip_channels
        self.fusion8 = nn.Sequential(*_conv(branch * len(self.pools), eighth))
        self.skipconv4 = nn.Sequential(*_conv(config.width * Bottleneck.expansion, skip4))
        self.fusion4 = nn.Sequential(*_conv(eighth + skip4, quarter))
        self.skipconv2 = nn.Sequential(*_conv(config.width, skip2))
        self.fusion2 = nn.Sequential(*_conv(quarter + skip2, half))
        self.head = nn.Conv2d(half, 2 * config.bins, 1)

    def forward(
        self, image: ImageFeatures, sparse: Float[Tensor, "N C h w"]
    ) -> Float[Tensor, "N C 4*h 4*w"]:
        joint = torch.cat([image.deep, sparse], dim=1)
        branches = [_resize(getattr(self, f"decoder{p}")(joint), sparse) for p in self.pools]
        fused = self.fusion8(torch.cat(branches, dim=1))
        fused = torch.cat([_resize(fused, image.quarter), self.skipconv4(image.quarter)], dim=1)
        fused = self.fusion4(fused)
        fused = torch.cat([_resize(fused, image.half), self.skipconv2(image.half)], dim=1)
        return self.fusion2(fused)


def _conv(channels: int, out_channels: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out_channels, 3, padding=1)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]


def _resize(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=True)
