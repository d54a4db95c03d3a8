"""Opening videos and sounds, whatever their names, tags and claims."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mofa_nb.checks import InputError, existing_file, refusing

if TYPE_CHECKING:
    from av.container import InputContainer

LARGEST_FRAME = 2**26  # pixels
_MISSING = {
    "video": "holds no pictures: choose another, or if it holds sound, name it .wav or .m4a",
    "audio": "holds no sound: use a wav, mp3 or flac file",
}
_SAVED = {"video": "save it again as h264 mp4", "audio": "save it again as wav, mp3 or flac"}


@contextmanager
def opened(path: str | os.PathLike, what: str, kind: str) -> Iterator["InputContainer"]:
    """A file that holds "video" or "audio"; what cannot be decoded is one sentence on `what`.

    Only that file is read, never what it may point at; tags in any encoding are let pass."""
    import av

    path = existing_file(path, what)
    options = {"protocol_whitelist": "file", "max_pixels": str(LARGEST_FRAME)}
    wrong = (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError)
    with (
        refusing(f"{what} {path} cannot be decoded", _SAVED[kind], *wrong),
        av.open(os.path.abspath(path), options=options, metadata_errors="replace") as container,
    ):
        if not getattr(container.streams, kind):
            raise InputError(f"{what} {path} {_MISSING[kind]}")
        yield container
