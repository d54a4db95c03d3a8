"""Which scenes there are, and how often: the training distribution of generated clips; and the
benchmark's fixed ones, made of photographs that were never trained on."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from mofa_nb.checks import InputError, Size, shaped
from mofa_nb.clips.draws import Dice
from mofa_nb.clips.scenes import render, surfaces
from mofa_nb.clips.scenes.render import Layer, Places, Pose, SceneBatch
from mofa_nb.media.images import read_image
from mofa_nb.paths import data_file

Zooms = Float[Tensor, " n"]  # photo pixels per canvas pixel
Scenes = Int[Tensor, " n"]  # which of the batch
Photos = UInt8[Tensor, "P 3 S S"]
MOST_OBJECTS = 4
ZOOMS = 1.1, 1.6  # photo pixels per canvas pixel: more than 1 keeps frames sharp
PHOTOS = ("china", "flower", "grace_hopper", "chelsea", "coffee", "palace", "piazza", "lobby")
TILES = 6  # per photograph
SIDE = 320  # of a tile: covers 192x128 with room


@dataclass(frozen=True)
class SceneMix:
    """Shares of the kinds of scenes; each share is a probability."""

    collage: float = 0.5  # other photographs cut out and moving over a photograph
    cutout: float = 0.28  # a part of one photograph moves, and other parts of it fill the hole
    # the rest bends: one photograph whose regions are softly dragged or sway
    still_camera: float = 0.45  # of collages; cutouts and bends mostly have a still camera
    plain_background: float = 0.05  # a single colour in place of a photograph
    plain_object: float = 0.15


MIX = SceneMix(collage=0.4, cutout=0.4, still_camera=0.6, plain_background=0.0, plain_object=0.0)
# Chosen once by `suits`: the moving part is 8 to 24 px (at 128 px width) from home at the end,
# fills 5% of the picture or more, and most of it stays in sight.
SEEDS: tuple[int, ...] = (
    1001, 1003, 1006, 1007, 1010, 1014, 1015, 1021, 1026, 1027, 1035, 1038, 1040, 1044, 1051, 1054,
    1059, 1066, 1074, 1075, 1076, 1077, 1079, 1093, 1102, 1105, 1109, 1114, 1118, 1121, 1130, 1132,
)  # fmt: skip


@dataclass(frozen=True)
class ScenePlan:
    dice: Dice
    photos: Photos
    num_frames: int
    size: Size  # H, W
    mix: SceneMix
    camera: Pose  # of all scenes in the batch

    @property
    def unit(self) -> float:
        """Pixels per 1/128 of the short side."""
        return min(self.size) / 128

    @property
    def side(self) -> int:
        """Of the photo rasters, in pixels."""
        return self.photos.shape[-1]

    def zooms(self, count: int) -> Zooms:
        """Photo pixels per canvas pixel, such that the photo covers the canvas."""
        most = min(ZOOMS[1], (self.side - 1) / max(self.size))
        return self.dice.uniform((count,), min(ZOOMS[0], most), most)

    def crops(self, count: int) -> tuple[Zooms, Places]:
        """Random crops for backgrounds: zoom, and the canvas centre's place on the raster."""
        zoom = self.zooms(count)
        spread = torch.tensor(self.size[::-1], device=zoom.device) * zoom[:, None]
        room = ((self.side - 1 - spread) / 2).clamp(min=0)
        return zoom, room * self.dice.uniform((count, 2), -1.0, 1.0)

    def places(self, count: int, spread: float) -> Places:
        """Points of the canvas, up to `spread` of its sides away from the centre."""
        sides = torch.tensor(self.size[::-1], device=self.photos.device)
        return self.dice.uniform((count, 2), -spread, spread) * sides

    def rasters(self, count: int, plain_share: float) -> surfaces.Rasters:
        """Photos, a share of them replaced by a single colour."""
        rasters = surfaces.photo_rasters(self.dice, self.photos, count)
        plain = rows(self.dice.host.chance((count,), plain_share), self.dice.device)
        rasters[plain] = self.dice.uniform((len(plain), 3, 1, 1), 0.05, 0.95)
        return rasters

    def points(self, zoom: Zooms, offset: Places, centre: Places) -> surfaces.Points:
        """The canvas point under each raster pixel, counted from `centre`."""
        pixels = render.canvas_points(self.side, self.side, self.photos.device)
        return (pixels - offset[:, None, None]) / zoom[:, None, None, None] - centre[:, None, None]


def random_scenes(
    photos: Photos, batch: int, num_frames: int, size: Size = (128, 128),
    *, generator: torch.Generator, mix: SceneMix | None = None,
) -> SceneBatch:  # fmt: skip
    """A batch of layered scenes with exact flow, made on the photos' device.
    photos: square tiles, 0-255; S should be at least 1.1 times the longer canvas side. size: (H, W)
    of two frames or more. generator: on the CPU (the same scenes on every device) or the photos'
    device. InputError: no photos, no square tiles in uint8, too few frames or pixels."""
    shaped(photos, "P 3 S S", "photos")
    square = photos.dtype == torch.uint8 and photos.shape[2] == photos.shape[3]
    if not square or batch < 1 or num_frames < 2 or min(size) < 16:
        came = f"{photos.dtype} {list(photos.shape)}, {batch} of {num_frames} frames of {size} came"
        raise InputError(f"scenes need square uint8 photos, 2 frames and 16 pixels, but {came}")
    mix = mix or SceneMix()
    dice = Dice(generator, photos.device)
    kind = dice.host.pick((batch,), (mix.collage, mix.cutout, max(1 - mix.collage - mix.cutout, 0)))
    # lively in collages, seldom moving elsewhere
    clips = batch, num_frames, min(size) / 128
    lively = render.camera_poses(dice, *clips, still=mix.still_camera)
    calm = render.camera_poses(dice, *clips, still=0.85)
    camera = lively.where((kind == 0).to(dice.device), calm)
    stage = ScenePlan(dice, photos, num_frames, size, mix, camera)
    layers: list[Layer] = []
    for number, make in enumerate((background, cutout_layers, bent_background)):
        scenes = rows(kind == number, dice.device)
        layers += make(stage, scenes) if len(scenes) else []
    layers += object_layers(stage, kind)
    layers.sort(key=lambda layer: layer.depth)
    return render.render_layers(layers, batch, num_frames, size)


def scene(
    seed: int, photos: Photos, num_frames=14, size: Size = (128, 128), mix: SceneMix | None = None
) -> SceneBatch:
    generator = torch.Generator().manual_seed(seed)
    return random_scenes(photos, 1, num_frames, size, generator=generator, mix=mix)


def rows(mask: Bool[Tensor, " B"], device: torch.device) -> Scenes:
    """The indices at which the mask (drawn on the host) is true, on the device."""
    return mask.nonzero()[:, 0].to(device)


def background(stage: ScenePlan, scenes: Scenes) -> list[Layer]:
    zoom, offset = stage.crops(len(scenes))
    rasters = stage.rasters(len(scenes), stage.mix.plain_background)
    return [Layer(0, scenes, rasters, zoom, offset, stage.camera[scenes])]


def bent_background(stage: ScenePlan, scenes: Scenes) -> list[Layer]:
    layers, centre = background(stage, scenes), stage.places(len(scenes), 0.34)
    bend = render.random_bends(stage.dice, centre, stage.num_frames, stage.unit)
    return [replace(layer, bend=bend) for layer in layers]


def cutout_layers(stage: ScenePlan, scenes: Scenes) -> list[Layer]:
    """One or two parts of a photo move; the hole is filled from elsewhere in the photo."""
    count, dice = len(scenes), stage.dice
    zoom, offset = stage.crops(count)
    photo = surfaces.photo_rasters(dice, stage.photos, count)
    centre = stage.places(count, 0.33)
    radius = dice.log_uniform((count,), 11.0, 38.0) * stage.unit
    distance = surfaces.shape_distances(dice, stage.points(zoom, offset, centre), radius)
    behind = surfaces.filled_behind(dice, photo, distance, 2.2 * radius * zoom)
    camera = stage.camera[scenes]
    poses = camera.after(render.object_poses(dice, centre, stage.num_frames, stage.unit, still=0.0))
    alpha = (0.5 - distance / dice.uniform((count, 1, 1), 1.0, 2.5)).clamp(0, 1)
    raster = torch.cat([photo, alpha[:, None]], 1)
    layers = [Layer(0, scenes, behind, zoom, offset, camera)]
    return layers + with_bends(stage, Layer(1, scenes, raster, zoom, offset, poses), centre, 0.3)


def with_bends(stage: ScenePlan, layer: Layer, centre: Places, share: float) -> list[Layer]:
    """Split a layer in two: scenes where it stays rigid, and a share where it also bends."""
    dice = stage.dice
    bent = dice.host.chance((len(layer.scenes),), share)
    still, moved = (rows(mask, dice.device) for mask in (~bent, bent))
    parts = [layer[still]] if len(still) else []
    if len(moved):
        bend = render.random_bends(dice, centre[moved], stage.num_frames, stage.unit, waves=0.5)
        parts.append(replace(layer[moved], bend=bend))
    return parts


def object_layers(stage: ScenePlan, kind: Int[Tensor, " B"]) -> list[Layer]:
    """The collage's objects: one to four where it is a collage, seldom one elsewhere."""
    host, shape = stage.dice.host, (len(kind),)
    many, one = host.pick(shape, (0.08, 0.32, 0.28, 0.2, 0.12)), host.chance(shape, 0.12).long()
    objects = torch.where(kind == 0, many, one)
    layers: list[Layer] = []
    for number in range(MOST_OBJECTS):
        scenes = rows(objects > number, stage.dice.device)
        layers += collage_object(stage, scenes, 2 + number) if len(scenes) else []
    return layers


def collage_object(stage: ScenePlan, scenes: Scenes, depth: int) -> list[Layer]:
    """Another photo (or a single colour), cut out by a random shape, on its own way."""
    count, dice = len(scenes), stage.dice
    zoom = stage.zooms(count)
    radius = dice.log_uniform((count,), 8.0, 40.0) * stage.unit
    aside = dice.chance((count, 1), 0.12)
    centre = torch.where(aside, stage.places(count, 0.62), stage.places(count, 0.42))
    room = ((stage.side - 1) / 2 - 1.6 * radius * zoom).clamp(min=0)
    spot = room[:, None] * dice.uniform((count, 2), -1.0, 1.0)
    offset = spot - zoom[:, None] * centre
    points = stage.points(zoom, offset, centre)
    distance = surfaces.shape_distances(dice, points, radius)
    photo = stage.rasters(count, stage.mix.plain_object)
    photo = surfaces.shaded(dice, photo, points, distance, radius)
    alpha = (0.5 - distance / dice.uniform((count, 1, 1), 0.9, 1.8)).clamp(0, 1)
    raster = torch.cat([photo, alpha[:, None]], 1)
    own = render.object_poses(dice, centre, stage.num_frames, stage.unit)
    follows = dice.chance((count,), 0.75)
    poses = stage.camera[scenes].after(own).where(follows, own)
    return with_bends(stage, Layer(depth, scenes, raster, zoom, offset, poses), centre, 0.12)


def evaluation_scenes(n: int = 32, num_frames: int = 14, size: Size = (128, 128)) -> SceneBatch:
    """The first n of 32 fixed scenes, the same on every machine; the motion grows with the short
    side of `size` (H, W). InputError: n is not in 1 ... 32, or a photograph is missing."""
    if not 1 <= n <= len(SEEDS):
        raise InputError(f"there are {len(SEEDS)} evaluation scenes, but {n} were asked for")
    photos = held_out_tiles()
    return SceneBatch.joined([scene(seed, photos, num_frames, size, MIX) for seed in SEEDS[:n]])


def held_out_tiles() -> Photos:
    """Six square crops of each photograph kept out of training, in a fixed order."""
    rng, tiles = np.random.default_rng(0), []
    for name in PHOTOS:
        photo = read_image(data_file(f"{name}.jpg"))
        tiles += [surfaces.tile(photo, SIDE, rng.uniform(1.0, 1.25), rng) for _ in range(TILES)]
    return torch.from_numpy(np.stack(tiles))


def suits(one: SceneBatch) -> bool:
    """Whether a scene may be an evaluation scene; see `SEEDS`."""
    length = one.flow[0, -1].norm(dim=0) * 128 / one.layers.shape[-1]
    moving = length > 1
    fraction = float(moving.float().mean())
    if fraction < 0.05 or not 8 <= float(length[moving].mean()) <= 24:
        return False
    seen = one.visible[0, -1, 0]
    rest = seen & ~moving
    return float(seen[moving].float().mean()) > 0.6 and bool(rest.any() or fraction > 0.9)
