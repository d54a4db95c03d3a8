"""Parts of `evaluate_faces`: clips of 100 frames, speech, and the landmark detector itself."""

import argparse
import time
from collections.abc import Callable
from math import ceil, nan
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mofa_nb.animate import Clip, Session, animate
from mofa_nb.checks import InputError
from mofa_nb.faces.detect import detect_faces
from mofa_nb.faces.drive import FPS
from mofa_nb.faces.speech import speech_curves
from mofa_nb.faces.track import track_face
from mofa_nb.flow.optical_flow import as_frames
from mofa_nb.media.images import read_image
from mofa_nb.media.sound import read_sound
from mofa_nb.media.video import read_video
from mofa_nb.motion.fit import fit_image
from mofa_nb.paths import data_file
from mofa_nb.pipeline.layers import clip_windows
from mofa_nb.study.control import splat_and_inpaint
from tests.benchmarks.face_scenes import FaceScene, scene_of, talking_curves
from tests.benchmarks.face_scores import (
    landmark_errors,
    mouth_opening,
    opening_correlation,
    redetected,
    seam_ratios,
    window_seams,
)
from tests.benchmarks.landmark_clips import driven
from tests.benchmarks.report import Check, cell, summary, table
from tests.benchmarks.scoring import to_uint8
from tests.benchmarks.tensor_memory import growth_ratio, stored_bytes, with_peak

SPEECH = ("speech.wav", "speech_longer.wav")
PORTRAITS = ("grace_hopper.jpg", "astronaut.jpg")
FOOTAGE_FRAMES, REPEATS = 250, 5
Report = tuple[str, list[Check], dict]


def share_of(scenes: list[FaceScene]) -> int:
    """How many faces the longer parts take: three of 24 scenes, one of a few."""
    return ceil(len(scenes) / 8)


# Long clips


def long_report(
    session: Session, scenes: list[FaceScene], given: argparse.Namespace, settings: dict
) -> Report:
    """Seams between windows and memory, with smooth driving."""
    frames, native = given.long_frames, session.num_frames
    rows, figures, ratios = [], {}, []
    for head in range(share_of(scenes)):
        scene = scene_of(head, "talks and sways", talking_curves(frames), scenes[0].size)
        scores = figures[scene.face] = long_scores(session, scene, settings)
        ratios += scores["seams"]
        for row, seams in (("true", "true_seams"), ("model", "seams")):
            worst, errors = max(scores[seams]), (scores[f"{row}_error"], scores["still_error"])
            cells = [f"{worst:.2f}", *(f"{error:.3f}" for error in errors)]
            rows.append([f"{scene.face}, {row} clip", cell(scores[seams]), *cells])
    header = ["clip", "change at seams / neighbours", "worst", "landmark error", "still"]
    title = f"{len(figures)} clips of {frames} frames: seams (n = {len(ratios)})"
    scene = scene_of(0, "talks and sways", talking_curves(native), scenes[0].size)
    short, long = with_memory(session, scene, settings)[1:], figures[scene.face]
    growth = growth_ratio((short[0], long["peak"]), (short[1], long["stored"]))
    text = (
        f"Tensor memory above the loaded model: {short[0] / 2**20:.1f} MiB for {native} frames, "
        f"{long['peak'] / 2**20:.1f} MiB for {frames}: it grows by {growth:.2f} times what their "
        "stored frames and flow take."
    )
    found = [
        Check("change at seams / neighbours", summary(ratios).get("median", nan), 1.25, True),
        Check("worst change at a seam / neighbours", max(ratios, default=nan), 1.5, True),
        Check("memory growth / stored frames and flow", growth, 1.5, True),
    ]
    figures["memory"] = {"short": short, "growth": growth}
    return f"{table(title, header, rows)}\n{text}", found, figures


def with_memory(session: Session, scene: FaceScene, settings: dict) -> tuple[Clip, int, int]:
    """A clip, the peak of tensor memory above the loaded model, and the bytes it stores."""
    clip, peak = with_peak(lambda: driven(session, scene.image, scene.landmarks, **settings))
    return clip, peak, stored_bytes(clip)


def long_scores(session: Session, scene: FaceScene, settings: dict) -> dict:
    """Seams, landmark errors and memory of a long clip; the first two of the true one, too."""
    clip, peak, stored = with_memory(session, scene, settings)
    asked = scene.landmarks.numpy()
    seams = window_seams(clip_windows(len(asked), session.num_frames), len(asked))
    made = {"model": clip.frames, "true": to_uint8(scene.frames)}
    errors = {
        f"{name}_error": float(landmark_errors(redetected(frames).points, asked)[1:].mean())
        for name, frames in made.items()
    }
    still = np.broadcast_to(asked[:1], asked.shape)
    return errors | {
        "still_error": float(landmark_errors(still, asked)[1:].mean()),
        "seams": seam_ratios(as_frames(clip.frames), seams),
        "true_seams": seam_ratios(scene.frames, seams),
        "peak": peak,
        "stored": stored,
    }


# Speech


def speech_report(
    session: Session, scenes: list[FaceScene], given: argparse.Namespace, settings: dict
) -> Report:
    """Does the mouth open when the voice asks for it?"""
    faces = {scene.face: scene for scene in scenes[: share_of(scenes)]}
    figures, rows = {}, []
    for name in SPEECH[: 1 if len(scenes) < 8 else None]:
        for face, scene in faces.items():
            try:
                scores = speech_scores(session, scene, data_file(name), settings)
            except InputError as error:
                return f"speech: {error}", [], {"skipped": str(error)}
            figures[f"{face}, {name}"] = scores
            values = [scores[key] for key in ("asked", "splat", "model", "gap")]
            rows.append(
                [f"{face}, {name}", f"{scores['frames']}", *(f"{value:.2f}" for value in values),
                 f"{scores['found']:.2f}"]
            )  # fmt: skip
    header = ["clip", "frames", "asked", "splat + inpaint, S2D", "model", "widest gap", "found"]
    title = f"{len(rows)} spoken clips: correlation of the mouth's opening with the phoneme curve"
    model = [scores["model"] for scores in figures.values()]
    found = Check("mouth opening to phoneme curve", summary(model).get("median", nan), 0.6)
    return table(title, header, rows), [found], figures


def speech_scores(session: Session, scene: FaceScene, sound: Path, settings: dict) -> dict:
    """Correlations for the landmarks asked for, the splatted rival, and the model's clip."""
    curve = speech_curves(read_sound(sound), FPS, seed=settings["seed"]).opening
    clip = animate(scene.image, face=sound, model=session, fps=FPS, **settings)
    length = min(len(curve), len(clip.frames))
    rival = to_uint8(splat_and_inpaint(scene.frames[0], clip.flow))
    shown = {"splat": rival, "model": clip.frames}
    marks = {name: redetected(frames[:length]) for name, frames in shown.items()}
    points = {name: each.points for name, each in marks.items()}
    points["asked"] = clip.landmarks[:length].numpy()
    scores = {name: opening_correlation(p, curve[:length]) for name, p in points.items()}
    gap = np.nan_to_num(mouth_opening(points["model"])).max()
    return scores | {
        "gap": float(gap), "found": float(marks["model"].found.mean()), "frames": length
    }  # fmt: skip


# The detector


def detector_report(
    session: Session, scenes: list[FaceScene], given: argparse.Namespace, settings: dict
) -> Report:
    """Faces found and milliseconds a frame: shipped portraits, the scenes' faces, footage."""
    short = session.defaults["short_side"]
    figures = {}
    for name in PORTRAITS:
        image = read_image(data_file(name))
        for picture in (image, fit_image(image, 1, short_side=short)[0]):
            figures[f"{name}, {picture.shape[1]}x{picture.shape[0]}"] = detected([picture])
    faces = {scene.face: scene.image for scene in scenes}
    figures[f"the scenes' {len(faces)} faces"] = detected(list(faces.values()))
    for video in given.footage:
        frames = read_video(video, max_frames=FOOTAGE_FRAMES)
        figures[f"{video.name}, each frame alone"] = detected(list(frames), repeats=1)
        figures[f"{video.name}, followed"] = tracked(frames)
    rows = [
        [name, f"{f['pictures']}", f"{f['found']}", cell(f["ms"], 1), f.get("note", "")]
        for name, f in figures.items()
    ]
    header = ["pictures", "n", "faces found", "CPU ms a picture", ""]
    missed = sum(f["pictures"] - f["found"] for f in figures.values())
    check = Check("pictures without a face found", float(missed), 0, at_most=True)
    return table("The landmark detector", header, rows), [check], figures


def detected(pictures: list[UInt8[np.ndarray, "H W 3"]], repeats: int = REPEATS) -> dict:
    """How many pictures show at least one face, and what looking costs."""
    found = [bool(detect_faces(picture)) for picture in pictures]
    ms = [milliseconds(lambda p=picture: detect_faces(p)) for picture in pictures * repeats]
    return {"pictures": len(pictures), "found": sum(found), "ms": ms}


def tracked(frames: UInt8[np.ndarray, "T H W 3"]) -> dict:
    """The same, following one face from frame to frame."""
    begin = time.process_time()
    try:
        track = track_face(frames, 25)
    except InputError as error:
        return {"pictures": len(frames), "found": 0, "ms": [], "note": str(error)}
    ms = [(time.process_time() - begin) * 1000 / len(frames)]
    note = "; ".join(track.notes)
    return {"pictures": len(frames), "found": int(track.found.sum()), "ms": ms, "note": note}


def milliseconds(work: Callable[[], object]) -> float:
    """CPU time of some work."""
    begin = time.process_time()
    work()
    return (time.process_time() - begin) * 1000
