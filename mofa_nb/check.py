"""Does it work here? `python -m mofa_nb check` tries everything a clip needs and writes it down.

`check.json` and `check.png` are made to be attached to a question. What cannot be tried is named.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mofa_nb.animate import Session, animate
from mofa_nb.config import SPEEDS, WAYS
from mofa_nb.models.memory import gib, weight_bytes
from mofa_nb.motion import Motion
from mofa_nb.paths import data_file
from mofa_nb.pipeline.outputs import Clip, package_versions
from mofa_nb.show import filmstrip, grid
from mofa_nb.study.metrics import at_points, motion_scores, track_points

MOTIONS = ("flower_sways", "rocket_rises", "china_camera")  # shipped, without a face
Say = Callable[[str], None]


def check(model: str, device: str | None, folder: Path, say: Say, short: bool = False) -> dict:
    """Try a model on this machine, telling `say` of everything; what was found is in `folder`, too.

    The `short` form takes one step of a small clip in every memory way, nothing else.
    """
    session = Session(model, device)
    found: dict[str, Any] = {"machine": machine(session.models.device)}
    folder.mkdir(parents=True, exist_ok=True)
    say(f"machine: {found['machine']}")
    found["model"] = described(session)
    say(f"model {session.name}: loaded strictly in {session.seconds.get('load', 0):.0f} s")
    found["ways"] = compared_ways(session)
    found["scale 0"] = still_svd(session)
    for name, value in (found["ways"] | {"scale 0 beside plain SVD": found["scale 0"]}).items():
        say(f"{name}: {value}")
    pictures = []
    found["motions"], found["speeds"] = {}, {}
    for name in () if short else MOTIONS:
        clip = shipped(session, name)
        found["motions"][name] = followed(clip) | took(clip)
        pictures.append(filmstrip(clip.frames, title=clip.title, height=160))
        say(f"{name}: {found['motions'][name]}")
    for speed in () if short else SPEEDS:
        found["speeds"][speed] = took(shipped(session, MOTIONS[0], speed=speed))
        say(f"speed {speed}: {found['speeds'][speed]}")
    left_out = ["faces"] + ["motions and speeds"] * short
    left_out += ["the card's memory"] if session.models.device.type != "cuda" else []
    left_out += ["the published weights"] if session.name != "release" else []
    found["left out"] = left_out
    say(f"left out: {', '.join(left_out)}")
    if pictures:
        Image.fromarray(grid([[p] for p in pictures])).save(folder / "check.png")
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (folder / "check.json").write_text(text + "\n", encoding="utf-8")
    say(f"written: {folder / 'check.json'}")
    return found


def machine(device: torch.device) -> dict[str, Any]:
    """What is installed, the card and its memory, free disk."""
    found: dict[str, Any] = {"versions": package_versions(), "device": str(device)}
    found["free disk GiB"] = gib(shutil.disk_usage(Path.cwd()).free)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        found |= {"card": torch.cuda.get_device_name(device), "GiB": gib(total)}
        found |= {"free GiB": gib(free), "compute": torch.cuda.get_device_capability(device)}
    return found


def described(session: Session) -> dict[str, Any]:
    """The model's hash and notes, and each part's size and number format."""
    models = session.models
    parts = {}
    for name, net in models.parts.items():
        sizes = [values.numel() for values in net.parameters()]
        parts[name] = {"million": round(sum(sizes) / 1e6, 1), "GiB": gib(weight_bytes(net))}
        parts[name]["format"] = str(next(net.parameters()).dtype)
    return {"name": models.name, "hash": models.hash, "notes": list(models.notes), "parts": parts}


def compared_ways(session: Session) -> dict[str, str]:
    """One step of a small clip in every memory way, beside the first one's pixels."""
    full, found = None, {}
    for way in WAYS:
        clip = small(session, memory=way, guidance=(1.0, 3.0))
        full = clip.frames if full is None else full
        apart = int(np.abs(clip.frames.astype(int) - full).max())
        found[f"memory {way}"] = f"{sum(clip.seconds.values()):.1f} s, at most {apart} of 255 apart"
    small(session, memory="auto")
    return found


def still_svd(session: Session) -> str:
    """Whether an adapter at scale 0 leaves SVD alone."""
    size = session.image.shape[1::-1]
    motion = Motion(size).with_track([(size[0] / 3, size[1] / 2), (size[0] / 2, size[1] / 2)])
    clips = [small(session, m, trajectory_scale=0.0) for m in (motion, Motion(size))]
    return "the same" if np.array_equal(clips[0].frames, clips[1].frames) else "DIFFERENT"


def small(session: Session, motion: Motion | None = None, **settings) -> Clip:
    """A clip of one step of the first shipped picture, as small as the model can."""
    size = (2 * session.models.multiple,) * 2
    motion = motion or data_file(f"{MOTIONS[0]}.json")
    settings |= {"steps": 1, "num_frames": 2, "size": size}
    return animate(data_file("flower.jpg"), motion, model=session, **settings)


def shipped(session: Session, name: str, **settings) -> Clip:
    """A shipped picture with its motion, as the model makes it by itself."""
    begin, cuda = time.monotonic(), session.models.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(session.models.device)
    picture, motion = (data_file(f) for f in (f"{name.split('_')[0]}.jpg", f"{name}.json"))
    clip = animate(picture, motion, model=session, **settings)
    clip.seconds["all"] = time.monotonic() - begin
    return clip


def took(clip: Clip) -> dict[str, float]:
    """Seconds of a clip, and what it took of a card."""
    found = {"seconds": round(clip.seconds["all"], 1)}
    if torch.cuda.is_available():
        found["peak GiB"] = gib(torch.cuda.max_memory_allocated())
    return found


def followed(clip: Clip) -> dict[str, float]:
    """How far drawn points are followed: end-point error, pixels and as a share of a still's."""
    tracks, (height, width) = clip.fitted_motion.tracks, clip.image.shape[:2]
    starts = torch.tensor([track.points[0] for track in tracks]).round().long()
    inside = (starts >= 0).all(1) & (starts < torch.tensor([width, height])).all(1)
    points = starts[inside]
    scores = motion_scores(track_points(clip.frames, points), at_points(clip.flow, points))
    return {"EPE": round(scores.epe, 2), "EPE / still": round(scores.ratio, 2)}
