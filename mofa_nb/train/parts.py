"""Parts of a model under training: from their weights where there are some, else fresh."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from mofa_nb.models import weights


def open_parts(
    folder: Path, names: Sequence[str], device: str | torch.device = "cpu"
) -> dict[str, nn.Module]:
    """Each part from `folder/<part>`: loaded strictly when it has weights, else initialised."""
    parts = {}
    for name in names:
        place = folder / name
        if weights.has_weights(place):
            part = weights.load_part(name, place)
        else:
            part = weights.build(name, weights.read_config(place))
        parts[name] = part.to(device).requires_grad_(False).eval()
    return parts


def store_parts(
    folder: Path,
    parts: Mapping[str, nn.Module],
    configs: Path,
    dtype: torch.dtype = torch.float16,
    changes: Mapping[str, Mapping] | None = None,
) -> None:
    """Write parts with the configs of the model they came from, with `changes` per part.

    Args:
        dtype: see `weights.save_part`.
    """
    for name, part in parts.items():
        config = weights.read_config(configs / name) | dict((changes or {}).get(name, {}))
        weights.save_part(name, part, config, folder / name, dtype)


def store_log(folder: Path, stage: str, log: list[dict[str, int | float]], keep: int = 200) -> None:
    """The training curve of a stage as a small JSON beside the weights."""
    every = max(1, len(log) // keep)
    lines = {line["step"]: line for line in log[::every] + log[-1:]}
    text = json.dumps(list(lines.values()))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stage}.json").write_text(text + "\n", encoding="utf-8")
