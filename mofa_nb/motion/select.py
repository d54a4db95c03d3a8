"""A thing of a picture by clicks: its mask, for the motion brush or the face's mask. A selector
takes a picture once and gives a function from clicks to a mask."""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8

from mofa_nb.checks import File, InputError, refusing, shown
from mofa_nb.media.images import Picture
from mofa_nb.motion.brush import resize_brush
from mofa_nb.motion.motion import Motion
from mofa_nb.motion.tracks import Point

Points = Sequence[Point]
Pick = Callable[[Points, Points], UInt8[np.ndarray, "H W"]]  # clicks on it, clicks off it -> mask
Selector = Callable[[Picture], Pick]

_SIDE = 192  # longer side of the picture that GrabCut looks at, pixels
_STEP = 0.5  # what a pixel costs without any edge; edges add their contrast in Lab
_OWN = 0.35  # of the border's median cost: what is reached for less belongs to the thing
_CALM = 8  # times the grain beyond one step, by which colours may differ and be made one
_ROUNDS = 3, 2  # of GrabCut, on a picture as it is and on one made calm, which takes it longer
_LEAST = 0.25  # of what it began with: where less is left, its colours do not tell the thing apart
_HOLE = 0.02  # of the picture: smaller holes are filled


def select_thing(
    image: Picture, on: Points, off: Points = (), by: File | Selector = "grabcut"
) -> UInt8[np.ndarray, "H W"]:
    """The mask {0, 255} of what is clicked on: pixels (x, y) `on` the thing, and `off` it.

    by: "grabcut", a folder with SAM 2 as `transformers` reads it, or any selector. InputError: no
    click on a thing, one outside the picture, or a folder without SAM 2."""
    height, width = image.shape[:2]
    for x, y in (*on, *off):
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(f"a click at ({x:g}, {y:g}) is outside the {width}x{height} picture")
    if not on:
        raise InputError("a thing is selected by a click on it: give at least one")
    return selector(by)(image)(on, off)


def brush_thing(
    motion: Motion, image: Picture, on: Points, off: Points = (), by: str | Selector = "grabcut"
) -> Motion:
    """The motion with the clicked thing brushed, too (`select_thing`): clicks are pixels of the
    image, whatever the motion's size."""
    mask = resize_brush(select_thing(image, on, off, by), motion.size)
    return motion.with_brush(mask if motion.brush is None else np.maximum(mask, motion.brush))


def selector(by: File | Selector = "grabcut") -> Selector:
    """A selector by its name, the folder of its weights, or itself."""
    return by if callable(by) else grab_cut if by == "grabcut" else sam2(os.fspath(by))


def grab_cut(image: Picture) -> Pick:
    """GrabCut (Rother et al. 2004) on a small copy. Every pixel begins as the thing's if the way to
    a click on it, across few edges, costs less than that to the border or to a click off it."""
    import cv2

    height, width = image.shape[:2]
    shrink = min(1, _SIDE / max(height, width))
    small = max(2, round(width * shrink)), max(2, round(height * shrink))
    picture = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    plain = cv2.medianBlur(picture, 5)
    grain = float(np.median(cv2.absdiff(picture, plain)))  # it hides a thing of little contrast
    calm = picture if grain <= 1 else cv2.bilateralFilter(picture, 7, _CALM * (grain - 1), 3)
    lab = cv2.cvtColor(plain, cv2.COLOR_RGB2LAB).astype(np.float32)
    slopes = [cv2.Sobel(lab, cv2.CV_32F, *axis, scale=0.25) for axis in ((1, 0), (0, 1))]
    cost = _STEP + np.sqrt(sum((slope**2).sum(-1) for slope in slopes))  # Lab steps a pixel

    def cell(point: Point) -> tuple[int, int]:  # (row, column) on the small copy
        sides = zip(point, (width, height), small, strict=True)
        return tuple(min(int(p * s / n), s - 1) for p, n, s in sides)[::-1]

    def pick(on: Points, off: Points) -> UInt8[np.ndarray, "H W"]:
        on, off = list(map(cell, on)), list(map(cell, off))
        mask = _clicked_pieces(_cut(calm, cost, on, off, _ROUNDS[grain > 1]), on, off)
        smooth = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)
        large = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.where(large >= 0.5, np.uint8(255), np.uint8(0))

    return pick


def _cut(picture: Picture, cost: np.ndarray, on: list, off: list, rounds: int) -> np.ndarray:
    import cv2
    from skimage.graph import MCP_Geometric

    near, _ = MCP_Geometric(cost).find_costs(on)
    border = np.pad(np.zeros((cost.shape[0] - 2, cost.shape[1] - 2), bool), 1, constant_values=True)
    far_off = border & (near >= _OWN * np.median(near[border]))
    far, _ = MCP_Geometric(cost).find_costs([*map(tuple, np.argwhere(far_off).tolist()), *off])
    mask = np.ascontiguousarray(np.where(near < far, cv2.GC_PR_FGD, cv2.GC_PR_BGD), np.uint8)
    radius = max(1, round(0.015 * min(cost.shape)))
    for clicks, sure, reach in ((off, cv2.GC_BGD, 2 * radius), (on, cv2.GC_FGD, radius)):
        for row, column in clicks:
            cv2.circle(mask, (column, row), reach, sure, -1)
    cv2.setRNGSeed(0)  # its colour clusters begin at random
    initial, models = mask & 1, np.zeros((2, 1, 65))
    cv2.grabCut(picture, mask, None, models[0], models[1], rounds, cv2.GC_INIT_WITH_MASK)
    cut = mask & 1 if (mask & 1).sum() > _LEAST * initial.sum() else initial
    labels = cv2.morphologyEx(cut, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    for row, column in on:
        cv2.circle(labels, (column, row), radius, 1, -1)
    return labels


def _clicked_pieces(labels: UInt8[np.ndarray, "h w"], on: list, off: list) -> np.ndarray:
    """The pieces that were clicked on, their small holes filled unless one was clicked."""
    from skimage.measure import label

    pieces = label(labels, connectivity=1)
    mask = np.isin(pieces, [pieces[cell] for cell in on])
    holes = label(~mask, connectivity=1)  # and what is around
    holes[np.bincount(holes.ravel())[holes] > _HOLE * mask.size] = 0
    full = mask | (holes > 0)
    return full & ~np.isin(holes, [holes[cell] for cell in off if holes[cell]])


@lru_cache(maxsize=1)
def sam2(folder: str) -> Selector:
    """SAM 2 (Ravi et al. 2024) from a folder of the user's; a picture is looked at once."""
    import torch
    from torch.nn.functional import interpolate

    if not os.path.isfile(os.path.join(folder, "config.json")):
        wrong = f"{shown(folder)} is no folder of SAM 2's weights (config.json, model.safetensors)"
        raise InputError(f"{wrong}: name one, or leave it out to select by GrabCut")
    message = f"SAM 2 cannot be loaded from {folder} by transformers (4.56 or newer)"
    with refusing(message, "update it or fetch them again", ImportError, OSError, ValueError):
        from transformers import Sam2Model

        model = Sam2Model.from_pretrained(folder, local_files_only=True).eval()
    side = model.config.vision_config.backbone_config.image_size[0]

    @torch.no_grad()
    def look(image: Picture) -> Pick:
        plain = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 255
        plain = interpolate(plain, (side, side), mode="bilinear", antialias=True)
        statistics = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])  # ImageNet's
        mean, std = statistics.view(2, 3, 1, 1)
        embeddings = list(model.get_image_embeddings((plain - mean) / std))
        height, width = image.shape[:2]

        @torch.no_grad()
        def pick(on: Points, off: Points) -> UInt8[np.ndarray, "H W"]:
            scale = torch.tensor([side / width, side / height])
            points = torch.tensor([*on, *off], dtype=torch.float32) * scale
            labels = torch.tensor([1] * len(on) + [0] * len(off))
            clicks = {"input_points": points[None, None], "input_labels": labels[None, None]}
            guess = model(**clicks, image_embeddings=embeddings)
            best = guess.pred_masks[0, 0, guess.iou_scores[0, 0].argmax()]
            logits = interpolate(best[None, None], (height, width), mode="bilinear")
            return (logits[0, 0] > 0).byte().mul(255).numpy()

        return pick

    return look
