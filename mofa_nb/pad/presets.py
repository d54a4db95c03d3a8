"""Camera moves of the pad; they are `motion.camera`'s."""

from mofa_nb.motion.camera import CAMERAS, camera_tracks

__all__ = ["CAMERAS", "camera_tracks"]
