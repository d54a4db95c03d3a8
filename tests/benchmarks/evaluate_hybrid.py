"""A face and tracks in one clip: each its own? `python -m tests.benchmarks.evaluate_hybrid`.

24 fixed scenes of faces kept out of training (see `face_scenes`) beside which cut-out pieces of
photographs move. Three clips of each, from the same noise: keypoints only, tracks only, and both,
the face in the mask proposed for it. Inside the mask both must follow the landmarks as well as
keypoints alone, outside it the tracks as well as tracks alone, and no seam may show along its
edge. About six minutes on two cores; `--scenes 2` gives a first impression.
"""

from math import nan

from torch import Tensor

from mofa_nb.animate import animate
from mofa_nb.flow.optical_flow import as_frames
from mofa_nb.media.images import to_uint8
from mofa_nb.study.faces import found_landmarks
from mofa_nb.study.metrics import at_points, motion_scores, track_points
from tests.benchmarks.face_scenes import COUNT, HybridScene, face_scenes, with_surroundings
from tests.benchmarks.face_scores import edge_gradient, landmark_errors, shows_face
from tests.benchmarks.options import Clips, Run, driven, options
from tests.benchmarks.report import (
    Check,
    Results,
    cell,
    column,
    median,
    scores_figures,
    scores_table,
    summary,
)

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


def scene_clips(run: Run, scene: HybridScene) -> Clips:
    """All clips of one scene, by row of the table."""
    image, face, drawn = scene.image, scene.landmarks, scene.motion()
    both = {"motion": drawn, "mask_softness": run.given.softness}
    clips = {
        FACE: driven(image, face, **run.how),
        TRACKS: animate(image, drawn, num_frames=run.frames, **run.how),
        BOTH: driven(image, face, **both, **run.how),
    }
    return {TRUE: scene.frames} | {row: as_frames(clip.frames) for row, clip in clips.items()}


def clip_scores(scene: HybridScene, clip: Tensor) -> dict[str, float]:
    """Landmarks inside the head's region, motion outside it, and its edge."""
    marks, points = found_landmarks(to_uint8(clip)), scene.outside()
    asked, seen = at_points(scene.flow, points), at_points(scene.seen, points)[..., 0]
    moved = motion_scores(track_points(clip, points), asked, seen)
    return {
        "error": float(landmark_errors(marks, scene.landmarks.numpy())[1:].mean()),
        "found": float(shows_face(marks).mean()),
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


def report(results: Results) -> str:
    """The tables as text."""
    title = f"{len(results)} scenes of a face and moving objects: median [quartiles]"
    lines = [scores_table(title, "clip", results, ROWS, SCORES)]
    lines += [
        f"{what}, scene by scene: {cell(values)} (n = {summary(values)['n']})"
        for what, values in relations(results).items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = options(__doc__, scenes=COUNT)
    parser.add_argument("--softness", type=float, default=0.0, help="pixels of the mask's edge")
    run = Run(parser.parse_args(), faces=True)
    scenes = hybrid_scenes(run.given.scenes, run.frames, run.size)
    run.announce(f"mask softness {run.given.softness:g} px")
    results = run.scored(scenes, scene_clips, clip_scores, shown=(TRUE, BOTH, FACE, TRACKS))
    print(f"\n{report(results)}")
    names = [scene.name for scene in scenes]
    content = {"softness": run.given.softness} | scores_figures(names, results, ROWS)
    content |= {what: summary(values) for what, values in relations(results).items()}
    run.end(content, checks(results))


if __name__ == "__main__":
    main()
