"""What the user wants: tracks, pins, brush and face, fitted to a picture."""

from mofa_nb.motion.camera import camera_tracks
from mofa_nb.motion.face import Expression, FaceSource, Strengths
from mofa_nb.motion.fit import Fit, fit_image, fit_motion
from mofa_nb.motion.formats import MOTION_READERS, load_motion, read_motion, save_motion
from mofa_nb.motion.motion import Motion
from mofa_nb.motion.select import brush_thing
from mofa_nb.motion.tracks import Track
