"""Pictures, videos and sounds, read and written."""

from mofa_nb.media.images import read_image, to_uint8, to_unit
from mofa_nb.media.video import read_video
from mofa_nb.paths import data_file
