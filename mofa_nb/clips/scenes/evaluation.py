"""The benchmark's fixed scenes, made of photographs that were never trained on."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.clips.scenes.recipe import SceneMix, scene
from mofa_nb.clips.scenes.render import SceneBatch
from mofa_nb.clips.scenes.surfaces import read_photo, tile
from mofa_nb.paths import data_file

PHOTOS = ("china", "flower", "grace_hopper", "chelsea", "coffee", "palace", "piazza", "lobby")
TILES = 6  # per photograph
SIDE = 320  # of a tile: covers 192x128 with room
MIX = SceneMix(collage=0.4, cutout=0.4, still_camera=0.6, drawn_background=0.0, drawn_object=0.0)
# Chosen once by `suits`: the moving part is 8 to 24 px (at 128 px width) from home at the end,
# fills 5% of the picture or more, and most of it stays in sight.
# fmt: off
SEEDS: tuple[int, ...] = (
    1001, 1003, 1006, 1007, 1010, 1014, 1015, 1021,
    1026, 1027, 1035, 1038, 1040, 1044, 1051, 1054,
    1059, 1066, 1074, 1075, 1076, 1077, 1079, 1093,
    1102, 1105, 1109, 1114, 1118, 1121, 1130, 1132,
)
# fmt: on


def evaluation_scenes(
    n: int = 32, num_frames: int = 14, size: tuple[int, int] = (128, 128)
) -> SceneBatch:
    """The first n of 32 fixed scenes, the same on every machine; the motion grows with the short
    side of `size` (H, W). InputError: n is not in 1 ... 32, or a photograph is missing."""
    if not 1 <= n <= len(SEEDS):
        raise InputError(f"there are {len(SEEDS)} evaluation scenes, but {n} were asked for")
    photos = held_out_tiles()
    return SceneBatch.joined([scene(seed, photos, num_frames, size, MIX) for seed in SEEDS[:n]])


def held_out_tiles() -> UInt8[Tensor, "P 3 S S"]:
    """Six square crops of each photograph kept out of training, in a fixed order."""
    rng, tiles = np.random.default_rng(0), []
    for name in PHOTOS:
        photo = read_photo(data_file(f"{name}.jpg"), "run from a clone with its data/")
        tiles += [tile(photo, SIDE, rng.uniform(1.0, 1.25), rng) for _ in range(TILES)]
    return torch.from_numpy(np.stack(tiles))


def suits(one: SceneBatch) -> bool:
    """Whether a scene may be an evaluation scene; see `SEEDS`."""
    width = one.layers.shape[-1]
    length = one.flow[0, -1].norm(dim=0) * 128 / width
    moving = length > 1
    share = float(moving.float().mean())
    if share < 0.05 or not 8 <= float(length[moving].mean()) <= 24:
        return False
    seen = one.visible[0, -1, 0]
    rest = seen & ~moving
    return float(seen[moving].float().mean()) > 0.6 and bool(rest.any() or share > 0.9)
