"""Command-line options that every benchmark takes."""

import argparse
from dataclasses import replace
from pathlib import Path

from mofa_nb.models.load import load_models
from mofa_nb.models.models import Models


def options(doc: str, *, scenes: int | None = None) -> argparse.ArgumentParser:
    """A parser with the common options.

    Args:
        doc: of the script; its first line is the description.
        scenes: how many there are, all by default; None for a benchmark without scenes.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    if scenes:
        parser.add_argument(
            "--scenes", type=int, default=scenes, metavar="N", help=f"1 to {scenes}"
        )
        parser.add_argument("--side", type=int, metavar="N", help="of the clips, pixels")
        parser.add_argument("--filmstrips", type=Path, metavar="DIR", help="a sheet per scene, 3x")
    parser.add_argument("--steps", type=int, metavar="N", help="denoising steps")
    parser.add_argument("--seed", type=int, metavar="S")
    parser.add_argument("--model", default="mini", help="mini, release or a model folder")
    parser.add_argument("--device", default=None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
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
