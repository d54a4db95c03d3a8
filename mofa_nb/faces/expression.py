"""A target expression and head turn set by hand, reached over the clip."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import whole_number
from mofa_nb.faces import mesh
from mofa_nb.faces.mesh import HeadPose, fit_head, to_head, to_picture
from mofa_nb.motion.face import Expression


def hand_set(
    points: Float[np.ndarray, "478 3"], expression: Expression, num_frames: int
) -> Float[np.ndarray, "T 478 3"]:
    """The portrait's points on their way to an expression; frame 0 is the portrait itself."""
    time = torch.linspace(0, 1, whole_number(num_frames, 2, 100_000, "the number of frames"))
    share = (time * time * (3 - 2 * time))[:, None]  # slow at both ends
    degrees = torch.tensor((expression.yaw, expression.pitch, expression.roll))
    return moved_face(points, share * blendshape_weights(expression), share * degrees)


def blendshape_weights(expression: Expression) -> Float[Tensor, " 11"]:
    """How far each of `mesh.EXPRESSIONS` is reached, in [0, 1]."""
    values = {
        "jaw_open": expression.mouth,
        "smile": max(expression.smile, 0.0),
        "frown": max(-expression.smile, 0.0),
        "brows_up": max(expression.brows, 0.0),
        "brows_down": max(-expression.brows, 0.0),
        "blink_right": max(expression.eyelids, 0.0),
        "blink_left": max(expression.eyelids, 0.0),
        "eyes_wide": max(-expression.eyelids, 0.0),
    }
    return torch.tensor([values.get(name, 0.0) for name in mesh.EXPRESSIONS])


def moved_face(
    points: Float[np.ndarray, "478 3"],
    strengths: Float[Tensor, "T 11"],
    degrees: Float[Tensor, "T 3"],
) -> Float[np.ndarray, "T 478 3"]:
    """A portrait's points under expressions (added to the photographed one) and head turns.
    strengths: of mesh.EXPRESSIONS. degrees: yaw, pitch, roll relative to the portrait's pose."""
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
