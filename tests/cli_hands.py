"""The command line without a model: what stands in for it, and a folder to work in."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mofa_nb.__main__ import main
from mofa_nb.pipeline.outputs import Clip

DATA = Path(__file__).resolve().parents[1] / "data"
GOOD = {"size": [96, 64], "tracks": [[[20, 20], [60, 30]]]}


def still_clip(image, motion, *, model, progress=None, num_frames=5, fps=8, **settings):
    """Stands in for the model: repeats the image, and tells of its progress."""
    for done in range(3) if progress else ():
        progress("denoise", done + 1, 3)
    return Clip(
        frames=np.repeat(image[None], min(num_frames, 14), axis=0),
        flow=torch.zeros(min(num_frames, 14) - 1, 2, *image.shape[:2]),
        image=image,
        motion=motion,
        settings={"num_frames": num_frames, "fps": fps, **settings},
        seconds={"denoise": 1.0},
        model=model if isinstance(model, str) else "mini",
        model_hash="00",
        notes=("the picture was cropped",),
    )


@pytest.fixture
def calls(monkeypatch):
    """Replaces the model by `still_clip`; collects what it was called with."""
    seen = []

    def animate(image, motion, **settings):
        seen.append({"image": image, "motion": motion, **settings})
        return still_clip(image, motion, **settings)

    monkeypatch.setitem(sys.modules, "mofa_nb.animate", types.SimpleNamespace(animate=animate))
    return seen


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a photograph, a motion file and a model folder."""
    Image.new("RGB", (96, 64), (90, 120, 60)).save(tmp_path / "photo.png")
    (tmp_path / "move.json").write_text(json.dumps(GOOD))
    (tmp_path / "weights" / "mini" / "s2d").mkdir(parents=True)
    (tmp_path / "weights" / "mini" / "s2d" / "config.json").write_text('{"grid": 8}')
    monkeypatch.setenv("MOFA_NB_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *arguments, command=("animate",)):
    """The one sentence that a command answers with."""
    assert main([*command, *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("mofa_nb: ")
    return lines[0]
