"""Does a clip follow its motion, and look good? `python -m tests.benchmarks.evaluate_mini`.

32 fixed scenes of photographs kept out of training, with exact motion; optionally real footage
with estimated motion, reported apart. Every clip is scored by re-tracking (see `study.metrics`;
outlines left out) and by comparison with the true frames, beside its rivals: a still clip, and
the first frame splatted along the same flow and inpainted. It takes half an hour on two
cores; `--scenes 4` gives a first impression.
"""

from collections.abc import Iterator
from math import nan
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.animate import animate
from mofa_nb.clips.scenes import evaluation_scenes
from mofa_nb.flow.optical_flow import as_frames, clip_flows, visible
from mofa_nb.study.control import splat_and_inpaint, still_clip
from tests.benchmarks.options import Clips, Run, options
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
)
from tests.benchmarks.scoring import FEW, MOTION, PICTURE, Scene, clip_scores, followed, through_vae
from tests.benchmarks.strips import last_frames, last_frames_sheet, save_picture

TRUE, VAE, STILL = "true clip (floor)", "true through VAE", "still clip"
EXACT, TRACKS = "exact flow", "8 tracks, S2D"
SPLAT_EXACT, SPLAT_TRACKS = "splat + inpaint", "splat + inpaint, S2D"
FREE = "control scale 0"
WORST = 3  # scenes of the picture that shows what does not work
PICTURED = (TRUE, EXACT, TRACKS, SPLAT_EXACT)
ROWS = (TRUE, VAE, STILL, SPLAT_EXACT, EXACT, SPLAT_TRACKS, TRACKS, FREE)


def fixed_scenes(count: int, size: tuple[int, int], num_frames: int) -> list[Scene]:
    """The benchmark's scenes."""
    batch = evaluation_scenes(count, num_frames, size)
    parts = zip(batch.frames, batch.flow, batch.visible, strict=True)
    return [Scene(*part, name=f"scene {k + 1:02d}") for k, part in enumerate(parts)]


def footage_scenes(
    video: Path, count: int, size: tuple[int, int], num_frames: int
) -> Iterator[Scene]:
    """Lively passages of a video, cropped to the model's size; motion is estimated."""
    from mofa_nb.clips.footage.bank import Search, evenly_spread, find_passages
    from mofa_nb.media.video import read_video
    from mofa_nb.motion.fit import fit_image

    windows = evenly_spread(find_passages(video, Search(num_frames, hop=num_frames)), count)
    pictures = read_video(video) if windows else []
    height, width = size
    for number, window in enumerate(windows):
        chosen = [pictures[k] for k in window.frames(num_frames)]
        frames = as_frames([fit_image(p, 1, size=(width, height))[0] for p in chosen])
        forward, backward = clip_flows(frames, "dis_fine")
        name = f"{video.stem} {number + 1:02d}"
        yield Scene(frames, forward, visible(forward, backward), name)


def scene_clips(run: Run, scene: Scene) -> Clips:
    """All clips of one scene, by row of the table."""
    drawn = animate(scene.image, scene.motion(), **run.how)
    first = scene.frames[0]
    return {
        TRUE: scene.frames,
        VAE: through_vae(run.session.models, scene.frames),
        STILL: still_clip(first, len(scene.frames)),
        SPLAT_EXACT: splat_and_inpaint(first, scene.flow),
        EXACT: made(run, scene.image, scene.flow),
        SPLAT_TRACKS: splat_and_inpaint(first, drawn.flow),
        TRACKS: as_frames(drawn.frames),
        FREE: made(run, scene.image, scene.flow, trajectory_scale=0.0),
    }


def made(
    run: Run, image: UInt8[np.ndarray, "H W 3"], flow: Float[Tensor, "steps 2 H W"], **other: float
) -> Float[Tensor, "T 3 H W"]:
    """A clip driven by a dense flow, without S2D."""
    return as_frames(animate(image, flow=flow, **run.how | other).frames)


def evaluate(run: Run, scenes: list[Scene]) -> Results:
    """Scores of every clip of every scene, by row; with the motions swapped between scenes."""
    results = run.scored(scenes, scene_clips, clip_scores, (*PICTURED, STILL))
    for number, scene in enumerate(scenes):
        other = scenes[number - 1]
        if other is not scene:
            swapped = made(run, scene.image, other.flow)
            given, own = followed(swapped, other.flow, scene.flow)
            results[number]["swapped"] = given | {"own": own["correlation"]}
    return results


def checks(results: Results) -> list[Check]:
    """Every figure to reach."""
    found = []

    def check(what: str, value: float, bound: float, at_most: bool = False) -> None:
        found.append(Check(what, value, bound, at_most))

    def above(row: str, rival: str, key: str) -> float:
        pairs = zip(column(results, row, key), column(results, rival, key), strict=True)
        return summary([mine - theirs for mine, theirs in pairs]).get("median", nan)

    check("EPE / still, exact flow", median(results, EXACT, "ratio"), 0.20, at_most=True)
    check("EPE / still, 8 tracks", median(results, TRACKS, "ratio"), 0.42, at_most=True)
    check("PSNR above still, exact flow", above(EXACT, STILL, "psnr"), 3)
    check("PSNR above still, 8 tracks", above(TRACKS, STILL, "psnr"), 1.5)
    for row in (EXACT, TRACKS):
        check(f"drift px, {row}", median(results, row, "drift_median"), 0.7, at_most=True)
        check(f"drift p90 px, {row}", median(results, row, "drift_p90"), 1.5, at_most=True)
    check("correlation at control scale 0", median(results, FREE, "correlation"), 0.2, True)
    check("correlation at control scale 1", median(results, EXACT, "correlation"), 0.95)
    check("PSNR dB, exact flow", median(results, EXACT, "psnr"), 25.5)
    swapped = zip(*(column(results, "swapped", key) for key in ("correlation", "own")), strict=True)
    swap = summary([given - own for given, own in swapped]).get("median", nan)
    check("swapped motion: correlation above own", swap, 0)
    vae, first = median(results, VAE, "first_frame"), median(results, EXACT, "first_frame")
    check("VAE reconstruction dB", vae, 25)
    check("first frame dB below the VAE's", vae - first, 2, at_most=True)
    for row in (EXACT, TRACKS):
        check(f"sharpness, {row}", median(results, row, "sharpness"), 0.75)
    check("goal: uncovered dB above splat", above(EXACT, SPLAT_EXACT, "psnr_uncovered"), 0)
    sharper = above(EXACT, SPLAT_EXACT, "sharpness_uncovered")
    check("goal: uncovered sharpness above splat", sharper, 0)
    check("goal: elsewhere dB below the VAE's", -above(EXACT, VAE, "psnr_elsewhere"), 1, True)
    return found


def report(results: Results, title: str) -> str:
    """The whole report of one set of scenes as text: motion, picture, what is reached."""
    lines = [
        scores_table(title, what, results, ROWS, scores)
        for what, scores in (("motion", MOTION), ("picture", PICTURE))
    ]
    still, bare = (
        summary(column(results, TRUE, key))["n"] for key in ("drift_median", "sharpness_uncovered")
    )
    lines.append(
        f"n = {len(results)}; drift: the {still} that have points that should stay; uncovered: the "
        f"{bare} that uncover at least {FEW} pixels by the last frame."
    )
    given, own = (column(results, "swapped", key) for key in ("correlation", "own"))
    if given:
        lines.append(
            f"Motions swapped between scenes (n = {len(given)}): correlation with the motion "
            f"given {cell(given)}, with the scene's own {cell(own)}."
        )
    return "\n".join([*lines, "", checks_table(checks(results))])


def main() -> None:
    parser = options(__doc__, scenes=32)
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="scenes to leave out")
    parser.add_argument("--trajectory-scale", type=float, default=1.0, metavar="X")
    parser.add_argument("--footage", type=Path, action="append", default=[], metavar="VIDEO")
    parser.add_argument("--worst", type=Path, metavar="PNG", help="the three that follow least")
    parser.add_argument("--passages", type=int, default=6, help="of each video")
    given = parser.parse_args()
    if not 0 <= given.skip < given.scenes:
        parser.error(f"--skip must lie between 0 and {given.scenes - 1}, but {given.skip} came")
    run = Run(given, trajectory_scale=given.trajectory_scale)
    fixed = fixed_scenes(given.scenes, run.size, run.frames)[given.skip :]
    sets = {"scenes with exact motion": fixed}
    for video in given.footage:
        passages = list(footage_scenes(video, given.passages, run.size, run.frames))
        sets[f"passages of {video.name}, motion estimated from the clip itself"] = passages
    run.announce()
    content, followed_least = {}, []
    for what, scenes in sets.items():
        if not scenes:
            print(f"\nno lively passage in {what}")
            continue
        results = evaluate(run, scenes)
        title = f"{len(scenes)} {what}: median [quartiles]"
        print(f"\n{report(results, title)}", flush=True)
        found = scores_figures([scene.name for scene in scenes], results, ROWS)
        content[what] = found | {"checks": checks_figures(checks(results))}
        ratios = column(results, EXACT, "ratio")
        followed_least += zip(ratios, scenes, strict=True)
    if given.worst:
        save_picture(given.worst, worst_sheet(run, followed_least))
    run.end(content)


def worst_sheet(run: Run, scenes: list[tuple[float, Scene]]) -> UInt8[np.ndarray, "_ _ 3"]:
    """The scenes, each with its ratio, that a clip with exact flow follows least; made anew."""
    worst = sorted(scenes, key=lambda one: one[0], reverse=True)[:WORST]
    rows = []
    for _, scene in worst:
        clips = scene_clips(run, scene)
        rows.append(last_frames(scene, {row: clips[row] for row in PICTURED}))
    return last_frames_sheet(rows, [f"{scene.name}: {ratio:.2f}" for ratio, scene in worst])


if __name__ == "__main__":
    main()
