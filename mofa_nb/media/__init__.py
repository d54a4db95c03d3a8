"""Pictures, videos and sounds, read and written."""

from mofa_nb.media.images import read_image, to_uint8, to_unit
from mofa_nb.media.sound import SOUNDS, add_sound, read_sound
from mofa_nb.media.video import VIDEOS, read_video, write_clip
from mofa_nb.paths import data_file

__all__ = [
    "SOUNDS",
    "VIDEOS",
    "add_sound",
    "data_file",
    "read_image",
    "read_sound",
    "read_video",
    "to_uint8",
    "to_unit",
    "write_clip",
]
