"""The form's choices become a pad, and the pad's clip becomes files."""

import base64
import io
import sys
import types
import zipfile

import numpy as np
import pytest
from toy_session import ToySession

from mofa_nb.checks import InputError
from mofa_nb.motion.face import Expression
from mofa_nb.pad import studio
from mofa_nb.paths import data_file


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens studios on a toy session, and closes them."""
    pads, session = [], ToySession()
    monkeypatch.setattr(studio, "_session", lambda model: session)

    def make(*choices, **settings):
        pads.append(studio.open_studio(*choices, folder=tmp_path, **settings))
        return pads[-1]

    yield make
    for pad in pads:
        pad.close()
        pad.wait(10)


def test_drawing_begins_with_the_examples_tracks(opened):
    pad = opened("flower", "draw", steps=3, seed=0, frames=9)
    assert pad.motion.tracks and pad.motion.face is None
    values = pad.settings.values
    assert (values["steps"], values["seed"], values["num_frames"]) == (3, 0, 9)


def test_a_face_follows_a_voice_for_as_long_as_it_lasts(opened):
    pad = opened("grace_hopper.jpg", "face", "speech.wav")
    assert pad.motion.face.source == str(data_file("speech.wav")) and not pad.motion.tracks
    assert pad.settings.values["num_frames"] == pad.face.length > pad.session.num_frames


def test_both_at_once_by_hand_or_close_up(opened):
    pad = opened("grace_hopper.jpg", "draw and face")
    assert pad.motion.tracks and pad.motion.face.expression == Expression()
    near = opened("grace_hopper.jpg", "draw and face", close_up="yes")
    assert near.motion.size == (512, 512) and not near.motion.tracks


@pytest.mark.parametrize(
    "choices, sentence",
    [
        (("nowhere.jpg", "draw"), "nowhere.jpg is neither a file nor one of the shipped examples"),
        (("flower.jpg", "fly"), "the mode must be one of draw, face, draw and face"),
        (("upload", "draw"), "upload works in Colab"),
    ],
)
def test_what_cannot_be_opened_is_told(opened, choices, sentence):
    with pytest.raises(InputError, match=sentence):
        opened(*choices)


def test_colab_is_asked_for_a_file(tmp_path, monkeypatch):
    answer = {"photo.jpg": b"content"}
    files = types.SimpleNamespace(upload=lambda: answer)
    colab = types.ModuleType("google.colab")
    colab.files = files
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    path = studio.chosen_file("upload", tmp_path / "new")
    assert path.name == "photo.jpg" and path.read_bytes() == b"content"
    answer.clear()
    with pytest.raises(InputError, match="no file was sent"):
        studio.chosen_file("upload", tmp_path)


def test_a_clip_is_made_once_and_packed_for_the_way_home(opened):
    pad = opened("flower.jpg", "draw")
    clip = studio.newest_clip(pad)
    assert studio.newest_clip(pad) is clip and clip.frames.dtype == np.uint8
    link = studio.download_link(pad.save(clip)).data
    packed = base64.b64decode(link.split("base64,")[1].split('"')[0])
    names = zipfile.ZipFile(io.BytesIO(packed)).namelist()
    assert "flower-1/clip.mp4" in names and "flower-1/motion.json" in names
    assert not any(name.endswith(".npy") for name in names)


def test_an_empty_pad_has_no_clip(make_pad):
    with pytest.raises(InputError, match="nothing moves yet"):
        studio.newest_clip(make_pad())
