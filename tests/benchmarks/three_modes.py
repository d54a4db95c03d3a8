"""What the three modes cost as clips grow: `python -m tests.benchmarks.three_modes`.

Trajectories, keypoints and both on one portrait at 14, 28, 56 and 112 frames: seconds of the whole
call but for loading (modes take turns within a round; medians over rounds), and the peak of tensor
memory above the loaded model in a run of its own, counted storage by storage as operations return
them (see `tensor_memory`); what a kernel needs inside itself is not seen. Cost should follow the
number of windows, memory only what stored frames and flow take. About seven minutes on two cores;
`--frames 14 28 --rounds 1` gives a first impression.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from mofa_nb.animate import Clip, Session, animate
from mofa_nb.motion.motion import Motion
from mofa_nb.show.charts import curves
from mofa_nb.show.layout import side_by_side
from tests.benchmarks.face_scenes import FaceScene, scene_of, talking_curves
from tests.benchmarks.options import driven, models_of, options, settings_of
from tests.benchmarks.report import Check, checks_figures, checks_table, table, write_json
from tests.benchmarks.tensor_memory import growth_ratio, stored_bytes, with_peak

TRAJECTORY, KEYPOINT, HYBRID = "trajectory", "keypoint", "hybrid"
CONTROLS = {TRAJECTORY: 1, KEYPOINT: 1, HYBRID: 2}
FRAMES = (14, 28, 56, 112)
Table = dict[str, dict[int, dict[str, float]]]  # by mode and number of frames


def make(session: Session, mode: str, scene: FaceScene, settings: dict) -> Clip:
    """One clip of a mode: two tracks and a pin, the scene's landmarks, or both."""
    height, width = scene.size
    low, left, right = 0.8 * height, 0.1 * width, 0.9 * width
    paths = [[(left, low), (left + 8, low - 6)], [(right, low), (right - 8, low + 6)]]
    drawn = Motion((width, height), tracks=paths, pins=[(left, 0.1 * height)])
    frames = len(scene.landmarks)
    if mode == TRAJECTORY:
        return animate(scene.image, drawn, model=session, num_frames=frames, **settings)
    motion = drawn if mode == HYBRID else None
    how = {"motion": motion, "model": session}
    return driven(scene.image, scene.landmarks, **how, **settings)


def measured(
    session: Session, lengths: Sequence[int], rounds: int, settings: dict
) -> tuple[Table, dict]:
    """Seconds, memory and stored bytes by mode and length; every clip's stages for the JSON."""
    size = (session.defaults["short_side"],) * 2
    whole = scene_of(0, "talks and sways", talking_curves(max(lengths)), size)
    found: Table = {mode: {} for mode in CONTROLS}
    stages: dict[str, dict[str, float]] = {}
    make(session, HYBRID, shortened(whole, session.num_frames), settings)  # to warm up
    for length in tqdm(lengths, unit="length"):
        scene = shortened(whole, length)
        seconds: dict[str, list] = {mode: [] for mode in CONTROLS}
        for _ in range(rounds):
            for mode in CONTROLS:
                seconds[mode].append(timed(lambda m=mode, s=scene: make(session, m, s, settings)))
        for mode, controls in CONTROLS.items():
            clip, peak = with_peak(lambda m=mode, s=scene: make(session, m, s, settings))
            wall, cpu = (statistics.median(each[k] for each in seconds[mode]) for k in (0, 1))
            stored = stored_bytes(clip, controls)
            found[mode][length] = {"seconds": wall, "cpu": cpu, "peak": peak, "stored": stored}
            stages[f"{mode}, {length}"] = dict(clip.seconds)
    return found, stages


def shortened(scene: FaceScene, frames: int) -> FaceScene:
    """The first frames of a scene."""
    return replace(
        scene, frames=scene.frames[:frames], flow=scene.flow[: frames - 1],
        seen=scene.seen[: frames - 1], landmarks=scene.landmarks[:frames],
    )  # fmt: skip


def timed(work: Callable[[], Clip]) -> tuple[float, float]:
    """Wall and CPU seconds; a GPU is waited for."""
    begin, cpu = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin, time.process_time() - cpu


def checks(found: Table) -> list[Check]:
    """Linear cost (of three lengths or more), and memory that grows with what is stored only."""
    lengths = sorted(next(iter(found.values())))
    made = []
    for mode, rows in found.items():
        if len(lengths) >= 3:  # the longest ones: a clip of one window is a special case
            first, middle, last = lengths[-3:]
            early, late = (
                (rows[b]["cpu"] - rows[a]["cpu"]) / (b - a)
                for a, b in ((first, middle), (middle, last))
            )
            what = f"{mode}: cost of a frame, {middle} to {last} over {first} to {middle}"
            made.append(Check(what, late / early, 1.25, at_most=True))
        growth = growth_of(rows, lengths[0], lengths[-1])
        what = f"{mode}: memory growth / stored, {lengths[0]} to {lengths[-1]} frames"
        made.append(Check(what, growth, 1.5, at_most=True))
    return made


def growth_of(rows: dict[int, dict[str, float]], short: int, long: int) -> float:
    """Growth of peak memory between two lengths over that of what is stored."""
    if short == long:
        return nan
    peaks, stored = ((rows[short][key], rows[long][key]) for key in ("peak", "stored"))
    return growth_ratio(peaks, stored)


def report(found: Table) -> str:
    """The table: a line for each mode and length."""
    rows = []
    for mode, lines in found.items():
        for frames, f in lines.items():
            mib = [f"{f[key] / 2**20:.1f}" for key in ("peak", "stored")]
            per_frame = f"{1000 * f['cpu'] / frames:.0f}"
            rows.append(
                [mode, f"{frames}", f"{f['seconds']:.1f}", f"{f['cpu']:.1f}", per_frame, *mib]
            )
    header = ["mode", "frames", "seconds", "CPU s", "CPU ms a frame", "peak MiB", "stored MiB"]
    title = f"What a clip costs, {torch.get_num_threads()} threads"
    return table(title, header, rows)


def draw(found: Table, path: Path) -> None:
    """CPU seconds and peak memory against the number of frames."""
    pictures = []
    for key, unit, label in (("cpu", 1.0, "CPU seconds"), ("peak", 2.0**20, "peak MiB")):
        lines = {
            mode: (list(rows), [f[key] / unit for f in rows.values()])
            for mode, rows in found.items()
        }
        title = "Cost" if key == "cpu" else "Tensor memory above the loaded model"
        pictures.append(curves(lines, title=title, x_label="frames", y_label=label))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(side_by_side(pictures)).save(path)


def arguments() -> argparse.Namespace:
    parser = options(__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=FRAMES, metavar="N")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="of timing")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the curves there")
    return parser.parse_args()


def main() -> None:
    given, begin = arguments(), time.monotonic()
    models = models_of(given)
    session, settings = Session(models), settings_of(models, given)
    print(f"model {models.name}, weights {models.hash}, {settings}, on {models.device}")
    found, stages = measured(session, sorted(given.frames), given.rounds, settings)
    print(f"\n{report(found)}\n\n{checks_table(checks(found))}\n\n{time.monotonic() - begin:.0f} s")
    if given.plot:
        draw(found, given.plot)
    if given.json:
        content = {"model": models.name, "hash": models.hash, "modes": found, "stages": stages}
        content |= {"threads": torch.get_num_threads(), "checks": checks_figures(checks(found))}
        write_json(given.json, content | settings)


if __name__ == "__main__":
    main()
