"""Faces looked into: a driving sequence without a film, dots, windows, and what was obeyed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from mofa_nb.checks import File, shaped
from mofa_nb.clips.heads.head import still_curves
from mofa_nb.clips.heads.render import animate_portrait
from mofa_nb.faces.detect import detect_faces, portrait_crop
from mofa_nb.faces.draw import landmarks_over
from mofa_nb.faces.mesh import EXPRESSIONS
from mofa_nb.faces.points import Marks, eye_distance, to_68
from mofa_nb.media.images import read_image, to_uint8, to_unit
from mofa_nb.media.video import write_clip
from mofa_nb.pipeline.layers import clip_windows as clip_windows
from mofa_nb.pipeline.layers import soft_mask as soft_mask
from mofa_nb.pipeline.outputs import Clip
from mofa_nb.sampling.denoise import Window
from mofa_nb.show import charts
from mofa_nb.show.layout import INK, PAPER, Frames, Picture, font, to_height
from mofa_nb.study.control import relative_epe

Changes = Float[np.ndarray, " T-1"]
INNER_LIPS = 62, 66  # of the 68 points: the middles of the upper and the lower one
LIDS = (37, 41), (38, 40), (43, 47), (44, 46)  # upper and lower ones
SPANS = (48, 54), (33, 8), (3, 13)  # of the 68: across the mouth, nose to chin, across the jaw
CORNERS = (0, 4, 8, 12, 16, 19, 24, 27, 30, 35, 36, 45, 48, 54, 57)  # of the 68: told apart
SEEN, OWN_FIRST, LENT, EDGE = "#96bae6", "#2e68b0", "#ffffff", "#787c86"
DOT = (255, 214, 70)


def portrait(path: File, *, side: int = 400) -> Picture:
    """A square picture of the largest face in a photograph, the face half as high."""
    return to_uint8(portrait_crop(read_image(path), side, margin=1.9)[0])


def driving_clip(photo: Picture, num_frames: int, fps: float | int, *, side: int = 256) -> Frames:
    """A driving sequence for which nobody was filmed: a photographed face, moved by its mesh. It
    speaks, looks to one side and then the other, and blinks; frame 0 rests."""
    curves, time = still_curves(1, num_frames), torch.arange(num_frames) / fps
    turn, talk = torch.sin(1.9 * time), 0.5 - 0.5 * torch.cos(7.5 * time)
    blink = torch.exp(-(((time % 1.5 - 0.75) / 0.11) ** 2))
    acted = {"jaw_open": 0.85 * talk, "brows_up": 0.7 * (0.5 - 0.5 * torch.cos(3.8 * time))}
    for name, strength in (acted | {"blink_right": blink, "blink_left": blink}).items():
        curves.strengths[0, :, EXPRESSIONS.index(name)] = strength
    curves.degrees[0] = torch.stack([15 * turn, 4 * torch.sin(3.1 * time), 4 * turn], -1)
    crop, points = portrait_crop(photo, side)
    return to_uint8(animate_portrait(crop, points, curves).frames[0])


def saved_film(folder: File, frames: Frames, fps: float | int) -> Path:
    """The frames as driver.mp4 in a folder, made if need be; returns its path."""
    path = Path(folder) / "driver.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, frames, fps)
    return path


def with_landmarks(image: Picture, landmarks: object, *, height: int = 192) -> Picture:
    """The picture at another height, with landmarks [68, 2] (its pixels as it is given) over it."""
    zoom = height / image.shape[0]
    return landmarks_over(to_height(image, height), np.asarray(landmarks) * zoom)


def dots_over(image: Picture, points: np.ndarray, *, numbers: Sequence[int] = ()) -> Picture:
    """The picture with a dot on every point (x, y), and the numbers of some, counted from 0."""
    sheet = Image.fromarray(image)
    draw, radius = ImageDraw.Draw(sheet), 2 if numbers else 1
    places = np.asarray(points)[:, :2].tolist()
    for place in places:
        draw.circle(place, radius + 1, INK)
        draw.circle(place, radius, DOT)
    aside = {"anchor": "lm", "stroke_width": 2, "stroke_fill": INK}
    for number in numbers:
        x, y = places[number]
        draw.text((x + 5, y - 1), str(number), PAPER, font(10), **aside)
    return np.array(sheet)


def windows_picture(windows: Sequence[Window], num_frames: int, *, width: int = 900) -> Picture:
    """One bar per window over the frames that it sees, frame 0 apart; beneath, how many see each.
    Dark: a frame 0 that counts; white: one that is only lent and thrown away."""
    figure, axes = charts.titled("", "frame", "", (width / 100, 0.22 * len(windows) + 0.8))
    axes.grid(False)
    for row, window in enumerate(windows):
        first = OWN_FIRST if window.first else LENT
        colours = [SEEN if frame else first for frame in window.frames]
        axes.barh(row, 0.9, 0.8, [f - 0.45 for f in window.frames], color=colours, edgecolor=EDGE)
    for frame, times in enumerate(window_counts(windows, num_frames)):
        axes.text(frame, len(windows), times, ha="center", va="center", fontsize=8)
    names = [f"window {k + 1}" for k in range(len(windows))]
    axes.set_yticks(range(len(names) + 1), [*names, "averaged"], fontsize=8)
    axes.set(xlim=(-0.6, num_frames - 0.4), ylim=(len(names) + 0.5, -0.6))
    return charts.figure_pixels(figure)


def window_counts(windows: Sequence[Window], num_frames: int) -> list[int]:
    """How many windows each frame is averaged over."""
    return [sum(f in w.frames[w.own] for w in windows) for f in range(num_frames)]


def found_landmarks(frames: Frames) -> Marks:
    """The 68 points as detected in every frame by itself; NaN where no face is found."""
    missing = np.full((68, 2), np.nan)
    faces = [detect_faces(np.ascontiguousarray(frame)) for frame in frames]
    return np.stack([to_68(face[0].points) if face else missing for face in faces])


def landmark_error(found: Marks, asked: Marks) -> Float[np.ndarray, " T"]:
    """Mean distance of found points from those asked for, over the distance between the eyes."""
    gap = np.linalg.norm(np.asarray(found) - np.asarray(asked), axis=-1).mean(-1)
    return gap / eye_distance(np.asarray(asked)[0])


def mouth_opening(landmarks: Marks) -> Float[np.ndarray, " T"]:
    """Distance between the inner lips over the distance between the eyes in frame 0."""
    return _opening(landmarks, [INNER_LIPS])


def eye_opening(landmarks: Marks) -> Float[np.ndarray, " T"]:
    """Distance between the lids over that between the eyes, of both eyes."""
    return _opening(landmarks, LIDS)


def _opening(landmarks: Marks, pairs: Sequence[tuple[int, int]]) -> Float[np.ndarray, " T"]:
    upper, lower = np.asarray(landmarks)[:, np.transpose(pairs)].transpose(1, 0, 2, 3)
    gaps = np.linalg.norm(lower - upper, axis=-1).mean(-1)
    return gaps / np.nanmedian(eye_distance(np.asarray(landmarks)))


def frame_changes(frames: Frames) -> Changes:
    """Mean absolute change from each frame to the next, of 255."""
    return np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2, 3))


def control_errors(
    clip: Clip, drag: Float[Tensor, "steps 2 H W"], mask: UInt8[np.ndarray, "H W"]
) -> tuple[float, float]:
    """How far a clip with landmarks misses its face and its tracks: landmark error after frame 0,
    and the re-tracked end-point error outside the mask (255 where the face's motion counts) as a
    share of a still clip's. `drag`: dense flow of the tracks, pixels of the clip."""
    _, height, width, _ = clip.frames.shape
    shaped(drag, f"steps 2 {height} {width}", "flow to score a clip by")
    shaped(mask, f"{height} {width}", "mask to score a clip by")
    error = landmark_error(found_landmarks(clip.frames[1:]), clip.landmarks[1:])
    outside = torch.from_numpy(mask == 0).expand(len(drag), 1, -1, -1)
    return float(np.nanmean(error)), relative_epe(to_unit(clip.frames), drag, outside)


def seam_ratios(changes: Changes, windows: Sequence[Window]) -> Float[np.ndarray, " W-1"]:
    """The change where each later window begins, over the median of its four neighbours."""
    seams = [window.start - 1 for window in windows[1:]]
    around = [[changes[k + d] for d in (-2, -1, 1, 2) if 0 <= k + d < len(changes)] for k in seams]
    return np.array([changes[k] / np.median(near) for k, near in zip(seams, around, strict=True)])
