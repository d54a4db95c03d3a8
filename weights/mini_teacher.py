"""The losses of the mini model's one step (`train_mini.py`), on parts of clips."""

import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from mini_learner import as_last
from torch import Tensor, nn

from mofa_nb.adapter.adapter import Adapter, Conditioning
from mofa_nb.adapter.unet import decode_block, residual_counts, time_embedding
from mofa_nb.config import Settings
from mofa_nb.train import objective, sources, video

TRAINED = ("unet", "trajectory_adapter", "landmark_adapter")
HIGH, LOW, BETWEEN = (60.0, 90.0), (0.07, 0.15), (0.1, 20.0)  # noise levels
SECOND, OTHER, FREE = 0.03, 0.15, 0.04  # shares of the steps
APART, LIGHTER = 25, 0.6  # of 255: another thing, which weighs by so much less in the loss
MARGIN = 2  # cells around a part
SCENE_UNIT, FACE_UNIT = 2, 8  # cells: parts begin at multiples; faces are cut at every level


class Teacher:
    """Losses of parts of clips."""

    def __init__(self, parts: dict[str, nn.Module], model: Path):
        self.unet, self.adapter, self.landmark_adapter = (parts[name] for name in TRAINED)
        self.ids = torch.tensor([Settings.load(model / "settings.json").time_ids])

    def scenes(self, clips: sources.Stored, cells: int) -> tuple[Tensor, dict]:
        latents = clips["latents"].float()
        places = video.busy_places(latents, cells, SCENE_UNIT)
        part = lambda whole: video.cut(whole, places, cells, latents.shape[-1])  # noqa: E731
        fine = self.features(clips, places, cells)
        with torch.no_grad():
            coarser = self.adapter.flow_encoder(fine)
        warped = tuple(level.unflatten(0, latents.shape[:2]) for level in (fine, *coarser))
        free = torch.rand(len(latents)) < FREE  # without residuals nothing moves
        told = torch.where(free.view(-1, 1, 1, 1, 1), latents[:, :1], latents)
        known = Conditioning(told[:, 1:, :2], (), warped)
        counts = 1 - LIGHTER * part(unforeseen(clips))
        return self.steps(self.adapter, known, clips, part, told, places, (~free).float(), counts)

    def features(self, clips: sources.Stored, places: Tensor, cells: int) -> Tensor:
        """The finest features of parts. A margin is seen around each, within the picture, which
        ends as networks see it end."""
        wide, grid = cells + 2 * MARGIN, clips["latents"].shape[-1]
        corners = (places - MARGIN).clamp(0, grid - wide)
        pictures = torch.cat([clips["first"][:, None], clips["moved"]], 1).float() / 127.5 - 1
        around = video.cut(pictures, corners, wide, grid)
        fine = self.adapter.controlnet_cond_embedding(as_last(around.flatten(0, 1).bfloat16()))
        fine = fine.unflatten(0, around.shape[:2])
        return video.cut(fine, places - corners, cells, wide).flatten(0, 1)

    def faces(self, clips: sources.Stored, cells: int) -> tuple[Tensor, dict]:
        latents, adapter = clips["latents"].float(), self.landmark_adapter
        places = video.busy_places(latents, cells, FACE_UNIT, clips["uncovered"])
        part = lambda whole: video.cut(whole, places, cells, latents.shape[-1])  # noqa: E731
        first, marks = (clips[key].bfloat16() for key in ("first", "images"))
        moved = lambda _: clips["moved"].bfloat16() / 127.5 - 1  # noqa: E731
        flow = clips["given"].float()
        reference = adapter.reference(first / 127.5 - 1, flow, marks / 255, moved)
        window = adapter.window(reference, range(latents.shape[1]), part)
        known = Conditioning(window.flow, (), window.warped, window.landmarks)
        everywhere = torch.ones(len(latents))
        loss, figures = self.steps(adapter, known, clips, part, latents, places, everywhere, 1)
        masks = video.mask_loss(window.occlusion, part(clips["uncovered"].float()))
        return loss + 0.1 * masks, {f"face {key}": value for key, value in figures.items()}

    def steps(
        self, adapter: Adapter, known: Conditioning, clips: sources.Stored, part, latents: Tensor,
        places: Tensor, keep: Tensor, counts: Tensor | int,
    ) -> tuple[Tensor, dict]:  # fmt: skip
        """The first step's error, now and then the second's, too, or that at another level; by how
        much each cell `counts`."""
        weight = counts * inner(places, known.warped[0].shape[-1], latents.shape[-1])
        wanted, image = part(latents), part(clips["image_latents"].float())
        image = image[:, None].expand(-1, latents.shape[1], -1, -1, -1)
        token, noise = clips["token"].bfloat16(), torch.randn_like(wanted)

        def step(clean: Tensor, levels: tuple[float, float]) -> tuple[Tensor, Tensor]:
            low, high = map(math.log, levels)
            sigmas = torch.empty(len(wanted)).uniform_(low, high).exp()
            noisy, scaled, timestep = objective.add_noise(clean, noise, sigmas)
            sample = torch.cat([scaled, image], 2).bfloat16()
            velocity = self.predict(adapter, known, sample, timestep, token, keep)
            made = objective.denoised(velocity.float(), noisy, sigmas)
            return made, ((made - wanted).square() * weight).mean()

        if random.random() < OTHER:
            _, error = step(wanted, BETWEEN)
            return error, {"between": error}
        made, first = step(wanted, HIGH)
        if random.random() >= SECOND:
            return first, {"first": first}
        _, second = step(made.detach(), LOW)
        return first + second, {"first": first, "second": second}

    def predict(
        self, adapter: Adapter, known: Conditioning, sample: Tensor, timestep: Tensor,
        token: Tensor, keep: Tensor,
    ) -> Tensor:  # fmt: skip
        """What `VideoUNet` makes with an adapter's residuals, without gradients in deep blocks."""
        (batch, frames), unet = sample.shape[:2], self.unet
        ids, still = self.ids.expand(batch, -1), sample.new_zeros(batch, frames)
        context, factor = token.repeat_interleave(frames, 0), keep.repeat_interleave(frames)
        factor, flat = factor.view(-1, 1, 1, 1).to(sample), as_last(sample.flatten(0, 1))
        with torch.no_grad():
            emb = [time_embedding(net, sample, timestep, ids) for net in (adapter, unet)]

        def down(net: nn.Module, hidden: Tensor, which: slice, after: list[Tensor]) -> tuple:
            features = []
            for k in range(*which.indices(len(net.down_blocks))):
                block = net.down_blocks[k]
                attends = {"encoder_hidden_states": context}
                attends = attends if getattr(block, "has_cross_attention", False) else {}
                hidden, made = block(
                    hidden_states=hidden, temb=emb[net is unet], image_only_indicator=still,
                    **attends,
                )  # fmt: skip
                features += made
                hidden = hidden + after[k] if k < len(after) else hidden
            return hidden, features

        fine, *coarser = (level.flatten(0, 1) for level in known.warped)
        hidden, after = adapter.conv_in(flat) + fine, [*coarser, coarser[-1]]
        if known.landmarks is not None:
            marks = known.landmarks.flatten(0, 1)
            hidden, after = hidden + marks, adapter._add_landmarks(after, marks)
        after = [level.detach() for level in after]
        deeper, made = down(adapter, hidden, slice(0, 1), [])
        outer, base = [hidden, *made], unet.conv_in(flat)
        below, made = down(unet, base, slice(0, 1), [])
        skips, counts = [base, *made], residual_counts(unet.down_blocks)
        convs = adapter.controlnet_down_blocks
        with torch.no_grad():
            deep, made = down(adapter, deeper + after[0], slice(1, None), after)
            deep = adapter.mid_block(deep + after[-1], emb[0], context, still)
            middle = adapter.controlnet_mid_block(deep) * factor
            pairs = zip(convs[len(outer) :], made, strict=True)
            residuals = [conv(feature) * factor for conv, feature in pairs]
            below, made = down(unet, below, slice(1, None), [])
            below = unet.mid_block(below, emb[1], context, still) + middle
            inner = zip(made, counts[len(outer) :], residuals, strict=True)
            stack = [s + k * r for s, k, r in inner]
            for block in unet.up_blocks[:-2]:
                below = decode_block(block, below, stack, emb[1], context, still)
        pairs = zip(skips, counts, convs, outer, strict=False)
        stack = [s + k * conv(feature) * factor for s, k, conv, feature in pairs] + stack
        for block in unet.up_blocks[-2:]:
            below = decode_block(block, below, stack, emb[1], context, still)
        below = unet.conv_out(unet.conv_act(unet.conv_norm_out(below)))
        return below.unflatten(0, (batch, frames))


def unforeseen(clips: sources.Stored) -> Tensor:
    """How much of each cell [B, T, 1, h, w] shows another thing than the moved first frame."""
    film, moved = clips["frames"][:, 1:].float(), clips["moved"].float()
    other = ((film - moved).abs().mean(2) > APART).float()
    cell = other.shape[-1] // clips["latents"].shape[-1]
    return F.pad(F.avg_pool2d(other, cell)[:, :, None], (0, 0, 0, 0, 0, 0, 1, 0))


def inner(places: Tensor, cells: int, grid: int) -> Tensor:
    """1 but for the outermost cells where a part was cut out: they lack what was beside them."""
    weight = torch.ones(len(places), 1, 1, cells, cells)
    for one, (y, x) in zip(weight[:, 0, 0], places.tolist(), strict=True):
        one[: int(y > 0)], one[:, : int(x > 0)] = 0, 0
        one[cells - int(y + cells < grid) :], one[:, cells - int(x + cells < grid) :] = 0, 0
    return weight
