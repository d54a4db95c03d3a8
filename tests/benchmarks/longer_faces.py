"""Parts of `evaluate_faces`: clips of 100 frames, speech, and the landmark detector itself."""

import time
from math import ceil, nan
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mofa_nb.animate import Clip, animate
from mofa_nb.checks import InputError
from mofa_nb.faces.detect import detect_faces
from mofa_nb.faces.drive import FPS
from mofa_nb.faces.speech import speech_curves
from mofa_nb.faces.track import track_face
from mofa_nb.flow.optical_flow import as_frames
from mofa_nb.media.images import read_image, to_uint8
from mofa_nb.media.sound import read_sound
from mofa_nb.media.video import read_video
from mofa_nb.motion.fit import fit_image
from mofa_nb.paths import data_file
from mofa_nb.pipeline.layers import clip_windows
from mofa_nb.study.control import splat_and_inpaint
from mofa_nb.study.faces import found_landmarks
from tests.benchmarks.face_scenes import FaceScene, scene_of, talking_curves
from tests.benchmarks.face_scores import (
    landmark_errors,
    mouth_opening,
    opening_correlation,
    seam_ratios,
    shows_face,
    window_seams,
)
from tests.benchmarks.options import Run, driven
from tests.benchmarks.report import Check, cell, summary, table
from tests.benchmarks.tensor_memory import growth_ratio, stored_bytes, with_peak

SPEECH = ("speech.wav", "speech_longer.wav")
PORTRAITS = ("grace_hopper.jpg", "astronaut.jpg")
FOOTAGE_FRAMES, REPEATS = 250, 5
Report = tuple[str, list[Check], dict]


def share_of(scenes: list[FaceScene]) -> int:
    """How many faces the longer parts take: three of 24 scenes, one of a few."""
    return ceil(len(scenes) / 8)


# Long clips


def long_report(run: Run, scenes: list[FaceScene]) -> Report:
    """Seams between windows and memory, with smooth driving."""
    frames, native = run.given.long_frames, run.frames
    rows, figures, ratios = [], {}, []
    for head in range(share_of(scenes)):
        scene = scene_of(head, "talks and sways", talking_curves(frames), scenes[0].size)
        scores = figures[scene.face] = long_scores(run, scene)
        ratios += scores["seams"]
        for row, seams in (("true", "true_seams"), ("model", "seams")):
            worst, errors = max(scores[seams]), (scores[f"{row}_error"], scores["still_error"])
            cells = [f"{worst:.2f}", *(f"{error:.3f}" for error in errors)]
            rows.append([f"{scene.face}, {row} clip", cell(scores[seams]), *cells])
    header = ["clip", "change at seams / neighbours", "worst", "landmark error", "still"]
    title = f"{len(figures)} clips of {frames} frames: seams (n = {len(ratios)})"
    scene = scene_of(0, "talks and sways", talking_curves(native), scenes[0].size)
    short, long = with_memory(run, scene)[1:], figures[scene.face]
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


def with_memory(run: Run, scene: FaceScene) -> tuple[Clip, int, int]:
    """A clip, the peak of tensor memory above the loaded model, and the bytes it stores."""
    clip, peak = with_peak(lambda: driven(scene.image, scene.landmarks, **run.how))
    return clip, peak, stored_bytes(clip)


def long_scores(run: Run, scene: FaceScene) -> dict:
    """Seams, landmark errors and memory of a long clip; the first two of the true one, too."""
    clip, peak, stored = with_memory(run, scene)
    asked = scene.landmarks.numpy()
    seams = window_seams(clip_windows(len(asked), run.frames), len(asked))
    made = {"model": clip.frames, "true": to_uint8(scene.frames)}
    errors = {
        f"{name}_error": float(landmark_errors(found_landmarks(frames), asked)[1:].mean())
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


def speech_report(run: Run, scenes: list[FaceScene]) -> Report:
    """Does the mouth open when the voice asks for it?"""
    faces = {scene.face: scene for scene in scenes[: share_of(scenes)]}
    figures, rows = {}, []
    for name in SPEECH[: 1 if len(scenes) < 8 else None]:
        for face, scene in faces.items():
            try:
                scores = speech_scores(run, scene, data_file(name))
            except InputError as error:
                return f"speech: {error}", [], {"skipped": str(error)}
            figures[f"{face}, {name}"] = scores
            values = [scores[key] for key in ("asked", "splat", "model", "gap", "found")]
            words = [f"{value:.2f}" for value in values]
            rows.append([f"{face}, {name}", f"{scores['frames']}", *words])
    header = ["clip", "frames", "asked", "splat + inpaint, S2D", "model", "widest gap", "found"]
    title = f"{len(rows)} spoken clips: correlation of the mouth's opening with the phoneme curve"
    model = [scores["model"] for scores in figures.values()]
    found = Check("mouth opening to phoneme curve", summary(model).get("median", nan), 0.6)
    return table(title, header, rows), [found], figures


def speech_scores(run: Run, scene: FaceScene, sound: Path) -> dict:
    """Correlations for the landmarks asked for, the splatted rival, and the model's clip."""
    curve = speech_curves(read_sound(sound), FPS, seed=run.settings["seed"]).opening
    clip = animate(scene.image, face=sound, fps=FPS, **run.how)
    length = min(len(curve), len(clip.frames))
    rival = to_uint8(splat_and_inpaint(scene.frames[0], clip.flow))
    shown = {"splat": rival, "model": clip.frames}
    points = {name: found_landmarks(frames[:length]) for name, frames in shown.items()}
    points["asked"] = clip.landmarks[:length].numpy()
    scores = {name: opening_correlation(p, curve[:length]) for name, p in points.items()}
    gap = np.nan_to_num(mouth_opening(points["model"])).max()
    found = float(shows_face(points["model"]).mean())
    return scores | {"gap": float(gap), "found": found, "frames": length}


# The detector


def detector_report(run: Run, scenes: list[FaceScene]) -> Report:
    """Faces found and milliseconds a frame: shipped portraits, the scenes' faces, footage."""
    short = run.size[0]
    figures = {}
    for name in PORTRAITS:
        image = read_image(data_file(name))
        for picture in (image, fit_image(image, 1, short_side=short)[0]):
            figures[f"{name}, {picture.shape[1]}x{picture.shape[0]}"] = detected([picture])
    faces = {scene.face: scene.image for scene in scenes}
    figures[f"the scenes' {len(faces)} faces"] = detected(list(faces.values()))
    for video in run.given.footage:
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
    ms = []
    for picture in pictures * repeats:
        begin = time.process_time()
        detect_faces(picture)
        ms.append((time.process_time() - begin) * 1000)
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
