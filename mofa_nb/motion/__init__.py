"""What the user wants: tracks, pins, brush and face, fitted to a picture. No network lies below."""

from mofa_nb.motion.face import Expression, FaceSource, Strengths
from mofa_nb.motion.fit import Fit, fit_image, fit_motion
from mofa_nb.motion.motion import MOTION_READERS, Motion, load_motion
from mofa_nb.motion.tracks import Track

__all__ = [
    "MOTION_READERS",
    "Expression",
    "FaceSource",
    "Fit",
    "Motion",
    "Strengths",
    "Track",
    "fit_image",
    "fit_motion",
    "load_motion",
]
