"""Does it work here? `python -m mofa_nb check` tries everything a clip needs and writes it down, in
`check.json` and `check.png` to attach to a question."""

import gc
import json
import platform
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil  # accelerate requires it
import torch
from huggingface_hub import constants
from PIL import Image
from torch.utils import collect_env

from mofa_nb.animate import Session, animate
from mofa_nb.checks import InputError, refusing, whole_file
from mofa_nb.config import SPEEDS, WAYS
from mofa_nb.models.memory import arrange, weight_bytes
from mofa_nb.models.models import Models, default_device
from mofa_nb.motion import Motion, fit_motion
from mofa_nb.paths import data_file
from mofa_nb.pipeline.outputs import Clip, package_versions
from mofa_nb.show import draw_tracks, grid
from mofa_nb.study.metrics import at_points, motion_scores, track_points

MOTIONS = ("flower_sways", "rocket_rises", "china_camera")  # shipped, without a face
STEPS, GUIDED = 25, (1.0, 3.0)  # the release's: speeds differ in what they leave out of these
OFF = "EPE {epe_px} px ({epe_share_of_still} of a still's {still_epe_px} px), {seconds} s"
MORE = ("accelerate", "huggingface_hub")  # whose versions clips do not note


class Found(NamedTuple):
    """What came of one thing that was tried: a sentence, values by name, a part of the page."""

    name: str
    says: str
    values: dict[str, Any]
    picture: np.ndarray | None = None


def check(
    model: str | Models, device: str | None, folder: Path, say: Callable[[str], None],
    short: bool = False, **parts: str | None,
) -> dict[str, str]:  # fmt: skip
    """Try a model on this machine, telling `say` of everything. Returns a sentence on each thing;
    values and pictures are in `folder`, too, each written as it comes. `parts` are `base` and
    `few_step` of a released model. The `short` form takes one step of a small clip in every memory
    way, nothing else. InputError, at the end: mini was tried, as the model cannot be loaded."""
    results, pictures = {}, []

    def keep(found: Found) -> None:
        results[found.name] = {"says": found.says} | found.values
        pictures.extend([] if found.picture is None else [found.picture])
        say(f"{found.name}: {found.says}")
        with refusing(f"{folder} cannot be written", "choose another --out folder", OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / "check.json") as partial:  # it stands if the next one fails
                text = json.dumps(results, indent=1, ensure_ascii=False)
                partial.write_text(text + "\n", encoding="utf-8")
            if pictures:
                title = f"{results['model']['says']} · {results['machine']['says']}"
                sheet = grid([[picture] for picture in pictures], title=title)
                Image.fromarray(sheet).save(folder / "check.png")

    device = model.device if isinstance(model, Models) else torch.device(device or default_device())
    keep(machine(device))
    session, refusal = loaded(model, str(device), keep, parts)
    try:
        for found in tried(session, short) if session else ():
            keep(found)
    except Exception as error:
        keep(failure("failed", error))
        raise
    say(f"written: {folder / 'check.json'}")
    if refusal:
        raise InputError(refusal)
    return {name: values["says"] for name, values in results.items()}


def loaded(
    model: str | Models, device: str, keep: Callable[[Found], None], parts: dict
) -> tuple[Session | None, str]:
    """A session of the model, or where it cannot be loaded of mini on the CPU, and why."""
    refusal = ""
    for name, place, own in ((model, device, parts), ("mini", "cpu", {})):
        session = Session(name, place, **own)
        try:
            session.load()
        except Exception as error:
            found = failure(f"loading {name}, {place}", error)
        else:
            if refusal:
                keep(Found("tried instead", f"{name} on {place}", {}))
            return session, refusal
        keep(found)  # here, where no error holds on to memory
        refusal = refusal or f"{name} was not loaded: {found.says}"
    return None, refusal


def failure(name: str, error: Exception) -> Found:
    """What went wrong, and the last places in the code, without folders of the user."""
    lines = traceback.extract_tb(error.__traceback__)[-6:]
    where = [f"{Path(line.filename).name}:{line.lineno} {line.name}" for line in lines]
    kind = type(error).__name__
    says = " ".join(str(error).split()) or kind
    return Found(name, says, {"error": kind, "where": where})


def machine(device: torch.device) -> Found:
    """What is installed, the cards there are, and what is free: of memory, and of disk here and
    where downloads go."""
    versions = package_versions() | {name: version(name) for name in MORE}
    driver = collect_env.get_nvidia_driver_version(collect_env.run)  # also where torch sees no card
    cache = Path(constants.HF_HUB_CACHE).absolute()
    cache = next(place for place in (cache, *cache.parents) if place.exists())
    memory = psutil.virtual_memory()
    cards = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    values: dict[str, Any] = {
        "system": platform.platform(),
        "versions": versions | {"cuda": torch.version.cuda, "nvidia_driver": driver},
        "device": str(device),
        "cpu_threads": torch.get_num_threads(),
        "cards": [{"name": card.name, "gib": gib(card.total_memory),
                   "compute_capability": f"{card.major}.{card.minor}"} for card in cards],
        "host_memory_gib": gib(memory.total),
        "host_memory_free_gib": gib(memory.available),
        "disk_free_gib": gib(shutil.disk_usage(Path.cwd()).free),
        "hub_cache_disk_free_gib": gib(shutil.disk_usage(cache).free),
    }  # fmt: skip
    says = f"torch {torch.__version__} on {device}"
    if device.type == "cuda" and (device.index or 0) < len(cards):
        values["card_free_gib"] = gib(torch.cuda.mem_get_info(device)[0])
        says += f", {cards[device.index or 0].name}, {values['card_free_gib']} GiB of it free"
    free = ", {host_memory_free_gib} GiB of memory and {disk_free_gib} GiB of disk free"
    return Found("machine", says + free.format(**values), values)


def gib(count: float) -> float:
    return round(count / 2**30, 2)


def tried(session: Session, short: bool) -> Iterator[Found]:
    """Each thing that is tried with a loaded model."""
    yield described(session.models)
    yield from memory_ways(session)
    yield scale_nought(session)
    for part in () if short else (motions, speeds):
        yield from part(session)
    left_out = {
        "faces": True,
        "motions and speeds": short,
        "the card's memory": session.models.device.type != "cuda",
        "the published weights": session.name != "release",
    }
    names = [name for name, is_out in left_out.items() if is_out]
    yield Found("left out", ", ".join(names), {"names": names})


def described(models: Models) -> Found:
    """The model's hash and notes, and of each part what was loaded: strictly, by every name and
    shape (`weights.fill`)."""
    parts = {}
    for name, net in models.parts.items():
        count = sum(values.numel() for values in net.parameters())
        kind = str(next(net.parameters()).dtype).removeprefix("torch.")
        sizes = {"tensors": len(net.state_dict()), "parameters_million": round(count / 1e6, 1)}
        parts[name] = sizes | {"gib": gib(weight_bytes(net)), "number_format": kind}
    values = {"name": models.name, "hash": models.hash, "notes": list(models.notes), "parts": parts}
    return Found("model", f"{models.name} {models.hash}, loaded strictly", values)


def memory_ways(session: Session) -> Iterator[Found]:
    """The same small clip in every way there is room for, and how far from the first one."""
    first = None
    for way in WAYS:
        try:
            clip, values = timed(session, memory=way, steps=1, guidance=GUIDED, **small(session))
        except torch.OutOfMemoryError as error:  # the weights alone are too much
            yield failure(f"memory {way}", error)
            continue
        first = clip.frames.astype(int) if first is None else first
        apart = int(np.abs(clip.frames - first).max())
        says = "; ".join([f"{told(values)}, at most {apart} of 255 apart", *values["notes"]])
        yield Found(f"memory {way}", says, {"levels_of_255_apart": apart} | values)


def scale_nought(session: Session) -> Found:
    """A motion at scale 0 beside none: the adapters add nothing, which leaves plain SVD."""
    how = small(session) | {"steps": 1, "trajectory_scale": 0.0}
    width, height = how["size"]
    moving = Motion((width, height)).with_track([(width / 3, height / 2), (width / 2, height / 2)])
    plain, still = (timed(session, motion=motion, **how)[0].frames
                    for motion in (moving, Motion((width, height))))  # fmt: skip
    same = np.array_equal(plain, still)
    return Found("scale 0 beside plain SVD", "the same" if same else "DIFFERENT", {"same": same})


def motions(session: Session) -> Iterator[Found]:
    """Shipped motions as the model makes them by itself, its adapters seeing pixels either way."""
    ways = {"pixels in [-1, 1]": nullcontext, "pixels in [0, 1]": pixels_as_trained}
    for name in MOTIONS:
        found, rows, labels = {}, [], []
        for label, so in ways.items():
            with so(session):
                clip, cost = timed(session, name)
            if name == MOTIONS[0] and not found:
                more = len(ways) * len(MOTIONS) + len(SPEEDS) - 1
                minutes = round(more * cost["seconds"] / 60, 1)
                says = f"{more}, in about {minutes} minutes (the first took {cost['seconds']} s)"
                yield Found("clips to come", says, {"clips": more, "minutes_about": minutes})
            found[label] = cost | followed(clip)
            rows.append(
                [draw_tracks(clip.image, clip.fitted_motion, min_side=150), *clip.frames[2::3]]
            )
            labels.append(f"{label}: {OFF.format(**found[label])}")
        captions = ["what was drawn", *(f"frame {k}" for k in range(2, len(clip.frames), 3))]
        size = "{width}x{height}".format(**cost)
        how = {"row_labels": labels, "title": f"{name} · {size} · {clip.title}"}
        sheet = grid(rows, [captions] * len(rows), cell_height=150, **how)
        yield Found(name, "; ".join(labels), found, sheet)


def speeds(session: Session) -> Iterator[Found]:
    """The first motion at every speed; a small clip where the model takes fewer steps by itself,
    of which there would be nothing to leave out."""
    few, exact = session.defaults["steps"] < STEPS, None
    for name, speed in SPEEDS.items():
        more = {"steps": speed.steps_of(STEPS), "guidance": GUIDED} | small(session) if few else {}
        _, values = timed(session, speed=name, **more)
        exact = exact or values["seconds"]
        times = round(exact / values["seconds"], 2)
        says = "; ".join([f"{told(values)}, {times} times as fast as exact", *values["notes"]])
        yield Found(f"speed {name}", says, {"times_as_fast": times} | values)


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


def small(session: Session) -> dict[str, Any]:
    """Settings of a clip as small as the model can."""
    return {"num_frames": 2, "size": (2 * session.models.multiple,) * 2}


def timed(
    session: Session, name: str = MOTIONS[0], motion: Motion | None = None, **settings
) -> tuple[Clip, dict[str, Any]]:
    """A clip of a shipped picture, by default with its motion, and what that took. A card's memory
    is looked at once the weights lie where a memory way wants them."""
    models = session.models
    if way := settings.get("memory"):
        arrange(models, way)
    if cuda := models.device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(models.device)
    begin, picture = time.monotonic(), data_file(f"{name.split('_')[0]}.jpg")
    clip = animate(picture, motion or data_file(f"{name}.json"), model=session, **settings)
    values: dict[str, Any] = {"seconds": round(time.monotonic() - begin, 2)}
    if cuda:
        values["card_peak_gib"] = gib(torch.cuda.max_memory_allocated(models.device))
    count, height, width = clip.frames.shape[:3]
    values |= {"frames": count, "width": width, "height": height, "steps": clip.settings["steps"]}
    usual = {*models.notes, *clip.fit.notes, *fit_motion(clip.motion, clip.fit)[1]}
    return clip, values | {"notes": [note for note in clip.notes if note not in usual]}


def told(values: dict[str, Any]) -> str:
    peak = ", at most {card_peak_gib} GiB of the card" if "card_peak_gib" in values else ""
    words = "{seconds:.1f} s for {steps} steps of {frames} frames, {width}x{height}" + peak
    return words.format(**values).replace(" 1 steps", " 1 step")


def followed(clip: Clip) -> dict[str, float]:
    """How far tracked points are from where the flow wants them: end-point error (EPE)."""
    tracks, (height, width) = clip.fitted_motion.tracks, clip.image.shape[:2]
    starts = torch.tensor([track.points[0] for track in tracks]).round().long()
    inside = (starts >= 0).all(1) & (starts < torch.tensor([width, height])).all(1)
    points = starts[inside]
    scores = motion_scores(track_points(clip.frames, points), at_points(clip.flow, points))
    values = {"epe_px": scores.epe, "still_epe_px": scores.still_epe,
              "epe_share_of_still": scores.ratio, "lost_share": scores.lost}  # fmt: skip
    return {name: round(value, 2) for name, value in values.items()}
