"""Does a face follow its landmarks, and stay itself? `python -m tests.benchmarks.evaluate_faces`.

24 fixed scenes of faces kept out of training (see `face_scenes`): `grace_hopper` and rendered heads
of unseen seeds, with motions that a warp alone cannot make. Landmarks are found again in every clip
and compared with those asked for; rivals are a still clip, and the first frame splatted and
inpainted along the exact flow or along the model's own. Then: faces asked to stand still, clips of
100 frames, speech, and the detector itself. About ten minutes on two cores; `--scenes 2` gives a
first impression.
"""

from pathlib import Path

import numpy as np

from mofa_nb.flow.optical_flow import as_frames
from mofa_nb.study.control import splat_and_inpaint, still_clip
from tests.benchmarks.face_scenes import COUNT, FaceScene, asked_to_stand, face_scenes
from tests.benchmarks.face_scores import (
    FACE,
    STANDING,
    face_scores,
    share_above_floor,
    standing_scores,
)
from tests.benchmarks.longer_faces import Report, detector_report, long_report, speech_report
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
from tests.benchmarks.scoring import through_vae

TRUE, VAE, STILL = "true clip (floor)", "true through VAE", "still clip"
SPLAT, SPLAT_OWN = "splat + inpaint", "splat + inpaint, S2D"
MODEL = "exact landmarks"
ROWS = (TRUE, VAE, STILL, SPLAT, SPLAT_OWN, MODEL)
LARGE = 0.1  # still error of a motion that counts
STANDING_ROWS = (VAE, MODEL)


def scene_clips(run: Run, scene: FaceScene) -> Clips:
    """All clips of one scene, by row of the table."""
    clip = driven(scene.image, scene.landmarks, **run.how)
    first = scene.frames[0]
    return {
        TRUE: scene.frames,
        VAE: through_vae(run.session.models, scene.frames),
        STILL: still_clip(first, len(scene.frames)),
        SPLAT: splat_and_inpaint(first, scene.flow),
        SPLAT_OWN: splat_and_inpaint(first, clip.flow),
        MODEL: as_frames(clip.frames),
    }


def standing_clips(run: Run, scene: FaceScene) -> Clips:
    """A face that is asked to stand still, and what the VAE alone makes of it."""
    clip = driven(scene.image, scene.landmarks, **run.how)
    return {VAE: through_vae(run.session.models, scene.frames), MODEL: as_frames(clip.frames)}


def shares(results: Results, row: str, key: str) -> list[float]:
    """Error above the floor, as a share of the still clip's, of each motion that is large."""
    found = []
    for scores in results:
        still, floor = scores[STILL][key], scores[TRUE][key]
        if still >= LARGE:
            found.append(share_above_floor(scores[row][key], floor, still))
    return found


def checks(results: Results) -> list[Check]:
    """Figures to reach on the moving scenes."""
    found = []
    for key, where in (("error", "all frames"), ("error_end", "last frame")):
        values = shares(results, MODEL, key)
        name = f"landmark error above floor / still, {where} (n = {len(values)})"
        found.append(Check(name, summary(values).get("median", np.nan), 0.35, at_most=True))
    for key, name in (("drift_median", "drift px"), ("drift_p90", "drift p90 px")):
        value = median(results, MODEL, key)
        found.append(Check(f"{name} outside the face", value, 1.5, at_most=True))
    return found


def standing_checks(results: Results) -> list[Check]:
    """Figures to reach when nothing is to move."""
    return [
        Check("standing still: face crop dB", median(results, MODEL, "psnr_crop"), 24),
        Check("standing still: drift p90 px", median(results, MODEL, "drift_p90"), 1.5, True),
    ]


def shares_text(results: Results, scenes: list[FaceScene]) -> str:
    """How the rivals and the model stand between the detector's floor and a still clip."""
    lines = [f"(error - floor) / (still - floor), still error at least {LARGE:g}:"]
    for row in (VAE, SPLAT, SPLAT_OWN, MODEL):
        every, end = (shares(results, row, key) for key in ("error", "error_end"))
        lines.append(
            f"  {row}: all frames {cell(every)} (n = {len(every)}), "
            f"last frame {cell(end)} (n = {len(end)})"
        )
    lines.append("by motion, all frames:")
    for motion in sorted({scene.asked for scene in scenes}):
        pairs = zip(results, scenes, strict=True)
        some = [scores for scores, scene in pairs if scene.asked == motion]
        still = cell(column(some, STILL, "error"), 3)
        model = cell(column(some, MODEL, "error"), 3)
        lines.append(f"  {motion}: {model}, still {still} (n = {len(some)})")
    return "\n".join(lines)


def moving_report(run: Run, scenes: list[FaceScene]) -> Report:
    """Scenes in which the face moves."""
    shown = (TRUE, MODEL, SPLAT_OWN, SPLAT, STILL)
    results = run.scored(scenes, scene_clips, face_scores, shown)
    title = f"{len(scenes)} face scenes, every landmark given: median [quartiles]"
    first = scores_table(title, "clip", results, ROWS, FACE)
    text = f"{first}\n{shares_text(results, scenes)}"
    names = [scene.name for scene in scenes]
    return text, checks(results), scores_figures(names, results, ROWS)


def standing_report(run: Run, scenes: list[FaceScene]) -> Report:
    """Each face once, asked to stand still."""
    faces = {scene.face: asked_to_stand(scene) for scene in scenes}
    results = run.scored(faces.values(), standing_clips, standing_scores)
    title = f"{len(faces)} faces asked to stand still: median [quartiles]"
    text = scores_table(title, "clip", results, STANDING_ROWS, STANDING)
    return text, standing_checks(results), scores_figures(list(faces), results, STANDING_ROWS)


PARTS = {
    "scenes": moving_report,
    "standing": standing_report,
    "long": long_report,
    "speech": speech_report,
    "detector": detector_report,
}


def main() -> None:
    parser = options(__doc__, scenes=COUNT)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--long-frames", type=int, default=100, metavar="N", help="of long clips")
    parser.add_argument("--footage", type=Path, action="append", default=[], metavar="VIDEO")
    run = Run(parser.parse_args(), faces=True)
    scenes = face_scenes(run.given.scenes, run.frames, run.size)
    run.announce()
    found, content = [], {}
    for name in run.given.only:
        text, some, content[name] = PARTS[name](run, scenes)
        found += some
        print(f"\n{text}", flush=True)
    run.end(content, found)


if __name__ == "__main__":
    main()
