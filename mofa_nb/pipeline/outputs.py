"""A finished clip and its files: clip.mp4, filmstrip.png, flow.png and card.json."""

import errno
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from mofa_nb.checks import File, InputError, read_json, refusing, shown
from mofa_nb.config import OLDER
from mofa_nb.media.sound import add_sound
from mofa_nb.media.video import write_clip
from mofa_nb.motion import Fit, Motion, fit_motion

CARD_VERSION = 1
CARD = ("model", "settings", "image", "motion", "seconds", "versions", "notes")  # in every card
FILES = ("clip.mp4", "filmstrip.png", "flow.png", "card.json")
_TITLE = {  # what of the settings it says
    "steps": "{} steps", "seed": "seed {}", "trajectory_scale": "trajectory scale {}",
    "landmark_scale": "landmark scale {}",
}  # fmt: skip
_PACKAGES = "mofa_nb torch diffusers transformers accelerate huggingface_hub numpy pillow".split()


@dataclass(frozen=True)
class Clip:
    """What `animate` returns: the frames, how they came about, and what made them."""

    frames: UInt8[np.ndarray, "T H W 3"]  # RGB; frame 0 shows the image
    flow: Float[Tensor, "steps 2 H W"]  # that drove it, pixels (dx, dy), frame 0 -> frame t
    image: UInt8[np.ndarray, "H W 3"]  # fitted, RGB
    motion: Motion  # as it was given
    settings: Mapping[str, Any]  # all by name, as used, plain JSON values; "seed" and "fps" too
    seconds: Mapping[str, float]  # by stage
    model: str  # the model folder's name
    model_hash: str  # of its weights
    fit: Fit | None = None  # how the image was scaled and cropped; None if it was not
    notes: tuple[str, ...] = ()  # what the user should know, one sentence each
    image_name: str = ""  # the image file's, if it had one
    sound: Path | None = None  # file that plays along; None is silent
    # What a face was to follow, pixels of `image`; None without one.
    landmarks: Float[Tensor, "T 68 2"] | None = None

    @property
    def fitted_motion(self) -> Motion:
        if self.fit is None:
            return self.motion.resized(self.image.shape[1::-1])
        return fit_motion(self.motion, self.fit)[0]

    @property
    def title(self) -> str:
        """One line that names the model and what matters about the run."""
        used = {name: self.settings.get(name) for name in _TITLE}
        said = [_TITLE[name].format(value) for name, value in used.items() if value is not None]
        line = " · ".join([f"{self.model} model", f"{len(self.frames)} frames", *said])
        return line.replace(" 1 steps", " 1 step")


def card_json(clip: Clip) -> dict[str, Any]:
    """The card of a clip as plain values, in the order in which one wants to read them."""
    face = {}
    if clip.motion.face is not None and clip.motion.face.source is not None:
        file = Path(clip.motion.face.source)
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        face = {"face": {"name": file.name, "sha256": digest}}
    image = {"name": clip.image_name, "size": list(clip.image.shape[1::-1])}
    return {
        "card": CARD_VERSION,
        "model": {"name": clip.model, "hash": clip.model_hash},
        "settings": dict(clip.settings),
        "image": image | {"sha256": image_fingerprint(clip.image)},
        "motion": clip.motion.to_json(),
        **face,
        "seconds": {name: round(float(s), 3) for name, s in clip.seconds.items()},
        "versions": package_versions(),
        "notes": list(clip.notes),
    }


def image_fingerprint(image: UInt8[np.ndarray, "H W 3"]) -> str:
    """sha256 of the pixels: the same picture in another file format keeps it."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def package_versions() -> dict[str, str]:
    """Python's version and those of the packages that shape a clip."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def load_card(path: File) -> dict[str, Any]:
    """A card.json, or the one in a folder of outputs, as `card_json` makes it, but with a `Motion`
    and settings by their present names; InputError if it is none."""
    path = Path(path, "card.json") if Path(path).is_dir() else Path(path)
    data = read_json(path, "card")
    try:
        if data["card"] != CARD_VERSION:
            came = f"version {shown(data['card'])}, but this mofa_nb reads {CARD_VERSION}"
            raise InputError(f"card {path} has {came}: use the newer mofa_nb that wrote it")
        model = {name: data["model"][name] for name in ("name", "hash")}
        settings = {OLDER.get(name, name): value for name, value in data["settings"].items()}
        motion = Motion.from_json(data["motion"])
        read = {"model": model, "settings": settings, "motion": motion}
        return {name: data[name] for name in CARD} | data | read
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not a card: it lacks {error}") from error


def flow_picture(clip: Clip) -> UInt8[np.ndarray, "h w 3"]:
    """What was drawn, and the dense flow that it became (first to last frame), with a legend."""
    from mofa_nb import show as viz
    from mofa_nb.faces.draw import landmarks_over

    scale, image = viz.longest_vector(clip.flow), clip.image
    if clip.landmarks is not None:
        image = landmarks_over(image, clip.landmarks[-1].numpy())
    drawn = viz.draw_tracks(image, clip.fitted_motion)
    flow = viz.to_height(viz.flow_to_rgb(clip.flow[-1], scale), drawn.shape[0])
    captions = ["what was drawn", f"dense flow, frame 0 → {len(clip.frames) - 1}", ""]
    return viz.grid([[drawn, flow, viz.flow_legend(scale)]], [captions], title=clip.title)


def write_files(clip: Clip, folder: File, *, called: File | None = None) -> None:
    """Write the clip's four files into an existing folder; of a closed loop a GIF and a WebP, too.
    InputError, with the folder's name or what it is `called`, where it cannot be written to."""
    from mofa_nb.show import filmstrip

    folder, fps = Path(folder), clip.settings["fps"]
    with _writing_to(called or folder):
        video = folder / "clip.mp4"
        write_clip(video, clip.frames, fps, clip.title)
        for suffix in (".gif", ".webp") if clip.motion.after == "close" else ():
            write_clip(video.with_suffix(suffix), clip.frames, fps)
        if clip.sound is not None:
            begin = clip.motion.face.begin if clip.motion.face else 0.0
            add_sound(video, clip.sound, video, begin)
        strip = filmstrip(clip.frames, title=clip.title, height=max(160, clip.frames.shape[1]))
        Image.fromarray(strip).save(folder / "filmstrip.png")
        Image.fromarray(flow_picture(clip)).save(folder / "flow.png")
        text = json.dumps(card_json(clip), indent=1, ensure_ascii=False)
        (folder / "card.json").write_text(text + "\n", encoding="utf-8")


def write_outputs(clip: Clip, folder: File, *, overwrite: bool = False) -> Path:
    """Write the clip's four files into `folder`: all of them or none. Returns the folder."""
    with new_folder(folder, overwrite=overwrite) as partial:
        write_files(clip, partial, called=folder)
    return Path(folder)


def free_folder(path: File, first: str = "") -> Path:
    """The first of `path` + `first`, path-2, path-3, ... that is not there, or holds nothing; what
    a killed run left counts as nothing, what another one is writing does not."""
    ends = chain([first], (f"-{number}" for number in count(2)))
    return next(place for end in ends if _is_free(place := Path(f"{path}{end}")))


def _is_free(folder: Path) -> bool:
    if not folder.is_dir() or any(not p.match(".partial-*") for p in folder.iterdir()):
        return not folder.exists()
    with _locked(folder) as alone:
        return alone


@contextmanager
def new_folder(path: File, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder inside `path` whose files come to lie in `path` if the block succeeds, or
    nothing. InputError, before the block runs: `path` is a file, holds a clip (but to `overwrite`),
    gets one from another run right now, or cannot be written to."""
    path, created, partial = Path(path), [], None
    with ExitStack() as stack:
        try:
            with _writing_to(path):
                other = "choose another --out folder"
                for place in (path, *path.parents):
                    if place.exists() and not place.is_dir():
                        where = "is" if place == path else f"cannot be made, as {place} is"
                        raise InputError(f"{path} {where} a file: {other}")
                created = [p for p in (path, *path.parents) if not p.exists()]
                path.mkdir(parents=True, exist_ok=True)
                if not stack.enter_context(_locked(path)):
                    raise InputError(f"another run is writing to {path}: wait for it, or {other}")
                for name in FILES:
                    if (path / name).is_dir():
                        where = f"holds a folder named {name}, where a file is to go"
                        raise InputError(f"{path} {where}: {other}")
                    if (path / name).exists() and not overwrite:
                        raise InputError(f"{path} holds a clip already: {other}, or --overwrite it")
                for remains in path.glob(".partial-*"):
                    shutil.rmtree(remains, ignore_errors=True)
                partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=path))
            yield partial
            with _writing_to(path):
                for file in sorted(partial.iterdir()):
                    os.replace(file, path / file.name)
        finally:
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
            for folder in created:  # innermost first; a folder that got its content stays
                with suppress(OSError):
                    folder.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether no other run holds the folder; held until the block ends, or the process does."""
    try:
        import fcntl
    except ImportError:  # Windows: one has to take care
        yield True
        return
    descriptor, alone = os.open(folder, os.O_RDONLY), True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # some network disks know no locks
        alone = error.errno not in (errno.EAGAIN, errno.EACCES)
    try:
        yield alone
    finally:
        os.close(descriptor)


def _writing_to(folder: File) -> AbstractContextManager[None]:
    """What the operating system says about writing, in one sentence with a remedy."""
    remedy = "free some space or choose another --out folder"
    return refusing(f"cannot write to {folder}", remedy, OSError)
