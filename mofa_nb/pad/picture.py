"""The pad's picture: opening it, fitting it on the screen, encoding it; examples and uploads."""

import os
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mofa_nb.checks import File, InputError, naming
from mofa_nb.media.images import read_image
from mofa_nb.motion.motion import Motion
from mofa_nb.motion.select import Pick, Selector, selector
from mofa_nb.paths import data_file
from mofa_nb.show.drawing import draw_tracks
from mofa_nb.show.notebook import image_bytes

SCREEN = 480  # longer side of the pad's picture on the screen, pixels
SHARP = 2  # pixels sent per screen pixel, for dense screens
_MOST = 1024  # longer side of the pixels that drawing counts in
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, eq=False)
class PadPicture:
    """A photograph on the pad, RGB; sizes are (width, height) in pixels."""

    photo: UInt8[np.ndarray, "H W 3"]  # as the model gets it
    size: tuple[int, int]  # of the pixels that drawn points count in
    screen: tuple[int, int]  # on the screen
    fine: UInt8[np.ndarray, "h w 3"]  # what the screen gets
    name: str  # for captions
    path: str | None

    @property
    def unit(self) -> float:
        """Drawing pixels per screen pixel."""
        return self.size[0] / self.screen[0]

    def picker(self, by: File | Selector) -> Pick:
        """From clicks to the mask of a thing; the picture is looked at on the first one."""
        ready = cache(lambda: selector(by)(_resized(self.photo, self.size)))
        return lambda on, off: ready()(on, off)

    def still(self, motion: Motion) -> bytes:
        """A light JPEG of what is drawn on it: for pages without a kernel."""
        drawn = _resized(draw_tracks(self.fine, motion), self.screen)
        return image_bytes(drawn, "JPEG", quality=84, subsampling=0)


def open_picture(source: object) -> PadPicture:
    """A photograph from anything that `read_image` takes."""
    path = os.fspath(source) if isinstance(source, File) else None
    photo = read_image(source)
    height, width = photo.shape[:2]

    def within(side: float) -> tuple[int, int]:
        factor = side / max(width, height)
        return max(1, round(width * factor)), max(1, round(height * factor))

    screen, size = within(SCREEN), within(min(_MOST, max(width, height)))
    fine = _resized(photo, (SHARP * screen[0], SHARP * screen[1]))
    return PadPicture(photo, size, screen, fine, Path(path).name if path else "picture", path)


def _resized(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> np.ndarray:
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def examples() -> list[tuple[str, str]]:
    """(name, path) of the pictures in the repository's data folder."""
    paths = sorted(p for p in data_file(".").glob("*") if p.suffix.lower() in _PICTURES)
    return [(path.stem, str(path)) for path in paths]


def example_motion(path: str) -> Motion | None:
    """The first motion file beside a picture whose name begins with the picture's, if any."""
    paths = sorted(Path(path).parent.glob(f"{Path(path).stem}*.json"))
    return Motion.load(paths[0]) if paths else None


def first_example() -> str:
    """The first picture that has a motion; InputError when there is no picture at all."""
    paths = [path for _, path in examples()]
    if not paths:
        raise InputError("no example pictures were found: give the path of a photograph")
    return next((path for path in paths if example_motion(path)), paths[0])


def uploaded(value) -> tuple[str, bytes]:
    """Name and content from a `FileUpload`'s value, whose form depends on its version."""
    entry = next(iter(value.values())) if isinstance(value, dict) else value[0]
    name = entry.get("name") or entry.get("metadata", {}).get("name")
    return str(name or "file"), bytes(entry.get("content") or b"")


def sent_picture(name: str, content: bytes, folder: Path) -> PadPicture:
    """A photograph that a browser sent, kept in `folder` once it could be read."""
    with naming(name):
        picture = open_picture(content)
    path = kept_upload(name, content, folder)
    return replace(picture, name=path.name, path=str(path))


def kept_upload(name: str, content: bytes, folder: Path) -> Path:
    """Keep a file that a browser sent in `folder`, created if need be; returns its path. What a
    disk may not take in a name is replaced; another file of that name stays."""
    plain = Path(re.sub(r"[^\w. -]", "_", re.split(r"[\\/]", name)[-1]))
    stem, suffix = plain.stem[:60].strip(". ") or "file", plain.suffix[:10]
    path, number = folder / f"{stem}{suffix}", 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while path.exists() and (path.is_dir() or path.read_bytes() != content):
            number += 1
            path = folder / f"{stem}-{number}{suffix}"
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{name} cannot be kept in {folder}: {error.strerror}") from error
    return path
