"""Does it work here? `python -m mofa_nb check` tries everything a clip needs and writes it down, in
`check.json` and `check.png` to attach to a question."""

import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # accelerate requires it
import torch
from PIL import Image

from mofa_nb.animate import Session, animate
from mofa_nb.checks import InputError, refusing, whole_file
from mofa_nb.config import SPEEDS, WAYS
from mofa_nb.models.memory import arrange, weight_bytes
from mofa_nb.models.models import Models, default_device
from mofa_nb.motion import Motion
from mofa_nb.paths import data_file
from mofa_nb.pipeline.outputs import Clip, package_versions
from mofa_nb.show import draw_tracks, grid
from mofa_nb.study.metrics import at_points, motion_scores, track_points

MOTIONS = ("flower_sways", "rocket_rises", "china_camera")  # shipped, without a face
STEPS, GUIDED = 25, (1.0, 3.0)  # the release's: speeds differ in what they leave out of these
OFF = "EPE {epe_px} px ({epe_share_of_still} of a still's), {seconds} s"
Rows = dict[str, list[np.ndarray]]  # of the page, by what is said of them
Found = tuple[str, str, dict[str, Any]]  # a name, a sentence, values by name


def check(
    model: str | Models, device: str | None, folder: Path, say: Callable[[str], None],
    short: bool = False, **parts: str | None,
) -> dict[str, str]:  # fmt: skip
    """Try a model on this machine, telling `say` of everything; returns a sentence on each thing.
    Values and pictures are in `folder`, too, each written as it comes. `parts` are `base` and
    `few_step` of a released model. The `short` form takes one step of a small clip in every memory
    way, nothing else. InputError, at the end: mini was tried, as the model cannot be loaded."""
    device = model.device if isinstance(model, Models) else torch.device(device or default_device())
    results, rows, refusals = {}, {}, []
    for name, says, values in tried(model, device, parts, short, rows, refusals):
        results[name] = {"says": says} | values
        say(f"{name}: {says}")
        with refusing(f"{folder} cannot be written", "choose another --out folder", OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / "check.json") as partial:  # it stands if the next one fails
                text = json.dumps(results, indent=1, ensure_ascii=False)
                partial.write_text(text + "\n", encoding="utf-8")
            if rows:
                title = f"{results['model']['says']} · {results['machine']['says']}"
                sheet = grid([*rows.values()], row_labels=[*rows], title=title, cell_height=150)
                Image.fromarray(sheet).save(folder / "check.png")
    say(f"written: {folder / 'check.json'}")
    if refusals:
        raise InputError(f"{refusals[0]} (mini was tried in its place)")
    return {name: values["says"] for name, values in results.items()}


def tried(
    model: str | Models, device: torch.device, parts: dict, short: bool, rows: Rows,
    refusals: list[str],
) -> Iterator[Found]:  # fmt: skip
    """Each thing that was tried with what came of it; pictures are put into `rows`, and why the
    model cannot be loaded into `refusals`."""
    yield machine(device)
    session = Session(model, str(device), **parts)
    try:
        session.load()
    except Exception as error:  # whatever it is, it is what one wants to know
        refusals.append(f"{model} was not loaded: {error or type(error).__name__}")
        yield f"loading {model}", refusals[0], {"error": type(error).__name__}
        session = Session("mini", "cpu")
    yield described(session.models)
    first, small = None, {"num_frames": 2, "size": (2 * session.models.multiple,) * 2}
    for way in WAYS:
        clip, values = timed(session, memory=way, steps=1, guidance=GUIDED, **small)
        first = clip.frames.astype(int) if first is None else first
        apart = int(np.abs(clip.frames - first).max())
        says = [f"{values['seconds']} s, at most {apart} of 255 apart"]
        says += [note for note in clip.notes if "memory" in note]
        yield f"memory {way}", "; ".join(says), {"levels_of_255_apart": apart} | values
    how, (width, height) = small | {"steps": 1, "trajectory_scale": 0.0}, small["size"]
    moving = Motion((width, height)).with_track([(width / 3, height / 2), (width / 2, height / 2)])
    both = (timed(session, motion=motion, **how)[0] for motion in (moving, Motion(moving.size)))
    same = np.array_equal(*(clip.frames for clip in both))
    yield "scale 0 beside plain SVD", "the same" if same else "DIFFERENT", {"same": same}
    for name in () if short else MOTIONS:
        yield name, *both_pixels(session, name, rows)
    # Of fewer steps there would be nothing to leave out: a small clip takes so many instead.
    few, exact = session.defaults["steps"] < STEPS, None
    for name, speed in () if short else SPEEDS.items():
        more = {"steps": speed.steps_of(STEPS), "guidance": GUIDED} | small if few else {}
        values = timed(session, speed=name, **more)[1]
        exact = exact or values["seconds"]
        times = {"times_as_fast": round(exact / values["seconds"], 2)}
        says = f"{values['seconds']} s, {times['times_as_fast']} times as fast as exact"
        yield f"speed {name}", says, times | values
    out = ["faces"] + ["motions and speeds"] * short
    out += ["the card's memory"] * (session.models.device.type != "cuda")
    out += ["the published weights"] * (session.name != "release")
    yield "left out", ", ".join(out), {"names": out}


def machine(device: torch.device) -> Found:
    """What is installed, the card, and what is free."""
    memory, disk = psutil.virtual_memory().available, shutil.disk_usage(Path.cwd()).free
    says = f"torch {torch.__version__} on {device}"
    values = {"system": platform.platform(), "device": str(device), "cuda": torch.version.cuda}
    values |= {"memory_free_gib": gib(memory), "disk_free_gib": gib(disk)}
    if device.type == "cuda" and torch.cuda.is_available():
        card, free = torch.cuda.get_device_properties(device), torch.cuda.mem_get_info(device)[0]
        values |= {"card": card.name, "compute_capability": f"{card.major}.{card.minor}"}
        values |= {"card_gib": gib(card.total_memory), "card_free_gib": gib(free)}
        says += f", {card.name}, {gib(free)} GiB of it free"
    says += f", {gib(memory)} GiB of memory and {gib(disk)} GiB of disk free"
    return "machine", says, values | {"versions": package_versions()}


def gib(count: float) -> float:
    return round(count / 2**30, 2)


def described(models: Models) -> Found:
    """The model's hash and notes, and of each part what was loaded: strictly, by every name and
    shape (`weights.fill`)."""
    parts = {}
    for name, net in models.parts.items():
        kind = str(next(net.parameters()).dtype).removeprefix("torch.")
        sizes = {"tensors": len(net.state_dict()), "gib": gib(weight_bytes(net))}
        parts[name] = sizes | {"number_format": kind}
    values = {"name": models.name, "hash": models.hash, "notes": list(models.notes), "parts": parts}
    return "model", f"{models.name} {models.hash}, loaded strictly", values


def both_pixels(session: Session, name: str, rows: Rows) -> tuple[str, dict[str, Any]]:
    """A shipped motion as the model makes it by itself, its adapters seeing pixels either way."""
    values = {}
    for pixels, so in (("[-1, 1]", nullcontext), ("[0, 1]", pixels_as_trained)):
        with so(session):
            clip, cost = timed(session, name)
        values[f"pixels in {pixels}"] = own = cost | followed(clip)
        drawn = draw_tracks(clip.image, clip.fitted_motion, min_side=150)
        label = f"{name}, pixels in {pixels}: {OFF.format(**own)}"
        rows[label] = [drawn, *clip.frames[1::3]]
    return "; ".join(f"{key}: {OFF.format(**own)}" for key, own in values.items()), values


@contextmanager
def pixels_as_trained(session: Session) -> Iterator[None]:
    """Adapters see the first frame in [0, 1] as the original's training shows it, not in [-1, 1] as
    its demos do (SPEC 3, 6.1)."""
    with ExitStack() as hooks:
        for adapter in session.models.adapters.values():
            net = adapter.controlnet_cond_embedding
            hooks.enter_context(net.register_forward_pre_hook(lambda _, given: (given[0] + 1) / 2))
        yield


def timed(
    session: Session, name: str = MOTIONS[0], motion: Motion | None = None, **settings
) -> tuple[Clip, dict[str, Any]]:
    """A clip of a shipped picture, by default with its motion, and what that took. A card's memory
    is looked at once the weights lie where a memory way wants them."""
    device, picture = session.models.device, data_file(f"{name.split('_')[0]}.jpg")
    if way := settings.get("memory"):
        arrange(session.models, way)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    begin = time.monotonic()
    clip = animate(picture, motion or data_file(f"{name}.json"), model=session, **settings)
    values: dict[str, Any] = {"seconds": round(time.monotonic() - begin, 2)}
    if device.type == "cuda":
        values["card_peak_gib"] = gib(torch.cuda.max_memory_allocated(device))
    used = {"frames": len(clip.frames), "size": list(clip.image.shape[1::-1])}
    return clip, values | used | {"steps": clip.settings["steps"], "notes": list(clip.notes)}


def followed(clip: Clip) -> dict[str, float]:
    """How far tracked points are from where the flow wants them: end-point error (EPE)."""
    tracks, (height, width) = clip.fitted_motion.tracks, clip.image.shape[:2]
    starts = torch.tensor([track.points[0] for track in tracks]).round().long()
    inside = (starts >= 0).all(1) & (starts < torch.tensor([width, height])).all(1)
    points = starts[inside]
    scores = motion_scores(track_points(clip.frames, points), at_points(clip.flow, points))
    return {"epe_px": round(scores.epe, 2), "epe_share_of_still": round(scores.ratio, 2)}
