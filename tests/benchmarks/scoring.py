"""One scene of known motion, and what is measured on any clip that claims to show it."""

from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from mofa_nb.flow.samplers import spread_watershed_points
from mofa_nb.flow.warp import disoccluded
from mofa_nb.media.images import to_uint8
from mofa_nb.models.models import Models
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.sampling.denoise import decode
from mofa_nb.show import flow_to_rgb, longest_vector
from mofa_nb.show.layout import enlarged
from mofa_nb.study.metrics import (
    at_points,
    motion_scores,
    on_outline,
    probe_points,
    psnr,
    track_points,
)

FEW = 40  # pixels: fewer uncovered ones say nothing
MOTION = {  # key: column of the table, digits
    "ratio": ("EPE / still", 2),
    "correlation": ("correlation", 2),
    "lost": ("lost points", 2),
    "drift_median": ("drift px", 2),
    "drift_p90": ("drift p90 px", 2),
}
PICTURE = {
    "psnr": ("PSNR dB", 1),
    "psnr_uncovered": ("where uncovered", 1),
    "psnr_elsewhere": ("elsewhere", 1),
    "first_frame": ("first frame", 1),
    "sharpness": ("sharpness", 2),
    "sharpness_uncovered": ("where uncovered", 2),
}


@dataclass(frozen=True)
class Scene:
    """A true clip with its motion.

    Attributes:
        frames: in [0, 1].
        flow: pixels, frame 0 -> frame t.
        seen: frame-0 pixels still visible in frame t.
        name: for tables and file names.
    """

    frames: Float[Tensor, "T 3 H W"]
    flow: Float[Tensor, "steps 2 H W"]
    seen: Bool[Tensor, "steps 1 H W"]
    name: str
    has_tracks = True  # its motion is given as tracks, too

    @property
    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """The first frame, as `animate` takes it."""
        return to_uint8(self.frames[0])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return tuple(self.frames.shape[-2:])

    def points(self) -> Int[Tensor, "N 2"]:
        """The 16x16 grid without points on an outline or never visible again."""
        points = probe_points(self.size)
        x, y = points.unbind(-1)
        return points[~on_outline(self.flow)[y, x] & self.seen[:, 0, y, x].any(0)]

    def uncovered(self) -> Bool[Tensor, "steps 1 H W"]:
        """Pixels of frame t that show nothing of frame 0."""
        return disoccluded(self.flow, self.seen)

    def free(self) -> Bool[Tensor, "H W"]:
        """Where a track may start: always in sight, and not on an outline."""
        return self.seen[:, 0].all(0) & ~on_outline(self.flow)

    def motion(self, count: int = 8, seed: int = 0) -> Motion:
        """`count` watershed tracks: what a user could have drawn."""
        height, width = self.size
        window = 2 * round(7 * min(self.size) / 384) + 1
        points = spread_watershed_points(
            self.flow, np.random.default_rng(seed), count=count, window=window, allowed=self.free()
        )
        moved = at_points(self.flow, points)  # N steps 2
        paths = torch.cat([points[:, None].float(), points[:, None] + moved], 1)
        return Motion(size=(width, height), tracks=tuple(Track(p) for p in paths.tolist()))

    def asked_for(self) -> list[UInt8[np.ndarray, "h w 3"]]:
        """The motion frame by frame at 3x: the flow's colours, none in the first."""
        colours = flow_to_rgb(self.flow, longest_vector(self.flow))
        return [thrice(flow) for flow in (np.full_like(colours[0], 255), *colours)]


def thrice(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Three times the size, pixels kept as they are."""
    return enlarged(picture, 3 * picture.shape[0])


def sharpness(
    frame: Float[Tensor, "*T 3 H W"],
    truth: Float[Tensor, "*T 3 H W"],
    where: Bool[Tensor, "*T 1 H W"] | None = None,
) -> float:
    """Gradient energy (the mean squared step of brightness between neighbouring pixels, in both
    directions) as a share of the true picture's; NaN where that has none."""

    def energy(picture: Tensor) -> float:
        grey = picture.mean(-3, keepdim=True)
        across = functional.pad(grey.diff(dim=-1), (0, 1))
        down = functional.pad(grey.diff(dim=-2), (0, 0, 0, 1))
        return (across.square() + down.square())[... if where is None else where].mean().item()

    whole = energy(truth)
    return energy(frame) / whole if whole > 0 else nan


def clip_scores(scene: Scene, clip: Float[Tensor, "T 3 H W"]) -> dict[str, float]:
    """Everything measured on one clip; the first frame is left out of PSNR."""
    points = scene.points()
    asked, seen = at_points(scene.flow, points), at_points(scene.seen, points)[..., 0]
    followed = motion_scores(track_points(clip, points), asked, seen)
    return vars(followed) | picture_scores(scene, clip)


def picture_scores(scene: Scene, clip: Float[Tensor, "T 3 H W"]) -> dict[str, float]:
    """How a clip looks beside the true one; the first frame is left out of PSNR."""
    uncovered, made, true = scene.uncovered(), clip[1:], scene.frames[1:]
    enough = int(uncovered[-1].sum()) >= FEW
    last = sharpness(made[-1], true[-1], uncovered[-1]) if enough else nan
    return {
        "psnr": psnr(made, true),
        "psnr_elsewhere": psnr(made, true, ~uncovered),
        "sharpness": sharpness(made[-1], true[-1]),
        "psnr_uncovered": psnr(made, true, uncovered) if enough else nan,
        "sharpness_uncovered": last,
        "first_frame": psnr(clip[0], scene.frames[0]),
    }


def followed(
    clip: Float[Tensor, "T 3 H W"], *flows: Float[Tensor, "steps 2 H W"]
) -> list[dict[str, float]]:
    """How far a clip follows each of several flows, at points that these keep in the picture."""
    size = clip.shape[-2:]
    points = probe_points(tuple(size))
    tracks, found = track_points(clip, points), []
    for flow in flows:
        asked = at_points(flow, points)
        end = points[:, None] + asked
        inside = ((end >= 0) & (end <= torch.tensor([size[1] - 1, size[0] - 1]))).all(-1)
        inside &= ~on_outline(flow)[points[:, 1], points[:, 0]][:, None]
        scores = motion_scores(tracks, asked, inside)
        found.append({"ratio": scores.ratio, "correlation": scores.correlation})
    return found


@torch.no_grad()
def through_vae(models: Models, frames: Float[Tensor, "T 3 H W"]) -> Float[Tensor, "T 3 H W"]:
    """The true clip encoded frame by frame and decoded together: the best any clip can look."""
    vae = models.vae
    latents = torch.cat(
        [
            vae.encode((frame[None].to(models.device) * 2 - 1).to(vae.dtype)).latent_dist.mode()
            for frame in frames
        ]
    ).float()
    parts = decode(models, latents[None] * vae.config.scaling_factor)
    return torch.cat([((part.cpu() + 1) / 2).clamp(0, 1) for part in parts])
