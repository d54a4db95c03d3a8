"""What people really bring to the pad: files of any name, thousands of tracks, work in a hurry."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pad_hands import drag, status
from toy_session import ToySession

from mofa_nb.checks import InputError
from mofa_nb.motion.face import FaceSource
from mofa_nb.motion.motion import Motion
from mofa_nb.pad.picture import kept_upload, uploaded
from mofa_nb.pad.state import PadState
from mofa_nb.pad.strokes import Handle
from mofa_nb.pad.view import drawn_tracks, path_shapes
from mofa_nb.pad.widgets import code_text
from mofa_nb.show.drawing import MOST_DRAWN

# Thousands of tracks


@pytest.fixture(scope="module")
def crowd():
    """A motion of 20,000 tracks."""
    points = np.random.default_rng(0).uniform(0, 290, (20_000, 2, 2)).round(1).tolist()
    return Motion((400, 300), points)


def test_of_thousands_of_tracks_some_from_all_over_are_drawn_and_the_chosen_one(crowd):
    state = PadState(crowd, 1.0, 14)
    state.selected = Handle("track", 12_345)
    seen = drawn_tracks(state)
    assert len(seen) <= MOST_DRAWN + 1 and 12_345 in seen and max(seen) > 19_900
    (words,) = [shape.words for shape in path_shapes(state) if shape.kind == "texts"]
    assert words == [str(i + 1) for i in seen]
    few = PadState(replace(crowd, tracks=crowd.tracks[:MOST_DRAWN]), 1.0, 14)
    assert len(drawn_tracks(few)) == MOST_DRAWN


def test_a_motion_file_of_thousands_of_tracks_opens_and_says_how_many_are_drawn(
    make_pad, crowd, tmp_path
):
    class Strict(ToySession):
        def dense_flow(self, motion, num_frames=None):
            raise InputError("more than the hint grid has pixels")

    crowd.save(tmp_path / "crowd.json")
    pad = make_pad(session=Strict())
    pad.open(tmp_path / "crowd.json")
    assert pad.wait(60) and "more than the hint grid" in status(pad)
    assert len(pad.motion.tracks) == 20_000
    assert "400 of 20000 are drawn" in pad.tracks.note.value


# The copied code

NAMES = [
    "plain.jpg",
    "it's.jpg",
    'a "b".jpg',
    "back\\slash.jpg",
    "new\nline.jpg",
    "null, true].jpg",
    "{brace}.jpg",
    "ümläut 猫.jpg",
    "'''.jpg",
    "\udce4.jpg",
    "#.jpg",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_copied_code_holds_any_file_name(name, monkeypatch):
    motion = Motion((40, 30), [[(1, 2), (3, 4)]])
    if name.isprintable():  # others cannot drive a face
        motion = motion.with_face(FaceSource(Path(name).with_suffix(".wav")))
    made = []
    monkeypatch.setattr("mofa_nb.animate.animate", lambda *a, **k: made.append((a, k)))
    exec(code_text(name, motion, name, {"steps": 3, "size": (64, 32)}), {})
    (((picture, remade), options),) = made
    assert picture == name and remade == motion
    assert options == {"model": name, "steps": 3, "size": (64, 32)}


# Notices


def test_a_notice_of_an_earlier_motion_is_not_shown_beside_a_later_one(make_pad):
    class Slow(ToySession):
        looked, go = threading.Event(), threading.Event()

        def dense_flow(self, motion, num_frames=None):
            if len(motion.tracks) == 1:
                self.looked.set()
                assert self.go.wait(30)
                raise InputError("the first track is too long")
            return super().dense_flow(motion, num_frames)

    session = Slow()
    pad = make_pad(session=session)
    drag(pad, (50, 60), (150, 100))
    assert session.looked.wait(30)
    drag(pad, (200, 60), (250, 100))
    session.go.set()
    assert pad.wait(30) and "too long" not in status(pad)
    pad.edit(PadState.undo)
    assert pad.wait(30) and "too long" in status(pad)


# Uploads

UPLOADS = {
    "film.mp4": "film.mp4",
    "C:\\fakepath\\film.mp4": "film.mp4",
    "../../film.mp4": "film.mp4",
    "a\0b?.wav": "a_b_.wav",
    "x" * 300 + ".mp4": "x" * 60 + ".mp4",
    "猫" * 200 + ".mp4": "猫" * 60 + ".mp4",
    "..": "file",
    "": "file",
    ".npy": "npy",
}


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_of_any_name_is_kept_under_one_that_a_disk_takes(name, tmp_path):
    path = kept_upload(name, b"content", tmp_path / "faces")
    assert path == tmp_path / "faces" / UPLOADS[name] and path.read_bytes() == b"content"


def test_an_upload_leaves_another_one_of_its_name_alone(tmp_path):
    (tmp_path / "a-2.wav").mkdir()
    contents = [b"one", b"two", b"one"]
    names = [kept_upload("a.wav", content, tmp_path).name for content in contents]
    assert names == ["a.wav", "a-3.wav", "a.wav"]


def test_what_a_browser_sends_without_name_or_content_is_still_a_file():
    assert uploaded(({"content": memoryview(b"x")},)) == ("file", b"x")
    assert uploaded({"a": {"metadata": {"name": "a.png"}}}) == ("a.png", b"")


ODD = {
    "empty.png": b"",
    "film.mp4": b"\0" * 64,
    "empty.json": b"",
    "LOUD.JSON": b"[]",
    "no suffix": b"what is this",
    "list.npy": b"\x93NUMPY",
}


def test_an_odd_upload_gets_a_sentence_and_changes_nothing(make_pad):
    pad = make_pad(motion=Motion((400, 300)).with_pin(50, 50))
    before = pad.picture
    for name, content in ODD.items():
        pad._say("")
        pad._shown(pad.open_upload)(({"name": name, "content": memoryview(content)},))
        assert pad.wait(30) and "warn" in status(pad) and "Error" not in status(pad), name
        assert pad.picture is before and pad.motion.pins == ((50, 50),)
