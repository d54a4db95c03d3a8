"""Face clips with exact landmarks and flow, of faces kept out of training; objects beside them.

The faces: `grace_hopper`, moved through the face mesh, and rendered heads of seeds from 900 000
on, before photographs kept out of training. The motions: six that a warp alone cannot make
(`evaluation_curves`), each four times.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mofa_nb.clips.draws import Dice
from mofa_nb.clips.heads.head import FaceCurves, still_curves
from mofa_nb.clips.heads.render import animate_portrait, render_faces
from mofa_nb.clips.scenes.recipe import PHOTOS, TILES, held_out_tiles
from mofa_nb.clips.scenes.render import Layer, Pose, canvas_points
from mofa_nb.clips.scenes.surfaces import shape_distances
from mofa_nb.faces.detect import portrait_crop
from mofa_nb.faces.draw import face_region, landmarks_over
from mofa_nb.faces.mesh import EXPRESSIONS
from mofa_nb.media.images import read_image, to_uint8
from mofa_nb.paths import data_file
from tests.benchmarks.scoring import Scene, thrice

PHOTO = "grace_hopper"
MARGIN = 2.4  # side of the picture over that of the face, in the photograph
SEED = 900_000  # of the first rendered head; training draws its heads from other generators
HEADS_PER_PHOTO = 3
# strengths, and (yaw, pitch, roll) in degrees, at the end of the evaluation's clips
EVALUATION = {
    "mouth opens": ({"jaw_open": 1.0}, (9.0, 0.0, 0.0)),
    "smiles with raised brows": ({"smile": 1.0, "jaw_open": 0.3, "brows_up": 1.0}, (0.0, 7.0, 4.0)),
    "eyes close": ({"blink_right": 1.0, "blink_left": 1.0}, (0.0, -8.0, 5.0)),
    "turns to the right": ({}, (20.0, 0.0, 0.0)),
    "turns to the left and up": ({"jaw_open": 0.4}, (-16.0, 8.0, 0.0)),
    "tilts and speaks": ({"jaw_open": 0.7, "pucker": 0.5}, (0.0, 0.0, 12.0)),
}
COUNT = len(EVALUATION) * (1 + HEADS_PER_PHOTO)
OBJECTS, TRIES = 2, 400
RADII, WAY = (15.0, 12.0, 9.0, 7.0), (12.0, 22.0)  # px at 128: half an object's width; its path


@dataclass(frozen=True)
class FaceScene(Scene):
    """A scene in which a face moves.

    Attributes:
        landmarks: the 68 points, pixels.
        face: which face it is.
        asked: the motion in words.
    """

    landmarks: Float[Tensor, "T 68 2"]
    face: str
    asked: str
    has_tracks = False

    @property
    def region(self) -> Bool[Tensor, "H W"]:
        """Where the head is in any frame, as the mask proposed for it."""
        height, width = self.size
        return torch.from_numpy(face_region(self.landmarks.numpy(), (width, height)) > 0)

    def outside(self) -> Tensor:
        """The probe points [N, 2] beside the head."""
        points = self.points()
        return points[~self.region[points[:, 1], points[:, 0]]]

    def asked_for(self) -> list[UInt8[np.ndarray, "h w 3"]]:
        """The landmarks over the true frames at 3x."""
        pictures = [thrice(frame) for frame in to_uint8(self.frames)]
        points = self.landmarks.numpy() * 3
        return [landmarks_over(p, m) for p, m in zip(pictures, points, strict=True)]


class HybridScene(FaceScene):
    """A face with objects moving beside it; tracks start outside the head only."""

    has_tracks = True

    def free(self) -> Bool[Tensor, "H W"]:
        """See Scene."""
        return super().free() & ~self.region

    def asked_for(self) -> list[UInt8[np.ndarray, "h w 3"]]:
        """The landmarks and the head's region over the true frames at 3x."""
        return [drawn_region(picture, self.region) for picture in super().asked_for()]


def eased(num_frames: int) -> Float[Tensor, " T"]:
    """From 0 to 1, slow at both ends."""
    share = torch.linspace(0, 1, num_frames)
    return share * share * (3 - 2 * share)


def evaluation_curves(num_frames: int) -> dict[str, FaceCurves]:
    """Six motions that a warp alone cannot make, eased over the clip; one row each."""
    share = eased(num_frames)[None, :, None]
    made = {}
    for name, (strengths, degrees) in EVALUATION.items():
        target = torch.tensor([strengths.get(name, 0.0) for name in EXPRESSIONS])
        moved = {"strengths": share * target, "degrees": share * torch.tensor(degrees)}
        made[name] = replace(still_curves(1, num_frames), **moved)
    return made


def face_scenes(count: int, num_frames: int, size: tuple[int, int]) -> list[FaceScene]:
    """The first of 24 scenes: every fourth shows the photograph, the others a head each.

    Args:
        size: (H, W); the photograph is cropped to a square of the shorter side.
    """
    if not 1 <= count <= COUNT:
        raise ValueError(f"there are {COUNT} face scenes, but {count} were asked for")
    motions = list(evaluation_curves(num_frames).items())
    scenes = []
    for number in range(count):
        group, place = divmod(number, 1 + HEADS_PER_PHOTO)
        asked, curves = motions[(group + place) % len(motions)]
        head = 0 if place == 0 else group * HEADS_PER_PHOTO + place
        scenes.append(scene_of(head, asked, curves, size))
    return scenes


def scene_of(head: int, asked: str, curves: FaceCurves, size: tuple[int, int]) -> FaceScene:
    """Head 0 is the photograph's; others are rendered, before photographs without people."""
    if head == 0:
        face, photo = PHOTO, read_image(data_file(f"{PHOTO}.jpg"))
        made = animate_portrait(*portrait_crop(photo, min(size), margin=MARGIN), curves)
    else:
        face, draws = f"head {head:02d}", torch.Generator().manual_seed(SEED + head)
        frames = curves.strengths.shape[1]
        made = render_faces(1, frames, size, backgrounds(), draws, curves=curves)
    return FaceScene(
        made.frames[0], made.flow[0], made.visible[0], f"{face}, {asked}",
        made.landmarks[0], face, asked,
    )  # fmt: skip


def backgrounds() -> UInt8[Tensor, "P 3 S S"]:
    """The held-out crops but for those of the portrait, in which another face could be found."""
    first = PHOTOS.index(PHOTO) * TILES
    tiles = held_out_tiles()
    return torch.cat([tiles[:first], tiles[first + TILES :]])


def asked_to_stand(scene: FaceScene) -> FaceScene:
    """The same face in its first frame, which is to stay as it is."""

    def held(values: Tensor) -> Tensor:
        return values[:1].expand_as(values)

    return replace(
        scene, frames=held(scene.frames), landmarks=held(scene.landmarks), asked="stands still",
        flow=torch.zeros_like(scene.flow), seen=torch.ones_like(scene.seen),
        name=f"{scene.face}, stands still",
    )  # fmt: skip


def talking_curves(num_frames: int) -> FaceCurves:
    """Smooth driving of any length: the mouth opens and closes, the head sways, eyes blink."""
    time = torch.arange(num_frames)
    curves = still_curves(1, num_frames)

    def wave(period: float | int) -> Tensor:
        return 0.5 - 0.5 * torch.cos(2 * torch.pi * time / period)

    curves.strengths[0, :, 0] = 0.6 * wave(25)
    curves.strengths[0, :, 8] = curves.strengths[0, :, 9] = wave(50) ** 4
    curves.degrees[0, :, 0] = 10 * torch.sin(2 * torch.pi * time / 67)
    curves.degrees[0, :, 2] = 5 * torch.sin(2 * torch.pi * time / 41)
    return curves


# Objects beside the head


def with_surroundings(scene: FaceScene, seed: int) -> HybridScene:
    """Two cut-out pieces of held-out photographs move where the head never is.

    One piece where the picture has no room for two.
    """
    dice = Dice(torch.Generator().manual_seed(seed), torch.device("cpu"))
    taken, points = scene.region.clone(), canvas_points(*scene.size, torch.device("cpu"))
    frames, flow, seen = scene.frames, scene.flow, scene.seen
    for number in range(OBJECTS):
        layer = placed_object(dice, taken, points, len(frames), seed * OBJECTS + number)
        if layer is None:
            continue
        look = layer.look(points.expand(1, len(frames), *points.shape), slice(None))[0]
        colour, alpha = look[:, :3], look[:, 3:]
        taken |= alpha.amax((0, 1)) > 0
        frames = torch.lerp(frames, colour, alpha)
        own = alpha[0, 0] >= 0.5  # H W
        behind = points + flow.permute(0, 2, 3, 1)
        hidden = layer_alpha(layer, behind) >= 0.5
        way = (layer.forward(points)[0, 1:] - points).permute(0, 3, 1, 2)
        end, edge = points + way.permute(0, 2, 3, 1), points.abs().amax((0, 1)) + 0.5
        inside = (end.abs() <= edge).all(-1)
        seen = torch.where(own, inside[:, None], seen & ~hidden)
        flow = torch.where(own, way, flow)
    return HybridScene(frames, flow, seen, scene.name, scene.landmarks, scene.face, scene.asked)


def layer_alpha(layer: Layer, points: Float[Tensor, "steps H W 2"]) -> Tensor:
    """How far the layer covers these points of the frames after the first, [steps, 1, H, W]."""
    first = points[:1]  # stands for frame 0, which nobody asks for
    return layer.look(torch.cat([first, points])[None], slice(3, 4))[0, 1:]


def placed_object(
    dice: Dice, taken: Bool[Tensor, "H W"], points: Tensor, num_frames: int, number: int
) -> Layer | None:
    """An object whose whole path stays clear of what is taken; None if there is no room."""
    unit = min(taken.shape) / 128
    room = torch.from_numpy(cv2.distanceTransform((~taken).byte().numpy(), cv2.DIST_L2, 5))
    size = torch.tensor(taken.shape[::-1])
    for radius in RADII:
        for _ in range(TRIES // len(RADII)):
            start = (dice.uniform((2,), 0.0, 1.0) * size).long()
            angle, length = dice.uniform((1,), 0, 6.2832), dice.uniform((1,), *WAY) * unit
            way = torch.cat([angle.cos(), angle.sin()]) * length
            path = start + torch.linspace(0, 1, 8)[:, None] * way
            edge = torch.minimum(path, size - 1 - path)
            if edge.min() < 0.6 * radius * unit:
                continue
            x, y = path.long().unbind(-1)
            if room[y, x].min() < 1.1 * radius * unit:
                continue
            centre = start - (size - 1) / 2
            layer = moving_piece(dice, centre, way, radius * unit, num_frames, number)
            look = layer.look(points.expand(1, num_frames, *points.shape), slice(3, 4))[0]
            if not (look[:, 0].amax(0) > 0)[taken].any():
                return layer
    return None


def moving_piece(
    dice: Dice, centre: Tensor, way: Tensor, radius: float, num_frames: int, number: int
) -> Layer:
    """A piece of a held-out photograph on a straight, eased path.

    Args:
        centre: pixels from the middle of the picture. way: pixels (dx, dy).
    """
    tiles = backgrounds()
    photo = tiles[number * 7 % len(tiles)].float()[None] / 255
    pixels = canvas_points(photo.shape[-2], photo.shape[-1], photo.device)
    zoom = torch.tensor([1.4])
    distance = shape_distances(dice, (pixels / zoom)[None], torch.tensor([float(radius)]))
    raster = torch.cat([photo, (0.5 - distance).clamp(0, 1)[:, None]], 1)
    still = torch.eye(2).expand(1, num_frames, 2, 2)
    pose = Pose(still, (eased(num_frames)[:, None] * way)[None])
    return Layer(1, torch.tensor([0]), raster, zoom, -zoom[:, None] * centre, pose)


def drawn_region(picture: UInt8[np.ndarray, "H W 3"], region: Bool[Tensor, "h w"]) -> np.ndarray:
    """The outline of the head's region over an enlarged picture."""
    mask = cv2.resize(region.byte().numpy(), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    lines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(picture), lines, -1, (255, 210, 0), 1)
