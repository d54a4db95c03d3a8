"""How every benchmark of clips begins, goes through its scenes, and ends."""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from mofa_nb.animate import Clip, Session, animate
from mofa_nb.models.load import load_models
from mofa_nb.models.models import Models
from mofa_nb.study.metrics import TRACKER
from tests.benchmarks.report import Check, Results, checks_figures, checks_table, write_json
from tests.benchmarks.scoring import Scene
from tests.benchmarks.strips import save_picture, scene_sheet

Clips = dict[str, Tensor]  # by row of the table: [T, 3, H, W] in [0, 1]


def model_options(doc: str) -> argparse.ArgumentParser:
    """A parser for any benchmark of a model. doc: of the script, described by its first line."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--model", default="mini", help="mini, release or a model folder")
    parser.add_argument("--device", default=None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


def options(doc: str, *, scenes: int | None = None) -> argparse.ArgumentParser:
    """A parser for a benchmark of clips. scenes: how many there are, all by default."""
    parser = model_options(doc)
    if scenes:
        parser.add_argument(
            "--scenes", type=int, default=scenes, metavar="N", help=f"1 to {scenes}"
        )
        parser.add_argument("--side", type=int, metavar="N", help="of the clips, pixels")
        parser.add_argument("--filmstrips", type=Path, metavar="DIR", help="a sheet per scene, 3x")
    parser.add_argument("--steps", type=int, metavar="N", help="denoising steps")
    parser.add_argument("--seed", type=int, metavar="S")
    return parser


def models_of(given: argparse.Namespace, *, faces: bool = False) -> Models:
    """The model asked for, making all clips of the size asked for, or that it has for faces."""
    models = load_models(given.model, given.device)
    own = models.settings
    side = getattr(given, "side", None) or (faces and own.face_short_side) or own.short_side
    return replace(models, settings=replace(own, short_side=side, face_short_side=side))


def settings_of(models: Models, given: argparse.Namespace) -> dict[str, int]:
    """Steps and seed: as given, or the model's own."""
    seed = models.settings.seed if given.seed is None else given.seed
    return {"steps": given.steps or models.settings.steps, "seed": seed}


def driven(
    image: UInt8[np.ndarray, "H W 3"], landmarks: Float[Tensor, "T 68 2"], **settings: Any
) -> Clip:
    """A clip that follows landmarks given in pixels of the image. settings: of `animate`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "landmarks.npy"
        np.save(file, landmarks.numpy())
        return animate(image, face=file, **settings | {"num_frames": len(landmarks)})


class Run:
    """One run of a benchmark.

    Attributes:
        given: the command line.
        settings: steps, seed, and others of `animate`. how: those and the model.
        size: (H, W) of the scenes. frames: of each of their clips.
        about: model, tracker and settings, for the JSON file.
    """

    def __init__(self, given: argparse.Namespace, *, faces: bool = False, **settings: Any):
        """Load the model. faces: at its size for faces. settings: beyond steps and seed."""
        self.given, self.begin = given, time.monotonic()
        models = models_of(given, faces=faces)
        self.session = Session(models)
        self.settings = settings_of(models, given) | settings
        self.how = {"model": self.session} | self.settings
        self.size, self.frames = (models.settings.short_side,) * 2, models.settings.num_frames
        self.about = {"model": models.name, "hash": models.hash, "tracker": TRACKER} | self.settings

    def announce(self, *more: str) -> None:
        """Print what is measured, and how."""
        model = f"model {self.about['model']}, weights {self.about['hash']}"
        print(", ".join([model, str(self.settings), *more, f"tracker {' + '.join(TRACKER)}"]))

    def scored(
        self,
        scenes: Iterable[Scene],
        clips_of: Callable[["Run", Any], Clips],
        scores_of: Callable[[Any, Tensor], dict[str, float]],
        shown: Sequence[str] = (),
    ) -> Results:
        """Scores of every clip of every scene, by row; with a sheet of the rows that are shown."""
        results = []
        for scene in tqdm(scenes, unit="scene"):
            clips = clips_of(self, scene)
            results.append({row: scores_of(scene, clip) for row, clip in clips.items()})
            if self.given.filmstrips and shown:
                title = f"{self.session.name} · {scene.name}"
                sheet = scene_sheet(scene, {row: clips[row] for row in shown}, title)
                name = "_".join(scene.name.replace(",", "").split())
                save_picture(self.given.filmstrips / f"{name}.png", sheet)
        return results

    def end(self, content: Mapping, checks: Sequence[Check] = ()) -> None:
        """Print what was reached and how long it took; write all figures where asked for."""
        reached = f"\n{checks_table(checks)}\n" if checks else ""
        print(f"{reached}\n{time.monotonic() - self.begin:.0f} s")
        if self.given.json:
            figures = {"checks": checks_figures(checks)} if checks else {}
            write_json(self.given.json, self.about | content | figures)
