"""A voice through AniPortrait's networks: from the files to landmarks, and every way to ask."""

import json

import numpy as np
import pytest
import tiny
import torch
from cli_hands import refused
from parity_voice import released_landmarks
from PIL import Image

from mofa_nb.__main__ import main
from mofa_nb.checks import InputError
from mofa_nb.faces import voice
from mofa_nb.faces.detect import find_face
from mofa_nb.faces.drive import drive_face
from mofa_nb.faces.points import ANIPORTRAIT_68
from mofa_nb.media.images import read_image
from mofa_nb.media.sound import SPEECH_RATE, read_sound
from mofa_nb.models import checkpoints, load
from mofa_nb.models.load import load_voice
from mofa_nb.motion.face import Expression, FaceSource, Strengths
from mofa_nb.motion.formats import load_motion
from mofa_nb.motion.motion import Motion
from mofa_nb.paths import data_file

VOICE, PHOTO = data_file("speech.wav"), data_file("astronaut.jpg")
MARKS = list(ANIPORTRAIT_68)
LIPS, LIDS = slice(48, 68), slice(36, 48)


@pytest.fixture(scope="module")
def face():
    return find_face(read_image(PHOTO))


@pytest.fixture(scope="module")
def networks():
    return voice.VoiceNetworks(*map(tiny.voice_network, ("tiny_audio2mesh", "tiny_audio2pose")))


def said(seconds=2.0, offset=0.0, pose=0.0, fps=25):
    """A made-up motion: every vertex and the head the same in all frames."""
    frames = round(seconds * fps)
    offsets, poses = np.full((frames, 468, 3), offset), np.full((frames, 6), pose)
    return voice.VoiceMotion(offsets, poses, fps, seconds)


# The way to landmarks


def test_the_metric_mesh_is_seen_where_the_face_was_detected(face):
    reference = voice.metric_face(face.points, face.size)
    seen = reference.seen(reference.mesh[None], np.zeros((1, 6)))
    np.testing.assert_allclose(seen[0], face.points[:468, :2], atol=1e-5)
    assert 15 < np.ptp(reference.mesh[:, 1]) < 20  # a face is about 17 cm high


def test_a_voice_that_moves_nothing_leaves_the_portrait_but_for_its_blinks(face):
    marks = voice.spoken_landmarks(face, said(8.0), 25, seed=1)
    still = np.abs(marks - marks[0]).max((1, 2))
    assert marks.shape == (200, 68, 2) and (still < 1e-5).mean() > 0.6
    moved = np.abs(marks - marks[0]).max((0, 2))
    assert moved[LIDS].max() > 2 and moved[LIPS].max() < 1e-5
    calm = voice.spoken_landmarks(face, said(8.0), 25, strengths=Strengths(eyes=0))
    np.testing.assert_allclose(calm, np.broadcast_to(marks[0], calm.shape), atol=1e-5)


def test_the_face_leaves_the_photograph_without_a_jump(face):
    moving = said(offset=0.4, pose=4.0)
    marks = voice.spoken_landmarks(face, moving, 25, strengths=Strengths(eyes=0))
    np.testing.assert_array_equal(marks[0], face.points[MARKS, :2])
    there = np.abs(marks[-1] - marks[0]).max()
    assert np.abs(np.diff(marks, axis=0)).max() < there / 2
    reference = voice.metric_face(face.points, face.size)
    jump = released_landmarks(reference, face.points[:, :2], moving)
    assert np.abs(jump[1] - jump[0]).max() > 0.9 * there and len(jump) == 51


def test_strengths_scale_what_the_networks_say(face):
    moving = said(offset=0.3, pose=5.0)

    def moved(**strengths):
        share = Strengths(**{"eyes": 0, "brows": 0, "mouth": 0, "pose": 0} | strengths)
        marks = voice.spoken_landmarks(face, moving, 25, strengths=share)
        return np.abs(marks[-1] - marks[0]).max(-1)

    assert moved().max() < 1e-5
    assert moved(mouth=1)[LIPS].min() > 10 * moved(mouth=1)[LIDS].max()
    np.testing.assert_allclose(moved(mouth=2)[LIPS], 2 * moved(mouth=1)[LIPS], rtol=0.1)
    assert moved(eyes=1)[LIDS].max() > 2 and moved(pose=1).min() > 2


@pytest.mark.parametrize("fps", [12.5, 24, 30, 60])
def test_any_frame_rate_shows_the_same_face_at_the_same_time(face, networks, fps):
    motion = voice.voice_motion(networks, read_sound(VOICE).samples[: 3 * SPEECH_RATE])
    usual = voice.spoken_landmarks(face, motion, 25, strengths=Strengths(eyes=0))
    marks = voice.spoken_landmarks(face, motion, fps, strengths=Strengths(eyes=0))
    assert len(marks) == 3 * fps + (fps == 12.5) * 0.5
    np.testing.assert_allclose(marks[round(2 * fps)], usual[50], atol=1e-4)


def test_a_long_sound_is_heard_in_pieces_that_fit_together(networks, monkeypatch):
    samples = np.random.default_rng(0).normal(0, 0.1, 11 * SPEECH_RATE).astype(np.float32)
    whole, shares = voice.voice_motion(networks, samples), []
    monkeypatch.setattr(voice, "MESH_PIECE", 4)
    monkeypatch.setattr(voice, "MARGIN", 20)  # each piece hears all of it
    pieces = voice.voice_motion(networks, samples, progress=shares.append)
    np.testing.assert_allclose(pieces.offsets, whole.offsets, atol=1e-5)
    np.testing.assert_array_equal(pieces.poses, whole.poses)
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) == 3 + 2
    monkeypatch.setattr(voice, "MARGIN", 1)
    apart = voice.voice_motion(networks, samples)
    assert apart.offsets.shape == whole.offsets.shape == (275, 468, 3)


def test_frames_are_counted_without_rounding_noise():
    assert voice.frame_count(4480, 25) == 7 and voice.frame_count(4480, 25, as_released=True) == 8
    assert voice.frame_count(640, 25) == 1 and voice.frame_count(641, 25) == 2


def test_too_short_a_sound_and_too_many_frames_are_refused(networks):
    with pytest.raises(InputError, match=r"samples of sound must be .* from 400 .* 399"):
        voice.voice_motion(networks, np.zeros(399, np.float32))
    for speaker in (100, -1, 0.5):
        with pytest.raises(InputError, match="the speaker must be a whole number from 0 to 99"):
            networks.pose(torch.zeros(16000), 1, speaker)
    with pytest.raises(InputError, match="from 1 to 600, but 601 came"):
        networks.pose(torch.zeros(16000), 601)
    assert len(voice.voice_motion(networks, np.zeros(400, np.float32)).poses) == 1


def test_a_voice_drives_a_portrait_by_the_networks(networks):
    image = read_image(PHOTO)
    motion = drive_face(image, VOICE, networks=networks, num_frames=20, fps=30)
    assert motion.landmarks.shape == (20, 68, 2) and motion.sound == VOICE and motion.fps == 30
    assert any("AniPortrait's networks" in note for note in motion.notes)
    usual = drive_face(image, VOICE, networks=networks, fps=30, seed=3)
    torch.testing.assert_close(usual.landmarks[:12], motion.landmarks[:12])


# The files


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A folder without the networks, and nothing in the hub's cache."""
    monkeypatch.setattr(checkpoints, "cached", lambda repo, name: None)
    monkeypatch.setenv("MOFA_NB_ROOT", str(tmp_path))
    load_voice.cache_clear()
    yield tmp_path
    load_voice.cache_clear()


@pytest.mark.parametrize("below", ["ckpts/aniportrait", "aniportrait", "."])
def test_the_files_are_found_in_a_model_folder_and_beside_it(bare, below):
    (bare / "model" / below).mkdir(parents=True)
    for name in ("audio2mesh.pt", "audio2pose.pt"):
        (bare / "model" / below / name).touch()
    found = checkpoints.find_voice(bare / "model")
    assert [path.name for path in found.values()] == ["audio2mesh.pt", "audio2pose.pt"]
    assert checkpoints.find_voice(bare / "model" / "ckpts").keys() == found.keys()
    assert checkpoints.find_voice(bare / "model", "auto") == found
    assert checkpoints.find_voice(bare / "model", "preset") == {}


def test_missing_files_are_told_with_what_to_put_where(bare):
    assert checkpoints.find_voice(bare, "auto") == {}
    with pytest.raises(InputError, match=r"lack audio2mesh.pt audio2pose.pt: run `hf download"):
        checkpoints.find_voice(bare)
    (bare / "aniportrait").mkdir()
    (bare / "aniportrait" / "audio2mesh.pt").touch()
    with pytest.raises(InputError, match=r"lack audio2pose.pt: .* into .*aniportrait"):
        checkpoints.find_voice(bare)


def test_the_hubs_cache_is_looked_into(bare, monkeypatch):
    cache = {("ZJYang/AniPortrait", f"audio2{kind}.pt"): bare / kind for kind in ("mesh", "pose")}
    monkeypatch.setattr(checkpoints, "cached", lambda *name: cache.get(name))
    assert checkpoints.find_voice() == {f"audio2{k}": bare / k for k in ("mesh", "pose")}


def test_full_size_files_of_the_published_layout_are_loaded_strictly(bare):
    folder = bare / "ckpts" / "aniportrait"
    folder.mkdir(parents=True)
    for part in ("audio2mesh", "audio2pose"):
        state = tiny.voice_state(part)
        torch.save(state, folder / f"{part}.pt")
        assert set(state) == set(tiny.manifest(tiny.voice_manifest(part))["keys"])
    loaded = load_voice(bare)
    for part, net in (("audio2mesh", loaded.mesh), ("audio2pose", loaded.pose)):
        for key, value in tiny.voice_network(part).state_dict().items():
            assert torch.equal(net.state_dict()[key], value), key
    count = sum(value.numel() for value in loaded.pose.state_dict().values())
    assert count == 120_365_958 and isinstance(loaded.pose, voice.AudioToPose)


@pytest.mark.parametrize(
    "key, shape, sentence",
    [
        ("PPE.pe", None, "the file lacks 'PPE.pe'"),
        ("more", [1], "has an unknown tensor 'more'"),
        ("pose_map.weight", [512, 64], "holds 'pose_map.weight' as [512, 64] instead of [512, 6]"),
    ],
)
def test_another_network_by_the_same_name_is_refused(bare, key, shape, sentence):
    for part in ("audio2mesh", "audio2pose"):
        shapes = tiny.manifest(tiny.voice_manifest(part))["keys"]
        shapes |= {key: shape} if part == "audio2pose" else {}
        state = {key: torch.ones(1).expand(shape) for key, shape in shapes.items() if shape}
        torch.save(state, bare / f"{part}.pt")
    with pytest.raises(InputError) as caught:
        load_voice(bare)
    assert sentence in str(caught.value) and "audio2pose" in str(caught.value)
    assert "AniPortrait published other networks by this name" in str(caught.value)


def test_one_network_is_filled_before_the_next_is_read(bare, monkeypatch):
    did = []
    monkeypatch.setattr(load, "published_state", lambda part, *_: did.append(f"read {part}"))
    monkeypatch.setattr(load, "fill_voice", lambda part, *_: did.append(f"fill {part}"))
    for part in ("audio2mesh", "audio2pose"):
        (bare / f"{part}.pt").touch()
    load_voice(bare)
    assert did == ["read audio2mesh", "fill audio2mesh", "read audio2pose", "fill audio2pose"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"version https://git-lfs.github.com", b"PK"])
def test_damaged_files_are_refused_in_one_sentence(bare, content):
    for part in ("audio2mesh", "audio2pose"):
        (bare / f"{part}.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"audio2mesh\.pt is (damaged|a git-lfs pointer)"):
        load_voice(bare)


# Asking for it


@pytest.mark.parametrize(
    "values",
    [
        {"source": "talk.wav", "voice": "aniportrait"},
        {"source": "marks.npy", "fps": 25, "sound": "talk.wav"},
        {"expression": {"smile": 0.5, "yaw": -10.0}},
    ],
)
def test_a_face_keeps_what_it_follows_in_a_motion_file(values, tmp_path):
    face = FaceSource.from_json(values, tmp_path)
    Motion((64, 64), face=face).save(tmp_path / "move.json")
    assert json.loads((tmp_path / "move.json").read_text())["face"] == values
    assert load_motion(tmp_path / "move.json").face == face


def test_several_faces_are_kept_in_a_motion_file_and_each_must_be_another():
    faces = FaceSource("talk.wav"), FaceSource(expression=Expression(mouth=1.0), choose=1)
    motion = Motion((96, 64), face=faces[0], others=[faces[1]])
    assert Motion.from_json(motion.to_json()) == motion and motion.faces == faces
    assert motion.to_json()["face"][1] == {"expression": {"mouth": 1.0}, "choose": 1}
    assert motion != Motion((96, 64), face=faces[0])
    with pytest.raises(InputError, match="choose the same face"):
        Motion((96, 64), face=faces[0], others=[FaceSource("other.wav")])


def test_a_face_that_follows_another_sound_keeps_its_voice():
    face = FaceSource("talk.wav", voice="aniportrait")
    assert face.following("other.wav").voice == "aniportrait"
    assert face.following(Expression(smile=1)).voice == face.following("a.mp4").voice == "preset"


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"source": "a.wav", "voice": "robot"}, "a voice must be one of .* but 'robot' came"),
        ({"source": "a.wav", "voice": ["auto"]}, "a voice must be one of"),
        ({"source": "a.mp4", "voice": "auto"}, "the voice auto needs a sound .* follows a.mp4"),
        ({"expression": {}, "voice": "auto"}, "but it follows an expression"),
        ({"expression": {"mouth": 2}}, "mouth must lie between 0 and 1"),
        ({"source": "a.mp4", "strengths": {"mouth": 5}}, "mouth strength must lie between 0 and 2"),
        ({"source": "a.wav", "fps": 25}, "a face's fps is said of landmarks .* follows a.wav"),
        ({"source": "a.mp4", "sound": "b.wav"}, "a face's sound is said of landmarks"),
        ({"source": "a.npy", "fps": 0}, "the landmarks' frames per second"),
        ({"source": "a.npy", "fps": "25"}, "the landmarks' frames per second"),
        ({"source": "a.npy", "fps": float("nan")}, "the landmarks' frames per second"),
        ({"source": "a.npy", "sound": "b\0.wav"}, "a face's sound holds what no file name does"),
        ({"source": "\ud800.npy"}, "a face's source holds what no file name does"),
        ({"source": "a.npy", "sound": " "}, "a face's sound is empty"),
        ({"source": "a.npy", "sound": 5}, "a face's sound must be a file, but 5 came"),
    ],
)
def test_what_a_face_has_no_use_for_is_refused(values, sentence):
    with pytest.raises(InputError, match=sentence):
        FaceSource.from_json(values)


def portrait_and_marks(folder, count=68, frames=10, dims=2):
    """A photograph, and a landmark file whose points go down by a pixel each frame."""
    image = read_image(PHOTO)
    Image.fromarray(image).save(folder / "photo.png")
    points = find_face(image).points
    chosen = points[MARKS] if count == 68 else points[:count]
    down = np.arange(frames)[:, None, None] * np.array([0, 1, 0])
    np.save(folder / "marks.npy", (chosen + down)[..., :dims])
    return image, points


@pytest.mark.parametrize("count, dims", [(468, 2), (478, 3), (468, 3), (68, 3)])
def test_other_programs_points_are_taken_as_aniportraits_68(tmp_path, count, dims):
    image, points = portrait_and_marks(tmp_path, count, dims=dims)
    motion = drive_face(image, tmp_path / "marks.npy")
    np.testing.assert_allclose(motion.landmarks[0], points[MARKS, :2], rtol=1e-5)


def test_landmarks_are_read_off_at_the_clips_rate_with_their_sound(tmp_path):
    image, _ = portrait_and_marks(tmp_path)
    plain = drive_face(image, tmp_path / "marks.npy", fps=12.5)
    timed = drive_face(image, FaceSource(tmp_path / "marks.npy", fps=25, sound=VOICE), fps=12.5)
    torch.testing.assert_close(timed.landmarks, plain.landmarks[::2])
    assert timed.sound == VOICE and plain.sound is None


# On the command line (the model is stood in for; see cli_hands)


@pytest.fixture
def desk(bare, place):
    portrait_and_marks(place)
    return place


def test_the_command_line_takes_a_voice_a_rate_and_a_sound(desk, calls):
    sound = str(VOICE)
    assert main(["animate", "photo.png", "--face", sound, "--voice", "auto", "--out", "a"]) == 0
    marks = ["--face", "marks.npy", "--face-fps", "25", "--sound", sound, "--out", "b"]
    assert main(["animate", "photo.png", *marks]) == 0
    first, second = (call["motion"].face for call in calls)
    assert first == FaceSource(sound, voice="auto")
    assert second == FaceSource("marks.npy", fps=25, sound=sound)


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--face", str(VOICE), "--voice", "aniportrait"], "lack audio2mesh.pt audio2pose.pt: run"),
        (["--voice", "auto"], "nothing says how to move the image"),
        (["--face", "marks.npy", "--face-fps", "fast"], "frames per second must be a number"),
        (["--face", "marks.npy", "--sound", "none.wav"], "none.wav does not exist"),
        (["--face", "marks.npy", "--sound", "photo.png"], "holds no sound"),
    ],
)
def test_the_command_line_refuses_what_cannot_be_done(desk, capsys, options, sentence):
    assert sentence in refused(capsys, "photo.png", *options)
