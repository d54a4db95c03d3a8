"""What each speed loses: `python -m tests.benchmarks.speed`.

Scenes of known motion, guided: how far a clip follows its motion (EPE over a still clip's) and how
it looks (PSNR to the true clip, and to the clip made exactly). The mini model takes one step by
itself; here it takes the release's 25 unless told otherwise. Processor time is a hint only; ratios
on a card: `tests.benchmarks.gpu`.
"""

import time

import torch
from tqdm import tqdm

from mofa_nb.animate import animate
from mofa_nb.config import SPEEDS
from mofa_nb.flow.optical_flow import as_frames
from mofa_nb.study.metrics import psnr
from tests.benchmarks.evaluate_mini import fixed_scenes
from tests.benchmarks.options import Run, options
from tests.benchmarks.report import cell, table, write_json
from tests.benchmarks.scoring import Scene, clip_scores

GUIDANCE = (1.0, 3.0)


def clips(run: Run, scene: Scene) -> dict[str, tuple[torch.Tensor, float]]:
    """The scene's clip in every speed, with seconds of processor time."""
    found = {}
    for name, speed in SPEEDS.items():
        begin, motion = time.process_time(), scene.motion()
        how = run.how | {"speed": name, "steps": speed.steps_of(run.settings["steps"])}
        clip = animate(scene.image, motion, **how)
        found[name] = as_frames(clip.frames), time.process_time() - begin
    return found


def main(argv: list[str] | None = None) -> dict:
    """Measure and print; returns all figures."""
    parser = options(__doc__, scenes=32)
    parser.add_argument("--guidance", type=float, nargs=2, default=GUIDANCE, metavar="X")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="scenes to leave out")
    parser.set_defaults(scenes=16, steps=25)
    given = parser.parse_args(argv)
    run = Run(given, guidance=tuple(given.guidance))
    scores: dict[str, dict[str, list[float]]] = {name: {} for name in SPEEDS}
    scenes = fixed_scenes(given.scenes, run.size, run.frames)[given.skip :]
    for scene in tqdm(scenes, unit="scene"):
        made = clips(run, scene)
        for name, (clip, seconds) in made.items():
            own = clip_scores(scene, clip)
            exact = psnr(clip[1:], made["exact"][0][1:]) if name != "exact" else float("inf")
            row = {"ratio": own["ratio"], "psnr": own["psnr"], "to_exact": exact}
            row["share of time"] = seconds / made["exact"][1]
            for key, value in row.items():
                scores[name].setdefault(key, []).append(value)
        if given.json:
            write_json(given.json, run.about | scores)
    heads = {"ratio": 2, "psnr": 1, "to_exact": 1, "share of time": 2}
    rows = [
        [name, *(cell(own[key], n) for key, n in heads.items())] for name, own in scores.items()
    ]
    header = ["speed", "EPE / still", "PSNR dB", "PSNR to exact", "processor time / exact"]
    title = (
        f"{run.about['model']}, {len(scenes)} scenes, {given.steps} steps, "
        f"guidance {given.guidance}"
    )
    print(table(f"{title}: median [quartiles]", header, rows))
    return scores


if __name__ == "__main__":
    with torch.no_grad():
        main()
