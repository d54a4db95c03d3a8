"""A target expression and head turn set by hand, reached over the clip."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import InputError, number_between, whole_number
from mofa_nb.faces import mesh
from mofa_nb.faces.pose import HeadPose, fit_head, to_head, to_picture

LIMITS = {
    "mouth": (0.0, 1.0),
    "smile": (-1.0, 1.0),
    "brows": (-1.0, 1.0),
    "eyelids": (-1.0, 1.0),
    "yaw": (-35.0, 35.0),
    "pitch": (-25.0, 25.0),
    "roll": (-35.0, 35.0),
}
EASES = ("linear", "ease", "ease_in", "ease_out")


@dataclass(frozen=True)
class Expression:
    """What the sliders say; all zero leaves the portrait as it is.

    mouth: 0 as photographed, 1 wide open. smile: 1 smiling, -1 corners down. brows: 1 raised, -1
    drawn together. eyelids: 1 closed, -1 wide open. yaw, pitch, roll: degrees; the nose goes to
    the picture's right, up, and the head's top to the picture's right.
    """

    mouth: float | int = 0.0
    smile: float | int = 0.0
    brows: float | int = 0.0
    eyelids: float | int = 0.0
    yaw: float | int = 0.0
    pitch: float | int = 0.0
    roll: float | int = 0.0

    def __post_init__(self):
        for field in fields(self):
            low, high = LIMITS[field.name]
            value = number_between(getattr(self, field.name), low, high, field.name)
            object.__setattr__(self, field.name, value)

    def to_json(self) -> dict[str, float]:
        """The sliders that are not zero."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name)}

    @classmethod
    def from_json(cls, values: object) -> "Expression":
        """Inverse of `to_json`; InputError for unknown names or values out of range."""
        if not isinstance(values, dict):
            raise InputError(f"an expression must be an object of sliders, got {values!r}")
        unknown = sorted(set(values) - set(LIMITS))
        if unknown:
            raise InputError(f"an expression has no slider {unknown[0]!r}: use {sorted(LIMITS)}")
        return cls(**values)

    @property
    def strengths(self) -> Float[Tensor, " 11"]:
        """Of mesh.EXPRESSIONS."""
        values = {
            "jaw_open": self.mouth,
            "smile": max(self.smile, 0.0),
            "frown": max(-self.smile, 0.0),
            "brows_up": max(self.brows, 0.0),
            "brows_down": max(-self.brows, 0.0),
            "blink_right": max(self.eyelids, 0.0),
            "blink_left": max(self.eyelids, 0.0),
            "eyes_wide": max(-self.eyelids, 0.0),
        }
        return torch.tensor([values.get(name, 0.0) for name in mesh.EXPRESSIONS])

    @property
    def degrees(self) -> Float[Tensor, " 3"]:
        """(yaw, pitch, roll)."""
        return torch.tensor((self.yaw, self.pitch, self.roll))


def eased(num_frames: int, ease: str = "ease") -> Float[Tensor, " T"]:
    """Share of the way that is done in each frame, from 0 in the first to 1 in the last."""
    if ease not in EASES:
        raise InputError(f"the ease must be one of {', '.join(EASES)}, got {ease!r}")
    num_frames = whole_number(num_frames, 2, 100_000, "the number of frames")
    time = torch.linspace(0, 1, num_frames)
    if ease == "ease":
        return time * time * (3 - 2 * time)
    if ease == "ease_in":
        return time**2
    return 1 - (1 - time) ** 2 if ease == "ease_out" else time


def hand_set(
    points: Float[np.ndarray, "478 3"],
    expression: Expression,
    num_frames: int,
    *,
    ease: str = "ease",
) -> Float[np.ndarray, "T 478 3"]:
    """The portrait's points on their way to an expression; frame 0 is the portrait itself.

    Args:
        points: the portrait's detected points, pixels, in 3-D.
    """
    share = eased(num_frames, ease)[:, None]
    return moved_face(points, share * expression.strengths, share * expression.degrees)


def moved_face(
    points: Float[np.ndarray, "478 3"],
    strengths: Float[Tensor, "T 11"],
    degrees: Float[Tensor, "T 3"],
) -> Float[np.ndarray, "T 478 3"]:
    """A portrait's points under expressions (added to the photographed one) and head turns.

    Args:
        strengths: of mesh.EXPRESSIONS. degrees: yaw, pitch, roll relative to the portrait's pose.
    """
    points = torch.from_numpy(np.asarray(points, np.float64))
    pose = fit_head(points)
    local = to_head(points, pose)
    frames = len(strengths)
    skin = local[: mesh.SKIN].expand(frames, -1, -1)
    skin = mesh.express(skin, strengths.double())
    irises = local[mesh.SKIN :].expand(frames, -1, -1)
    turned = mesh.posed(torch.cat([skin, irises], 1), degrees.double())
    poses = HeadPose(*(value.expand(frames, *value.shape) for value in vars(pose).values()))
    return to_picture(turned, poses).numpy()
