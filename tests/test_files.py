"""What is no file that can be read is never opened, never waited for, in every reader."""

import os
from functools import partial

import numpy as np
import pytest

from mofa_nb.checks import InputError, existing_file
from mofa_nb.config import Settings
from mofa_nb.faces.points import read_landmarks
from mofa_nb.media.images import read_image
from mofa_nb.media.sound import add_sound, check_sound, read_sound
from mofa_nb.media.video import frame_rate, read_video, write_clip
from mofa_nb.motion.brush import read_brush, read_painted
from mofa_nb.motion.face import driving_file
from mofa_nb.motion.formats import read_motion
from mofa_nb.motion.motion import Motion

READERS = {
    "picture.png": read_image,
    "mask.png": partial(read_painted, what="mask"),
    "motion.json": Motion.load,
    "tracks.npy": partial(read_motion, size=(64, 64)),
    "settings.json": Settings.load,
    "video.mp4": read_video,
    "rate.mp4": frame_rate,
    "sound.wav": read_sound,
    "checked.wav": check_sound,
    "marks.npy": partial(read_landmarks, size=(64, 64)),
    "driven.mp4": driving_file,
}
NO_FILES = ["pipe", "device", "folder", "loop", "none", "nul", "long", "deep"]


def no_file(kind, folder, name):
    """A path that cannot be read; opening a pipe waits, and /dev/zero never ends."""
    path = folder / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("device", "loop"):
        path.symlink_to("/dev/zero" if kind == "device" else path)
    long = f"{folder}/{'n' * 300}{name}"
    return {"nul": f"a\0b{name}", "long": long, "deep": f"{'d/' * 3000}{name}"}.get(kind, path)


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_gets_one_sentence_at_once(kind, name, tmp_path):
    expected = {"pipe": "pipe or a device", "device": "pipe or a device", "folder": "is a folder"}
    with pytest.raises(InputError, match=expected.get(kind, "does not exist")) as caught:
        READERS[name](no_file(kind, tmp_path, name))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize("kind", ["pipe", "device", "nul", "long"])
def test_a_brush_and_a_sound_beside_something_else_are_no_exception(kind, tmp_path):
    with pytest.raises(InputError):
        read_brush(no_file(kind, tmp_path, "b.png").__str__().split("/")[-1], tmp_path)
    write_clip(tmp_path / "clip.mp4", np.zeros((2, 32, 32, 3), np.uint8), 10)
    with pytest.raises(InputError):
        add_sound(tmp_path / "clip.mp4", no_file(kind, tmp_path, "s.wav"), tmp_path / "o.mp4")
    assert not (tmp_path / "o.mp4").exists()


def test_a_file_that_one_may_not_read_is_told_so(tmp_path, monkeypatch):
    (tmp_path / "p.png").write_bytes(b"")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="may not be read by you"):
        existing_file(tmp_path / "p.png", "image")
