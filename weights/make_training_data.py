"""Gather the mini model's training data into one folder, with a manifest of hashes and licences.

    pip install openexr scikit-image
    pip download --no-deps --no-binary :all: moviepy==2.2.1
    npm pack @pmndrs/assets@1.7.0
    python weights/make_training_data.py FOLDER moviepy-2.2.1.tar.gz pmndrs-assets-1.7.0.tgz
    python -m mofa_nb.clips FOLDER --cache BANK

FOLDER then holds photos/, videos/ and training_data.json. What is reserved for evaluation or held
out never enters it. OpenEXR is needed here alone: it reads the panoramas' DWAB compression.
"""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import skimage

MANIFEST = Path(__file__).parent / "mini" / "training_data.json"
PHOTOS = ("astronaut", "brick", "camera", "coins", "grass", "gravel", "hubble_deep_field",
          "retina", "rocket")  # fmt: skip
HELD_OUT_PANORAMAS = ("lobby", "sunset")
VIEWS, SIDE = 24, 192  # per panorama; the 512x256 originals hold no more detail than that
FILM_FRAMES = (100, 9949)  # what follows is held out
FREE = "CC0 or public domain (scikit-image data README)"
BUNNY = "CC-BY 3.0, (c) Blender Foundation, peach.blender.org"


def photographs(folder: Path) -> Iterator[dict]:
    """scikit-image's free photographs, as JPEG."""
    for name in PHOTOS:
        (source,) = (Path(skimage.__file__).parent / "data").glob(f"{name}.*")
        target = folder / "photos" / f"{name}.jpg"
        cv2.imwrite(str(target), cv2.imread(str(source)), [cv2.IMWRITE_JPEG_QUALITY, 95])
        yield entry(folder, target, f"scikit-image data/{source.name}", digest(source), FREE)


def panorama_views(folder: Path, package: Path) -> Iterator[dict]:
    """Perspective views into the panoramas, tone-mapped."""
    with tarfile.open(package) as archive:
        names = sorted(n for n in archive.getnames() if n.endswith(".exr.js"))
        for name in names:
            stem = Path(name).name.removesuffix(".exr.js")
            if stem in HELD_OUT_PANORAMAS:
                continue
            content = archive.extractfile(name).read()
            panorama = read_exr(content)
            panorama = panorama.clip(0, 16 * np.median(panorama))  # no ringing around lamps
            rng = np.random.default_rng(len(stem) + sum(stem.encode()))
            for number in range(VIEWS):
                target = folder / "photos" / f"{stem}_{number:02d}.jpg"
                cv2.imwrite(str(target), tone_mapped(view(panorama, rng))[..., ::-1])
                source = f"@pmndrs/assets 1.7.0 hdri/{stem}.exr, a perspective view"
                known = hashlib.sha256(content).hexdigest()
                yield entry(folder, target, source, known, "CC0-1.0")


def read_exr(script: bytes) -> np.ndarray:
    """Linear RGB [H, W, 3] out of a module that exports a data address."""
    import OpenEXR

    data = base64.b64decode(re.search(rb"base64,([A-Za-z0-9+/=]+)", script).group(1))
    with OpenEXR.File(io.BytesIO(data)) as file:
        return np.asarray(file.channels()["RGB"].pixels, np.float32)


def view(panorama: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a camera in the middle sees, looking anywhere near the horizon."""
    turn, tilt = rng.uniform(-np.pi, np.pi), rng.uniform(-0.45, 0.45)
    reach = np.tan(np.radians(rng.uniform(55, 95)) / 2)
    x, y = np.meshgrid(*[np.linspace(-reach, reach, SIDE, dtype=np.float32)] * 2)
    down = y * np.cos(tilt) - np.sin(tilt)
    ahead = np.cos(tilt) + y * np.sin(tilt)
    longitude = np.arctan2(x, ahead) + turn
    latitude = np.arctan2(down, np.hypot(x, ahead))
    height, width = panorama.shape[:2]
    at_x = np.float32((longitude / (2 * np.pi) + 0.5) * width % width)
    at_y = np.float32((latitude / np.pi + 0.5) * height)
    return cv2.remap(panorama, at_x, at_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)


def tone_mapped(linear: np.ndarray) -> np.ndarray:
    """uint8 sRGB with the median brightness at middle grey and soft highlights."""
    linear = np.clip(linear, 0, None) * (0.2 / max(float(np.median(linear)), 1e-4))
    pressed = linear * (1 + linear / 16) / (1 + linear)
    return np.uint8(np.clip(1.15 * pressed, 0, 1) ** (1 / 2.2) * 255)


def film(folder: Path, package: Path) -> Iterator[dict]:
    """The first part of Big Buck Bunny, 256 pixels high."""
    import imageio_ffmpeg

    with tarfile.open(package) as archive:
        name = next(n for n in archive.getnames() if n.endswith("moviepy_10_minutes.zip"))
        bundle = zipfile.ZipFile(io.BytesIO(archive.extractfile(name).read()))
    inside = next(n for n in bundle.namelist() if n.endswith("/bbb.mp4"))
    whole = folder / "bbb.mp4"
    whole.write_bytes(bundle.read(inside))
    target = folder / "videos" / "big_buck_bunny.mp4"
    first, last = FILM_FRAMES
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-i", str(whole), "-vf",
               f"select=between(n\\,{first}\\,{last}),setpts=N/24/TB,scale=-2:256", "-an",
               "-r", "24", "-crf", "16", str(target)]  # fmt: skip
    subprocess.run(command, check=True)
    source = f"Big Buck Bunny, frames {first} to {last} of 14315, 256 high (moviepy 2.2.1 sdist)"
    yield entry(folder, target, source, digest(whole), BUNNY)
    whole.unlink()


def entry(folder: Path, file: Path, source: str, known: str, licence: str) -> dict:
    """One line of the manifest."""
    return {
        "file": str(file.relative_to(folder)),
        "sha256": digest(file),
        "source": source,
        "source_sha256": known,
        "licence": licence,
    }


def digest(file: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    folder, moviepy, panoramas = map(Path, sys.argv[1:4])
    for part in ("photos", "videos"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
    files = [*photographs(folder), *panorama_views(folder, panoramas), *film(folder, moviepy)]
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8")) | {"files": files}
    text = json.dumps(manifest, indent=1) + "\n"
    (folder / "training_data.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
