"""A face and tracks in one clip: each its own? `python -m tests.benchmarks.evaluate_hybrid`.

24 fixed scenes of faces kept out of training (see `face_scenes`) beside which cut-out pieces of
photographs move. Three clips of each, from the same noise: keypoints only, tracks only, and both,
the face in the mask proposed for it. Inside the mask both must follow the landmarks as well as
keypoints alone, outside it the tracks as well as tracks alone, and no seam may show along its
edge. About six minutes on two cores; `--scenes 2` gives a first impression.
"""

import argparse
import time
from math import nan

import numpy as np
import torch
from tqdm import tqdm

from mofa_nb.animate import Session, animate
from mofa_nb.faces.draw import landmarks_over
from mofa_nb.flow.optical_flow import as_frames
from mofa_nb.show import draw_tracks
from mofa_nb.study.metrics import TRACKER, at_points, motion_scores, track_points
from tests.benchmarks.face_scenes import (
    COUNT,
    HybridScene,
    drawn_region,
    face_scenes,
    with_surroundings,
)
from tests.benchmarks.face_scores import edge_gradient, landmark_errors, redetected
from tests.benchmarks.landmark_clips import driven
from tests.benchmarks.options import models_of, options, settings_of
from tests.benchmarks.report import (
    Check,
    Results,
    cell,
    checks_figures,
    checks_table,
    column,
    median,
    scores_figures,
    scores_table,
    summary,
    write_json,
)
from tests.benchmarks.scoring import to_uint8
from tests.benchmarks.strips import clip_sheet, enlarged, save_sheet

TRUE = "true clip (floor)"
FACE, TRACKS, BOTH = "keypoints only", "tracks only", "both"
ROWS = (TRUE, FACE, TRACKS, BOTH)
SCORES = {  # key: column of the table, digits
    "error": ("landmark error inside", 3),
    "found": ("faces found", 2),
    "epe": ("EPE px outside", 2),
    "ratio": ("EPE / still", 2),
    "correlation": ("correlation", 2),
    "edge": ("gradient at the edge x 100", 2),
}


def hybrid_scenes(count: int, num_frames: int, size: tuple[int, int]) -> list[HybridScene]:
    """The face scenes with objects moving beside the head."""
    scenes = face_scenes(count, num_frames, size)
    return [with_surroundings(scene, seed) for seed, scene in enumerate(scenes)]


def scene_clips(
    session: Session, scene: HybridScene, settings: dict, softness: float
) -> dict[str, torch.Tensor]:
    """All clips of one scene, by row of the table; [T, 3, H, W] in [0, 1]."""
    drawn, length = scene.motion(), len(scene.frames)
    face = driven(session, scene.image, scene.landmarks, **settings)
    tracks = animate(scene.image, drawn, model=session, num_frames=length, **settings)
    both = driven(session, scene.image, scene.landmarks, drawn, mask_softness=softness, **settings)
    return {
        TRUE: scene.frames,
        FACE: as_frames(face.frames),
        TRACKS: as_frames(tracks.frames),
        BOTH: as_frames(both.frames),
    }


def clip_scores(scene: HybridScene, clip: torch.Tensor) -> dict[str, float]:
    """Landmarks inside the head's region, motion outside it, and its edge."""
    marks, points = redetected(to_uint8(clip)), scene.outside()
    asked, seen = at_points(scene.flow, points), at_points(scene.seen, points)[..., 0]
    moved = motion_scores(track_points(clip, points), asked, seen)
    return {
        "error": float(landmark_errors(marks.points, scene.landmarks.numpy())[1:].mean()),
        "found": float(marks.found.mean()),
        "epe": moved.epe,
        "ratio": moved.ratio,
        "correlation": moved.correlation,
        "edge": 100 * edge_gradient(clip[1:], scene.region),
    }


def relations(results: Results) -> dict[str, list[float]]:
    """Scene by scene: both against the clip of one control that it is to equal."""
    face, tracks, both = (
        {key: column(results, row, key) for key in SCORES} for row in (FACE, TRACKS, BOTH)
    )

    def over(mine: list[float], theirs: list[float]) -> list[float]:
        return [a / b if b else nan for a, b in zip(mine, theirs, strict=True)]

    single = [(a + b) / 2 for a, b in zip(face["edge"], tracks["edge"], strict=True)]
    return {
        "landmark error inside, both / keypoints only": over(both["error"], face["error"]),
        "EPE outside, both / tracks only": over(both["epe"], tracks["epe"]),
        "gradient at the edge, both / mean of each alone": over(both["edge"], single),
    }


def checks(results: Results) -> list[Check]:
    """Every figure to reach; medians over scenes are compared, for the edge scene by scene."""
    error, epe = (
        median(results, BOTH, key) / median(results, row, key)
        for row, key in ((FACE, "error"), (TRACKS, "epe"))
    )
    edge = relations(results)["gradient at the edge, both / mean of each alone"]
    return [
        Check("median landmark error inside / keypoints only", error, 1.15, at_most=True),
        Check("median EPE outside / tracks only", epe, 1.15, at_most=True),
        Check("gradient at the edge / each alone", summary(edge).get("median", nan), 1.3, True),
    ]


def asked_for(scene: HybridScene) -> list[np.ndarray]:
    """Landmarks, head region and tracks over the true frames at 3x."""
    pictures = [enlarged(frame) for frame in to_uint8(scene.frames)]
    points = scene.landmarks.numpy() * (pictures[0].shape[0] / scene.size[0])
    drawn = [landmarks_over(p, m) for p, m in zip(pictures, points, strict=True)]
    return [drawn_region(picture, scene.region) for picture in drawn]


def evaluate(session: Session, scenes: list[HybridScene], given, settings: dict) -> Results:
    """Scores of every clip of every scene, by row."""
    results = []
    for scene in tqdm(scenes, unit="scene"):
        clips = scene_clips(session, scene, settings, given.softness)
        results.append({row: clip_scores(scene, clip) for row, clip in clips.items()})
        if given.filmstrips:
            shown = {row: clips[row] for row in (TRUE, BOTH, FACE, TRACKS)}
            title, drawn = f"{session.name} · {scene.name}", scene.motion()
            sheet = clip_sheet(
                shown, asked_for(scene), title, on_first=lambda p, d=drawn: draw_tracks(p, d)
            )
            save_sheet(given.filmstrips, scene.name, sheet)
    return results


def report(results: Results) -> str:
    """The whole report as text."""
    title = f"{len(results)} scenes of a face and moving objects: median [quartiles]"
    lines = [scores_table(title, "clip", results, ROWS, SCORES)]
    lines += [
        f"{what}, scene by scene: {cell(values)} (n = {summary(values)['n']})"
        for what, values in relations(results).items()
    ]
    return "\n".join([*lines, "", checks_table(checks(results))])


def arguments() -> argparse.Namespace:
    parser = options(__doc__, scenes=COUNT)
    parser.add_argument("--softness", type=float, default=0.0, help="pixels of the mask's edge")
    return parser.parse_args()


def main() -> None:
    given, begin = arguments(), time.monotonic()
    models = models_of(given, faces=True)
    session, settings = Session(models), settings_of(models, given)
    size = (models.settings.short_side,) * 2
    scenes = hybrid_scenes(given.scenes, models.settings.num_frames, size)
    print(
        f"model {models.name}, weights {models.hash}, {settings}, mask softness "
        f"{given.softness:g} px, tracker {' + '.join(TRACKER)}"
    )
    results = evaluate(session, scenes, given, settings)
    print(f"\n{report(results)}\n\n{time.monotonic() - begin:.0f} s")
    if given.json:
        names = [scene.name for scene in scenes]
        content = {"model": models.name, "hash": models.hash, "tracker": TRACKER} | settings
        content |= {"softness": given.softness} | scores_figures(names, results, ROWS)
        content |= {what: summary(values) for what, values in relations(results).items()}
        write_json(given.json, content | {"checks": checks_figures(checks(results))})


if __name__ == "__main__":
    main()
