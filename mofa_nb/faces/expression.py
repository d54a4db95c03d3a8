"""A target expression and head turn set by hand, reached over the clip."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import whole_number
from mofa_nb.faces import mesh
from mofa_nb.faces.mesh import fit_head, to_head, to_picture
from mofa_nb.faces.retarget import FacePoints, Faces
from mofa_nb.motion.face import LIMITS as LIMITS
from mofa_nb.motion.face import Expression


def hand_set(points: FacePoints, expression: Expression, num_frames: int) -> Faces:
    """The portrait's points on their way to an expression; frame 0 is the portrait itself."""
    time = torch.linspace(0, 1, whole_number(num_frames, 2, 100_000, "the number of frames"))
    progress = (time * time * (3 - 2 * time))[:, None]  # slow at both ends
    degrees = torch.tensor((expression.yaw, expression.pitch, expression.roll))
    values = {
        "jaw_open": expression.mouth, "smile": max(expression.smile, 0.0),
        "frown": max(-expression.smile, 0.0), "brows_up": max(expression.brows, 0.0),
        "brows_down": max(-expression.brows, 0.0), "blink_right": max(expression.eyelids, 0.0),
        "blink_left": max(expression.eyelids, 0.0), "eyes_wide": max(-expression.eyelids, 0.0),
    }  # fmt: skip
    strengths = torch.tensor([values.get(name, 0.0) for name in mesh.EXPRESSIONS])
    return moved_face(points, progress * strengths, progress * degrees)


def moved_face(
    points: FacePoints, strengths: Float[Tensor, "T 11"], degrees: Float[Tensor, "T 3"]
) -> Faces:
    """A portrait's points under expressions (added to the photographed one) and head turns.
    strengths: of mesh.EXPRESSIONS. degrees: yaw, pitch, roll relative to the portrait's pose."""
    points = torch.from_numpy(np.asarray(points, np.float64))
    pose = fit_head(points)
    local = to_head(points, pose).expand(len(strengths), -1, -1)
    skin = mesh.express(local[:, : mesh.SKIN], strengths.double())
    turned = mesh.posed(torch.cat([skin, local[:, mesh.SKIN :]], 1), degrees.double())
    return to_picture(turned, pose).numpy()
