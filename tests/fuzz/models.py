"""Model folders: settings, configs and tensors of other kinds, values and sizes; missing files."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from mofa_nb.models.load import load_models
from tests.fuzz.bytes import damaged

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini"
ODD = [None, True, False, 0, -1, 1, 3, 0.5, 1e308, 2**40, "", "x", "median", [], {}, [1],
       [1, 2, 3, 4], [0, 0], {"a": 1}, "../..", "http://127.0.0.1:9", float("nan"),
       float("inf")]  # fmt: skip


def inputs(rng: np.random.Generator, folder: Path):
    """A name for one input, and what is done with it."""
    model = folder / "model"
    model.mkdir()
    for part in MINI.iterdir():
        if part.is_dir() and part.name != "curves":
            shutil.copytree(part, model / part.name, copy_function=os.symlink)
    shutil.copy(MINI / "settings.json", model)
    for note in MINI.glob("*.sha256*"):
        shutil.copy(note, model)
    act = [config, config, config, tensor, tensor, text, missing][int(rng.integers(7))]
    return f"{act.__name__}: {act(rng, model)}", {"load": partial(load_models, model, "cpu")}


def _choice(rng: np.random.Generator, model: Path, pattern: str) -> Path:
    files = sorted(model.rglob(pattern))
    return files[int(rng.integers(len(files)))]


def _own(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def config(rng: np.random.Generator, model: Path) -> str:
    """One value of a JSON file is another, is missing, or is new."""
    path = _choice(rng, model, "*.json")
    values = json.loads(path.read_text(encoding="utf-8"))
    key = str(rng.choice([*values, "new"]))
    odd = ODD[int(rng.integers(len(ODD)))]
    if isinstance(values.get(key), list) and values[key] and rng.random() < 0.5:
        values[key][int(rng.integers(len(values[key])))] = odd
    elif rng.random() < 0.2:
        values.pop(key, None)
    else:
        values[key] = odd
    if rng.random() < 0.05:
        values = odd
    _own(path, json.dumps(values).encode())
    return f"{path.relative_to(model)}, {key}: {odd!r}"


def tensor(rng: np.random.Generator, model: Path) -> str:
    """One tensor is of another type or shape, not finite, zero, gone, or one too many."""
    path = _choice(rng, model, "*.safetensors")
    tensors = load_file(path)
    name = str(rng.choice(sorted(tensors)))
    was = tensors[name].float()
    broken = was.clone()
    broken.view(-1)[0] = float(rng.choice([np.nan, np.inf]))
    kinds = {
        "int": was.int(),
        "complex": was.to(torch.complex64),
        "bool": was.bool(),
        "half": was.half(),
        "nan": broken,
        "nan all": was * np.nan,
        "zero": was * 0,
        "short": was.flatten()[:-1].clone(),
        "double": was.double(),
        "scalar": was.flatten()[0].clone(),
    }
    how = str(rng.choice([*kinds, "gone", "new", "all zero", "all int"]))
    if how.startswith("all"):
        tensors = {k: v * 0 if how == "all zero" else v.int() for k, v in tensors.items()}
    elif how in kinds:
        tensors[name] = kinds[how]
    elif how == "gone":
        del tensors[name]
    else:
        tensors["new"] = was
    path.unlink()
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    return f"{path.parent.name}, {name}: {how}"


def text(rng: np.random.Generator, model: Path) -> str:
    """A file's bytes are damaged."""
    path = _choice(rng, model, "*.*")
    while path.is_dir():
        path = _choice(rng, model, "*.*")
    how, data = damaged(rng, path.read_bytes())
    _own(path, data)
    return f"{path.relative_to(model)}: {how}"


def missing(rng: np.random.Generator, model: Path) -> str:
    """A file or a folder is gone, or a folder stands in a file's place."""
    path = _choice(rng, model, "*")
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if rng.random() < 0.3:
        path.mkdir()
    return str(path.relative_to(model))
