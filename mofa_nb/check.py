"""Does it work here? `python -m mofa_nb check` tries everything a clip needs and writes it down, in
`check.json` and `check.png` to attach to a question."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mofa_nb.animate import Session, animate
from mofa_nb.checks import refusing, whole_file
from mofa_nb.config import SPEEDS, WAYS
from mofa_nb.models.memory import gib, weight_bytes
from mofa_nb.models.models import Models
from mofa_nb.motion import Motion
from mofa_nb.paths import data_file
from mofa_nb.pipeline.outputs import Clip, package_versions
from mofa_nb.show import filmstrip, grid
from mofa_nb.study.metrics import at_points, motion_scores, track_points

MOTIONS = ("flower_sways", "rocket_rises", "china_camera")  # shipped, without a face


def check(
    model: str | Models, device: str | None, folder: Path, say: Callable[[str], None],
    short: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Try a model on this machine, telling `say` of everything; what was found is in `folder`, too.
    The `short` form takes one step of a small clip in every memory way, nothing else."""
    strips, results = [], {}
    for name, value in tried(Session(model, device), short, strips):
        results[name] = value
        say(f"{name}: {value}")
        with refusing(f"{folder} cannot be written", "choose another --out folder", OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / "check.json") as partial:  # it stands if the next one fails
                text = json.dumps(results, indent=1, ensure_ascii=False)
                partial.write_text(text + "\n", encoding="utf-8")
            if strips:
                Image.fromarray(grid([[strip] for strip in strips])).save(folder / "check.png")
    say(f"written: {folder / 'check.json'}")
    return results


def tried(session: Session, short: bool, strips: list[np.ndarray]) -> Iterator[tuple[str, Any]]:
    """Each thing that was tried with what came of it; pictures of clips are put into `strips`."""
    yield "machine", machine(session.models.device)
    yield "model", described(session)
    clips = {way: small(session, memory=way, guidance=(1.0, 3.0)) for way in WAYS}
    for way, clip in clips.items():
        apart = int(np.abs(clip.frames.astype(int) - clips["full"].frames).max())
        yield f"memory {way}", f"{sum(clip.seconds.values()):.1f} s, at most {apart} of 255 apart"
    small(session, memory="auto")
    size = session.image.shape[1::-1]
    moving = Motion(size).with_track([(size[0] / 3, size[1] / 2), (size[0] / 2, size[1] / 2)])
    plain, still = (small(session, m, trajectory_scale=0.0).frames for m in (moving, Motion(size)))
    same = np.array_equal(plain, still)
    yield "scale 0 beside plain SVD", "the same" if same else "DIFFERENT"
    for name in () if short else MOTIONS:
        clip, cost = shipped(session, name)
        strips.append(filmstrip(clip.frames, title=clip.title, height=160))
        with pixels_as_trained(session):
            other = followed(shipped(session, name)[0])["EPE / still"]
        yield name, followed(clip) | cost | {"EPE / still, pixels in [0, 1]": other}
    for speed in () if short else SPEEDS:
        yield f"speed {speed}", shipped(session, MOTIONS[0], speed=speed)[1]
    left_out = {
        "faces": True,
        "motions and speeds": short,
        "the card's memory": session.models.device.type != "cuda",
        "the published weights": session.name != "release",
    }
    yield "left out", ", ".join(name for name, is_out in left_out.items() if is_out)


@contextmanager
def pixels_as_trained(session: Session) -> Iterator[None]:
    """Adapters see the first frame in [0, 1] as the original's training shows it, not in [-1, 1] as
    its demos do (SPEC 3, 6.1)."""
    nets = [adapter.controlnet_cond_embedding for adapter in session.models.adapters.values()]
    hooks = [net.register_forward_pre_hook(lambda _, given: (given[0] + 1) / 2) for net in nets]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def machine(device: torch.device) -> dict[str, Any]:
    """What is installed, the card and its memory, free disk."""
    details: dict[str, Any] = {"versions": package_versions(), "device": str(device)}
    details["free disk GiB"] = gib(shutil.disk_usage(Path.cwd()).free)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        details |= {"card": torch.cuda.get_device_name(device), "GiB": gib(total)}
        details |= {"free GiB": gib(free), "compute": torch.cuda.get_device_capability(device)}
    return details


def described(session: Session) -> dict[str, Any]:
    """The model's hash and notes, and each part's size (in tensors, too) and number format."""
    models, parts = session.models, {}
    for name, net in models.parts.items():
        count = sum(values.numel() for values in net.parameters())
        sizes = {"tensors": len(net.state_dict()), "million": round(count / 1e6, 1)}
        kind = str(next(net.parameters()).dtype)
        parts[name] = sizes | {"GiB": gib(weight_bytes(net)), "format": kind}
    return {"name": models.name, "hash": models.hash, "notes": list(models.notes), "parts": parts}


def small(session: Session, motion: Motion | None = None, **settings) -> Clip:
    """A clip of one step of the first shipped picture, as small as the model can."""
    motion = motion or data_file(f"{MOTIONS[0]}.json")
    settings |= {"steps": 1, "num_frames": 2, "size": (2 * session.models.multiple,) * 2}
    return animate(data_file("flower.jpg"), motion, model=session, **settings)


def shipped(session: Session, name: str, **settings) -> tuple[Clip, dict[str, Any]]:
    """A shipped picture with its motion, as the model makes it by itself, and what that took."""
    begin, cuda = time.monotonic(), session.models.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(session.models.device)
    picture, motion = (data_file(f) for f in (f"{name.split('_')[0]}.jpg", f"{name}.json"))
    clip = animate(picture, motion, model=session, **settings)
    cost: dict[str, Any] = {"seconds": round(time.monotonic() - begin, 1)}
    return clip, cost | ({"peak GiB": gib(torch.cuda.max_memory_allocated())} if cuda else {})


def followed(clip: Clip) -> dict[str, float]:
    """How far drawn points are followed: end-point error, pixels and as a share of a still's."""
    tracks, (height, width) = clip.fitted_motion.tracks, clip.image.shape[:2]
    starts = torch.tensor([track.points[0] for track in tracks]).round().long()
    inside = (starts >= 0).all(1) & (starts < torch.tensor([width, height])).all(1)
    points = starts[inside]
    scores = motion_scores(track_points(clip.frames, points), at_points(clip.flow, points))
    return {"EPE": round(scores.epe, 2), "EPE / still": round(scores.ratio, 2)}
