"""A model and a picture, kept ready: dense flow, warp previews and clips for any motion on it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.checks import InputError, number_between, whole_number
from mofa_nb.denoise import (
    Control,
    Step,
    Trace,
    decode,
    denoise_steps,
    encode_start,
    initial_noise,
    to_pixels,
)
from mofa_nb.dense import dense_flow, grid_features
from mofa_nb.images import Fit, fit_image, fit_motion, read_image
from mofa_nb.models import Models, load_models
from mofa_nb.motion import Motion
from mofa_nb.outputs import Clip
from mofa_nb.sparse import BrushedHints, motion_hints
from mofa_nb.splat import splat_plan


@dataclass(frozen=True)
class ClipStep:
    """Progress of one clip.

    Attributes:
        index, total: denoising steps done and to do.
        preview: the clean frames as predicted now, when asked for.
        clip: the finished clip, on the last one only.
    """

    index: int
    total: int
    preview: UInt8[np.ndarray, "T H W 3"] | None = None
    clip: Clip | None = None


class Session:
    """Holds a loaded model and one fitted picture.

    Args:
        model: "mini", "release", a model folder, or loaded `Models`. Loaded at first use.
        device: where to load it; a GPU if there is one by default.
    """

    def __init__(self, model: str | Path | Models = "mini", device: str | None = None):
        self._model, self._device = model, device
        self._models = model if isinstance(model, Models) else None
        self.image, self.fit, self.seconds = None, None, {}
        self._features = None

    @property
    def models(self) -> Models:
        """The loaded model."""
        if self._models is None:
            with self._timed("load"):
                self._models = load_models(self._model, self._device)
        return self._models

    @property
    def name(self) -> str:
        """The model's name."""
        return self.models.name

    @property
    def num_frames(self) -> int:
        """Native clip length."""
        return self.models.settings.num_frames

    @property
    def defaults(self) -> dict:
        """Settings used when nothing else is said, and the grid of image sizes."""
        settings = self.models.settings
        names = ("steps", "control_scale", "fps", "seed", "short_side", "num_frames")
        values = {name: getattr(settings, name) for name in names}
        return values | {"multiple": self.models.multiple}

    def set_image(
        self, image: object, short_side: int | None = None, size: tuple[int, int] | None = None
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Fit a picture to the model's grid and encode it for S2D; returns the fitted pixels.

        Args:
            image: anything `read_image` takes.
            short_side: the shorter side after scaling; the model's own by default.
            size: (width, height) instead.
        """
        short = short_side or self.models.settings.short_side
        pixels = read_image(image)
        self.image, self.fit = fit_image(pixels, self.models.multiple, short_side=short, size=size)
        with self._timed("image"):
            self._features = grid_features(self.models.s2d, self._unit()[0])
        return self.image

    def hints(self, motion: Motion, num_frames: int | None = None) -> BrushedHints:
        """The motion's hints on the S2D grid."""
        fitted, _ = fit_motion(motion, self._fit())
        grid = (self.models.s2d.config.grid,) * 2
        return motion_hints(fitted, grid, num_frames or self.num_frames)

    def dense_flow(
        self, motion: Motion, num_frames: int | None = None
    ) -> Float[Tensor, "steps 2 H W"]:
        """Dense flow for the motion, in pixels of the fitted image (fast: features are kept)."""
        hints = self.hints(motion, num_frames)
        size = self.image.shape[:2]
        return dense_flow(self.models.s2d, self._features, hints, size).cpu()

    def warp_preview(self, flow: Float[Tensor, "steps 2 H W"]) -> UInt8[np.ndarray, "T H W 3"]:
        """The picture splatted along the flow, holes filled with the still picture, dimmed."""
        still = self._unit("cpu")
        plan = splat_plan(flow[None].cpu())
        covered = plan.coverage()[0].clamp(0, 1)
        moved = plan.apply(still)[0] + (1 - covered) * 0.35 * still
        frames = torch.cat([still, moved])
        return (frames.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()

    def animate_steps(
        self,
        motion: Motion,
        *,
        steps: int | None = None,
        seed: int | None = None,
        control_scale: float | None = None,
        num_frames: int | None = None,
        fps: int | None = None,
        guidance: tuple[float, float] | None = None,
        flow: Float[Tensor, "steps 2 H W"] | None = None,
        preview_every: int = 0,
        trace: Trace | None = None,
    ) -> Iterator[ClipStep]:
        """Make a clip step by step; the last `ClipStep` carries it. Stop iterating to cancel.

        Args:
            flow: dense flow that replaces what S2D would make of the motion.
            preview_every: steps between previews, 0 for none.
            trace: see `denoise_steps`.
        Raises:
            InputError: a setting out of range, or more frames than the model's native length.
        """
        chosen = self._settings(
            steps=steps, seed=seed, control_scale=control_scale, num_frames=num_frames, fps=fps
        )
        chosen["guidance"] = list(guidance or self.models.settings.guidance)
        self.seconds = {k: v for k, v in self.seconds.items() if k in ("load", "image")}
        chosen["saturated"] = flow is None and self._exceeds_range(motion, chosen["num_frames"])
        if flow is None:
            with self._timed("flow"):
                flow = self.dense_flow(motion, chosen["num_frames"])
        controls, start, noise = self._prepare(motion, flow, chosen, trace)
        clock, step = time.monotonic(), None
        for step in denoise_steps(
            self.models, start, controls, noise,
            steps=chosen["steps"], guidance=tuple(chosen["guidance"]), trace=trace,
        ):  # fmt: skip
            if step.index < step.total:
                yield ClipStep(step.index, step.total, self._preview(step, preview_every))
        self.seconds["denoise"] = time.monotonic() - clock
        with self._timed("decode"):
            frames = self._frames(step.latents)
        clip = self._clip(frames, flow, motion, chosen)
        yield ClipStep(step.total, step.total, frames if preview_every else None, clip)

    def _exceeds_range(self, motion: Motion, num_frames: int) -> bool:
        """Whether a hint asks for more than the network's farthest bin."""
        hints = self.hints(motion, num_frames)
        parts = [part for part in (hints.outside, hints.inside) if part is not None]
        farthest = max(float(part.flow.abs().max()) for part in parts)
        return farthest > float(self.models.s2d.bin_centres(parts[0].flow)[-1])

    def _prepare(self, motion: Motion, flow: Tensor, chosen: dict, trace: Trace | None):
        models, size = self.models, self.image.shape[:2]
        generator = torch.Generator().manual_seed(chosen["seed"])
        with self._timed("condition"), torch.no_grad():
            image_noise, noise = initial_noise(models, size, chosen["num_frames"], generator)
            start = encode_start(models, self._unit(), image_noise)
            adapter = models.adapter("trajectory")
            image = start.image.to(next(adapter.parameters()).dtype)
            known = adapter.conditioning(image, flow[None].to(models.device))
        if trace is not None:
            trace("start", start)
            trace("conditioning", known)
        free = motion.is_empty and not bool(flow.any())
        controls = [] if free else [Control(adapter, known, chosen["control_scale"])]
        return controls, start, noise

    def _settings(self, **given) -> dict:
        settings = self.models.settings
        chosen = {
            key: getattr(settings, key) if value is None else value for key, value in given.items()
        }
        limits = {
            "steps": (1, 1000), "seed": (0, 2**63 - 1), "num_frames": (2, 10_000), "fps": (1, 240)
        }  # fmt: skip
        for key, (low, high) in limits.items():
            chosen[key] = whole_number(chosen[key], low, high, key)
        chosen["control_scale"] = number_between(chosen["control_scale"], 0, 100, "control_scale")
        if chosen["num_frames"] > settings.num_frames:
            raise InputError(
                f"the {self.name} model makes at most {settings.num_frames} frames, but "
                f"{chosen['num_frames']} were asked for: ask for fewer"
            )
        return chosen

    def _clip(self, frames: np.ndarray, flow: Tensor, motion: Motion, chosen: dict) -> Clip:
        fit, notes = self._fit(), list(self._fit().notes)
        notes += fit_motion(motion, fit)[1]
        if motion.is_empty and not bool(flow.any()):
            notes.append("the motion is empty, so the clip runs free")
        if chosen.pop("saturated"):
            config = self.models.s2d.config
            notes.append(
                f"a displacement exceeds S2D's range of {config.flow_range:g} pixels on its "
                f"{config.grid} pixel grid and is cut off there: draw a shorter path"
            )
        height, width = self.image.shape[:2]
        return Clip(
            frames, flow.cpu(), self.image, motion, chosen | {"size": [width, height]},
            dict(self.seconds), self.name, self.models.hash, fit, tuple(notes),
        )  # fmt: skip

    def _preview(self, step: Step, every: int) -> UInt8[np.ndarray, "T H W 3"] | None:
        return self._frames(step.denoised) if every and step.index % every == 0 else None

    def _frames(self, latents: Tensor) -> UInt8[np.ndarray, "T H W 3"]:
        parts = [to_pixels(part) for part in decode(self.models, latents)]
        return torch.cat(parts).numpy()

    def _unit(self, device: str | torch.device | None = None) -> Float[Tensor, "1 3 H W"]:
        self._fit()
        pixels = torch.from_numpy(self.image).permute(2, 0, 1)[None].float() / 255
        return pixels.to(device or self.models.device)

    def _fit(self) -> Fit:
        if self.fit is None:
            raise InputError("no picture yet: call set_image first")
        return self.fit

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[stage] = time.monotonic() - begin
