"""How soon a click becomes a mask, by GrabCut: `python -m tests.benchmarks.select_click`.

Pictures have 640 pixels on their long side. A pick is prepared once a picture (as the pad does when
the tool is taken up) and then asked on every click: one on the middle, and a second one off it.
Milliseconds are of the process (one core), so that other programs beside it count little; the
first click of a process loads libraries and stands apart.
"""

import argparse
import time

import numpy as np
from PIL import Image
from skimage import data as samples

from mofa_nb.media.images import read_image
from mofa_nb.motion.select import grab_cut
from mofa_nb.paths import data_file

NAMES = ("flower", "china", "coffee", "chelsea", "rocket", "astronaut", "grace_hopper", "lobby")
SAMPLES = ("camera", "cell", "coins", "horse", "moon", "hubble_deep_field", "immunohistochemistry")


def pictures(side: int) -> dict[str, np.ndarray]:
    """RGB pictures by name, `side` pixels long."""
    found = {name: read_image(data_file(f"{name}.jpg")) for name in NAMES}
    for name in SAMPLES:
        try:
            picture = np.asarray(getattr(samples, name)())
        except Exception:  # it is not on this disk, and nothing is downloaded
            continue
        picture = picture.astype(np.uint8) * (255 if picture.dtype == bool else 1)
        found[name] = picture if picture.ndim == 3 else np.stack([picture] * 3, -1)
    return {name: _enlarged(picture, side) for name, picture in found.items()}


def _enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(picture.shape[:2])
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def clicked(picture: np.ndarray) -> tuple[float, float, float]:
    """Milliseconds to prepare, of a first click, and of a click off the thing."""
    height, width = picture.shape[:2]
    middle, corner = (width * 0.5, height * 0.5), (width * 0.08, height * 0.08)
    times, begin = [], time.process_time()
    pick = grab_cut(picture)
    times.append(time.process_time())
    pick([middle], [])
    times.append(time.process_time())
    pick([middle], [corner])
    times.append(time.process_time())
    return tuple(1000 * (b - a) for a, b in zip([begin, *times], times, strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=640)
    shown = pictures(parser.parse_args().side)
    print(f"first click of the process: {sum(clicked(shown['flower'])):.0f} ms")
    table = {name: clicked(picture) for name, picture in shown.items()}
    print(f"{'picture':24}{'prepare':>9}{'click':>9}{'second':>9}   (ms)")
    for name, times in table.items():
        print(f"{name:24}" + "".join(f"{value:9.0f}" for value in times))
    _, *clicks = np.array(list(table.values())).T
    middle, worst = np.median(clicks), np.max(clicks)
    print(f"{len(table)} pictures: a click {middle:.0f} ms in the median, {worst:.0f} at worst")


if __name__ == "__main__":
    main()
