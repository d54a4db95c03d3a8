"""The command line and faces: what drives them is found, checked early, and reaches the model."""

import sys
from pathlib import Path

import numpy as np
import pytest
from cli_hands import DATA, refused
from PIL import Image
from scipy.io import wavfile

from mofa_nb.__main__ import main
from mofa_nb.media.video import write_clip
from mofa_nb.motion.face import FaceSource, Strengths
from mofa_nb.motion.motion import Motion


@pytest.fixture
def portrait(place):
    """A photograph with a face, and landmarks that fit it."""
    face = Image.open(DATA / "astronaut.jpg").crop((60, 0, 360, 300))
    face.save(place / "face.png")
    networks = DATA.parent / "weights" / "face_landmarker.task"
    (place / "weights" / networks.name).symlink_to(networks)
    spread = np.linspace(60, 160, 68)[:, None].repeat(2, 1)
    np.save(place / "marks.npy", np.stack([spread] * 4))
    return face


def test_a_face_and_all_that_belongs_to_it_reach_the_model(portrait, place, calls):
    Image.new("L", (150, 150), 255).save(place / "mask.png")
    options = (
        "--face marks.npy --mouth-strength 1.5 --pose-strength 0 --face-scale 0.5 --seconds 0.5"
        " --mask mask.png --mask-softness 8 --after loop"
    )
    assert main(["animate", "face.png", *options.split()]) == 0
    (call,) = calls
    motion = call["motion"]
    assert motion.face == FaceSource("marks.npy", strengths=Strengths(pose=0, mouth=1.5))
    assert motion.size == (300, 300) and motion.mask.all() and motion.after == "loop"
    wanted = {"landmark_scale": 0.5, "seconds": 0.5, "mask_softness": 8}
    assert {key: call[key] for key in wanted} == wanted
    assert (place / "outputs" / "face-marks" / "clip.mp4").is_file()


def test_a_second_file_is_followed_by_the_next_face(portrait, place, calls, capsys):
    both = Image.new("RGB", (600, 300))
    both.paste(portrait, (0, 0)), both.paste(portrait, (300, 0))
    both.save(place / "two.png")
    options = ["--choose", "1", "--face", "marks.npy", "--face", "more.npy"]
    np.save(place / "more.npy", np.load(place / "marks.npy") + np.array([300, 0]))
    assert main(["animate", "two.png", *options]) == 0
    faces = FaceSource("marks.npy", choose=1), FaceSource("more.npy", choose=0)
    assert calls[0]["motion"].faces == faces
    capsys.readouterr()
    assert "more.npy lie far or mostly outside" in refused(capsys, "face.png", *options)


def test_a_face_in_the_motion_file_is_found_beside_it_and_takes_strengths(portrait, place, calls):
    (place / "moves").mkdir()
    np.save(place / "moves" / "marks.npy", np.load("marks.npy"))
    Motion((300, 300)).with_face("moves/marks.npy").save(place / "moves" / "m.json")
    assert main(["animate", "face.png", "moves/m.json", "--eyes-strength", "2"]) == 0
    face = FaceSource("other.wav", strengths=Strengths(mouth=1.5), choose=1)
    Motion((300, 300)).with_face(face).save(place / "m.json")
    both = ["animate", "face.png", "m.json", "--face", "marks.npy"]
    assert main(both) == main([*both, "--choose", "0", "--mouth-strength", "1"]) == 0
    beside, kept, given = (call["motion"].face for call in calls)
    assert Path(beside.source).is_file() and beside.strengths == Strengths(eyes=2)
    assert kept == FaceSource("marks.npy", strengths=Strengths(mouth=1.5), choose=1)
    assert given == FaceSource("marks.npy")


BAD_FACES = [  # picture, what drives it, sentence; more of each kind: test_faces_*.py
    ("photo.png", "long.wav", "no face was found in the picture"),
    ("face.png", "long.wav --choose 1", "face 1 was asked for, but the picture shows 1,"),
    ("face.png", "short.wav", "the sound lasts 0.10 seconds"),
    ("face.png", "broken.mp4", "video broken.mp4 cannot be decoded (Invalid data found"),
    ("face.png", "still.mp4", "at least 2 frames, but 1 came"),
    ("face.png", "cut.mp4", "the face is cut by the driving video's border"),
    ("face.png", "outside.npy", "lie far or mostly outside the 300x300 picture"),
    ("face.png", "", "a face's source is empty: name a video"),
]


@pytest.mark.parametrize(("picture", "source", "sentence"), BAD_FACES)
def test_a_face_that_cannot_be_driven_gets_one_sentence_before_the_model_is_loaded(
    picture, source, sentence, portrait, place, calls, capsys
):
    for name, samples in (("long.wav", 8000), ("short.wav", 1600)):
        wavfile.write(place / name, 16_000, np.zeros(samples, np.int16))
    (place / "broken.mp4").write_bytes(b"nonsense" * 20)
    write_clip("still.mp4", np.zeros((1, 64, 64, 3), np.uint8), 10)
    write_clip("cut.mp4", np.stack([np.asarray(portrait)[:110]] * 2), 10)
    np.save(place / "outside.npy", np.full((4, 68, 2), 900.0))
    assert sentence in refused(capsys, picture, "--face", *(source.split() or [""]))
    assert not calls


def test_the_models_own_rate_tells_how_long_a_clip_may_be(portrait, place, calls, capsys):
    (place / "weights" / "mini" / "settings.json").write_text('{"fps": 8}')
    sentence = refused(capsys, "face.png", "--face", "marks.npy", "--seconds", "0")
    assert "--seconds at 12.5 frames per second must lie between 0.16 and 800" in sentence
    assert "between 0.25 and 1250" in refused(capsys, "photo.png", "move.json", "--seconds", "0")


def test_a_voice_asks_for_the_recogniser_before_the_model_is_loaded(
    portrait, calls, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "hama", None)
    sentence = refused(capsys, "face.png", "--face", str(DATA / "speech.wav"))
    assert "pip install .[speech]" in sentence and not calls
