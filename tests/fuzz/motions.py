"""Motion files: every value may be anything, and the text may be damaged, too."""

import copy
import io
import json
from functools import partial
from pathlib import Path

import numpy as np

from mofa_nb.motion.brush import brush_to_text
from mofa_nb.motion.fit import fit_motion, plan_fit
from mofa_nb.motion.formats import motion_from_bytes, read_motion, save_motion
from mofa_nb.motion.motion import Motion
from mofa_nb.pad.state import PadState
from tests.fuzz.bytes import damaged, no_file

BRUSH = brush_to_text(np.tri(64, 96, 10, dtype=np.uint8) * 255)
RAW = ("1" * 4301, "1e999", "-1e308", "NaN", "-Infinity", "1" * 400, "5e-324", "0.1" + "0" * 5000)
ODD = [
    None, True, False, 0, -1, 1, 2, 3, 0.5, 1e-300, 1e308, -1e308, 1e9, 2**63, 2**31, 10**400,
    "", "x", "a\0b", "n" * 300, "\ud800", "ü", "/dev/zero", "..", "/", "brush.png", "none.mp4",
    "http://127.0.0.1:9/a.mp4", [], {}, [[]], [[1, 2]], [1, 2], {"x": 1, "y": 2}, [None, None],
    "hold", "ease", "loop", "continue", "data:image/png;base64,", BRUSH, "data:text/plain,x",
    [96, 64], [1e9, 1e9], [1, 1], [10**7, 10**7], [-5, 5], ["96", "64"], [96, 64, 3],
    *(f"@raw{number}@" for number in range(len(RAW))),
]  # fmt: skip
KEYS = ["version", "size", "tracks", "pins", "brush", "mask", "face", "after", "points", "times",
        "speed", "start", "end", "locked", "source", "expression", "strengths", "choose", "mouth",
        "pose", "yaw", "", "__class__", "begin", "depth"]  # fmt: skip


def whole(rng: np.random.Generator) -> dict:
    """A motion file as it should be."""

    def point():
        return [round(float(rng.uniform(0, 95)), 2), round(float(rng.uniform(0, 63)), 2)]

    def track():
        points = [point() for _ in range(int(rng.integers(2, 6)))]
        if rng.random() < 0.4:
            return points
        times = np.sort(rng.random(len(points))).tolist()
        if rng.random() < 0.3:
            times = [float(np.nextafter(0.5, 1)) if i else 0.5 for i in range(len(points))]
        speed = str(rng.choice(["linear", "ease_in", "ease_out", "ease", "hold"]))
        return {"points": points, "times": times, "speed": speed, "start": 0.0, "end": 0.9}

    data = {"version": 2, "size": [96, 64], "tracks": [track() for _ in range(3)]}
    data["pins"] = [point() for _ in range(2)]
    data["after"] = str(rng.choice(["stop", "continue", "ease", "loop"]))
    if rng.random() < 0.4:
        data["brush"] = BRUSH
    if rng.random() < 0.5:
        data["face"] = {"expression": {"mouth": 0.5, "yaw": 10}, "strengths": {"pose": 0.5}}
        data["mask"] = BRUSH
    return data


def changed(rng: np.random.Generator, data: object) -> object:
    """One value somewhere replaced, removed, added or wrapped."""
    places, waiting = [], [data]
    while waiting:
        node = waiting.pop()
        keys = node.keys() if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                waiting.append(node[key])
    if not places:
        return data
    node, key = places[int(rng.integers(len(places)))]
    odd = copy.deepcopy(ODD[int(rng.integers(len(ODD)))])  # else it may come to hold itself
    how = rng.integers(6)
    if how <= 2:
        node[key] = odd
    elif how == 3 and isinstance(node, dict):
        node[str(rng.choice(KEYS))] = odd
    elif how == 4:
        node.pop(key)
    elif how == 5:
        node[key] = [node[key]]
    return data


def written(rng: np.random.Generator, data: object) -> tuple[str, bytes]:
    """As text in some encoding, with what JSON's writer would not write."""
    text = json.dumps(data)
    for number, raw in enumerate(RAW):
        text = text.replace(f'"@raw{number}@"', raw)
    code = str(rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"],
                          p=[0.8, 0.06, 0.06, 0.02, 0.02, 0.04]))  # fmt: skip
    if rng.random() < 0.005:
        text = "[" * 100_000
    return code, text.encode(code, errors="replace")


def foreign(rng: np.random.Generator, folder: Path) -> tuple[str, bytes]:
    """Tracks as other tools write them, of odd shapes, types and values."""
    kind = str(rng.choice(["spline", ".npy", ".npz", ".pth"]))
    if kind == "spline":
        points = [[{"x": x, "y": 2 * x} for x in range(5)] for _ in range(3)]
        return kind, written(rng, changed(rng, points))[1]
    if kind == ".pth":
        save_motion(Motion((96, 64), [[(5, 5), (50, 40)]]), folder / "a.pth")
        return kind, (folder / "a.pth").read_bytes()
    shapes = [(1, 81, 4, 2), (81, 4, 2), (4, 81, 2), (4, 121, 1, 3), (2, 2), (0, 4, 2), (5,), ()]
    array = rng.uniform(0, 90, shapes[int(rng.choice(8, p=[0.3, 0.2, 0.1, 0.1] + [0.075] * 4))])
    types = ["f4", "f8", "f2", "i4", "c8", "?", "U5", "u1", "O"]
    array = np.asarray(array).astype(types[int(rng.choice(9, p=[0.5, 0.1] + [0.4 / 7] * 7))])
    if array.size and array.dtype.kind == "f" and rng.random() < 0.3:
        array.flat[int(rng.integers(array.size))] = float(rng.choice([np.nan, np.inf, 1e30, -5]))
    buffer, seen = io.BytesIO(), rng.random(array.shape[:-1] or (1,)) > 0.2
    if kind == ".npy":
        np.save(buffer, array)
        return kind, buffer.getvalue()
    names = rng.choice(["tracks", "points", "array", "visibility", "occluded", "other"], 2)
    np.savez_compressed(buffer, **{str(names[0]): array, str(names[1]): seen})
    return kind, buffer.getvalue()


def inputs(rng: np.random.Generator, folder: Path):
    """A name for one input, and what is done with it."""
    if rng.random() < 0.03:
        kind, path = no_file(rng, folder, ".json")
        return kind, {"load": partial(use, path)}
    if rng.random() < 0.15:
        name, content = foreign(rng, folder)
    else:
        data, changes = whole(rng), int(rng.integers(0, 4))
        for _ in range(changes):
            data = changed(rng, data)
        code, content = written(rng, data)
        name = f"{changes} changes, {code}"
    how, content = damaged(rng, content) if rng.random() < 0.2 else ("whole", content)
    path = folder / "motion.json"
    path.write_bytes(content)
    return f"{name}, {how}", {"load": partial(use, path), "upload": partial(upload, content)}


def upload(content: bytes) -> None:
    """What the pad does with a file that a browser sends."""
    state = PadState(Motion((96, 64)))
    state.load(*motion_from_bytes(content, "motion.json", state.motion.size))
    state.undo()


def use(path) -> None:
    """Load, bring to a picture, read off, save and load again."""
    motion = read_motion(path, (96, 64))[0]
    fit = plan_fit((96, 64), 32, short_side=64)
    fitted = fit_motion(motion, fit)[0]
    paths = fitted.paths(20, 14)
    if not bool(paths.isfinite().all()):
        raise AssertionError("a path is not finite")
    again = Path(path).with_name("again.json")
    motion.save(again)
    if Motion.load(again) != motion:
        raise AssertionError("the saved motion is another")
