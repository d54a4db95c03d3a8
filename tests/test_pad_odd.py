"""What people really bring to the pad: files of any name, thousands of tracks, work in a hurry."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pad_hands import PHOTO, drag, press_key, status
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
from mofa_nb.show.notebook import image_bytes

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


def redone(code: str, monkeypatch):
    """What the code gives to `animate`: picture and motion, settings."""
    made = []
    monkeypatch.setattr("mofa_nb.animate.animate", lambda *a, **k: made.append((a, k)))
    exec(code, {})
    ((given, settings),) = made
    return given, settings


@pytest.mark.parametrize("name", NAMES)
def test_the_copied_code_holds_any_file_name(name, monkeypatch):
    motion = Motion((40, 30), [[(1, 2), (3, 4)]])
    if name.isprintable():  # others cannot drive a face
        motion = motion.with_face(FaceSource(Path(name).with_suffix(".wav")))
    code = code_text(name, motion, name, {"steps": 3, "size": (64, 32)})
    given, settings = redone(code, monkeypatch)
    assert given == (name, motion)
    assert settings == {"model": name, "steps": 3, "size": (64, 32)}


def test_the_copied_code_makes_the_same_motion_and_settings(make_pad, monkeypatch):
    pad = make_pad(motion=Motion((400, 300)).with_track([(50, 50), (90, 90)], speed="ease"))
    pad.state.set_track(0, locked=True)
    press_key(pad, "b")
    drag(pad, (50, 60), (150, 100))
    given, settings = redone(pad.code().replace("(picture,", "('picture',"), monkeypatch)
    assert given == ("picture", pad.motion)
    assert settings == {"model": "toy", **pad.settings.values}


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


SENT = [  # as ipywidgets 8 has it, and ipywidgets 7
    (({"name": "a.png", "content": memoryview(b"x")},), ("a.png", b"x")),
    (({"content": memoryview(b"x")},), ("file", b"x")),
    ({"a.png": {"metadata": {"name": "a.png"}, "content": b"x"}}, ("a.png", b"x")),
    ({"a.png": {"metadata": {"name": "a.png"}}}, ("a.png", b"")),
]


@pytest.mark.parametrize(("value", "file"), SENT)
def test_what_a_browser_sends_is_a_file_even_without_name_or_content(value, file):
    assert uploaded(value) == file


def send_file(pad, name: str, content: bytes) -> None:
    sent = {"name": name, "type": "", "size": 1, "content": content, "last_modified": 0}
    pad.header.upload.set_state({"value": [sent]})


def test_of_uploads_pictures_alone_are_kept_if_they_can_be_read(make_pad, monkeypatch):
    pad, picture = make_pad(), image_bytes(PHOTO[:200], "PNG")
    send_file(pad, "mine.png", picture)
    assert pad.motion.size == (400, 200) and "mine.png" in pad.header.scale.value
    text = json.dumps(Motion((400, 200)).with_pin(5, 6).to_json()).encode()
    for _ in range(2):  # what was sent may be sent again
        send_file(pad, "m.json", text)
        assert pad.motion.pins == ((5, 6),) and not pad.header.upload.value
        pad.edit(PadState.clear)
    monkeypatch.setattr(pad._engine, "busy", True)
    send_file(pad, "late.png", picture)
    assert "is being made" in status(pad)
    assert [path.name for path in (pad.folder / "uploads").iterdir()] == ["mine.png"]
    assert str(pad.folder / "uploads" / "mine.png") in pad.code()


BAD = {
    "text.png": b"not a picture", "empty.png": b"", "film.mp4": b"\0" * 64, "broken.json": b"{",
    "wrong.json": b'{"size": [400, 300], "tracks": [[[1, 2]]]}', "empty.json": b"",
    "LOUD.JSON": b"[]", "no suffix": b"what is this", "list.npy": b"\x93NUMPY",
}  # fmt: skip


@pytest.mark.parametrize("sent", [True, False])
def test_a_bad_file_opened_or_sent_is_named_and_changes_nothing(sent, make_pad, tmp_path):
    pad = make_pad(motion=Motion((400, 300)).with_pin(50, 50))
    before = pad.picture
    for name, content in BAD.items():
        (tmp_path / name).write_bytes(content)
        pad._say("")
        if sent:
            send_file(pad, name, content)
        else:
            pad.header.path.value = str(tmp_path / name)
        assert pad.wait(30) and name in status(pad), name
        assert "warn" in status(pad) and "Error" not in status(pad), name
        assert pad.picture is before and pad.motion.pins == ((50, 50),)
    assert not list(pad.folder.glob("uploads/*.png"))


def test_a_motion_file_of_another_size_is_rescaled(make_pad, tmp_path):
    pad = make_pad()
    Motion((800, 600)).with_pin(400, 300).save(tmp_path / "m.json")
    pad.header.path.value = str(tmp_path / "m.json")
    assert pad.motion.pins == ((200, 150),)
