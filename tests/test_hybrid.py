"""Faces, faces with tracks, and clips of any length: who moves what, and what it costs."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from mofa_nb.adapter.adapter import Adapter
from mofa_nb.animate import animate
from mofa_nb.checks import InputError
from mofa_nb.faces.detect import find_face
from mofa_nb.faces.draw import landmark_hints
from mofa_nb.faces.drive import drive_face
from mofa_nb.faces.points import to_68
from mofa_nb.faces.speech import speech_curves
from mofa_nb.flow.dense import dense_flow, grid_features
from mofa_nb.media.sound import Sound
from mofa_nb.media.video import write_clip
from mofa_nb.motion.face import Expression, FaceSource
from mofa_nb.motion.motion import Motion
from mofa_nb.paths import data_file
from mofa_nb.pipeline import layers
from mofa_nb.pipeline.layers import soft_mask
from mofa_nb.pipeline.session import Session
from mofa_nb.pipeline.settings import ClipSettings

SIZE = (64, 64)
OPEN, TURNED = Expression(mouth=1.0, yaw=10.0), Expression(yaw=-20.0)
DRAG = Motion(SIZE, tracks=[[(8, 50), (20, 56)]], pins=[(60, 60)])
FACE = Motion(SIZE).with_face(OPEN)
BOTH = DRAG.with_face(OPEN)


@pytest.fixture(scope="module")
def models():
    """A toy model of 64 pixel clips of three frames, with both adapters."""
    return tiny.models(
        name="toy", num_frames=3, short_side=64, steps=1, guidance=(1.0, 1.0),
        trajectory_scale=0.05, landmark_scale=0.05, decode_chunk=2, fps=8,
    )  # fmt: skip


@pytest.fixture(scope="module")
def session(models, portrait):
    """A session with the portrait fitted."""
    ready = Session(models)
    ready.set_image(portrait)
    return ready


CLIPS = {}


def made(session, motion, **settings):
    """The finished clip; made once for all tests that ask for the same."""
    mask = None if motion.mask is None else motion.mask.tobytes()
    key = session, motion, mask, tuple(settings.items())
    if key not in CLIPS:
        *_, step = session.animate_steps(motion, **settings)
        CLIPS[key] = step.clip
    return CLIPS[key]


def painted(columns):
    """A mask of the picture's first columns."""
    mask = np.zeros(SIZE, np.uint8)
    mask[:, :columns] = 255
    return mask


@pytest.fixture
def windows(monkeypatch):
    """Every conditioning that adapters make: (kind, frames, others alive at that moment)."""
    seen, alive, make = [], [], Adapter.window

    def window(self, reference, frames):
        kind = "face" if self.config.landmark_channels else "tracks"
        seen.append((kind, list(frames), sum(ref() is not None for ref in alive)))
        known = make(self, reference, frames)
        alive.append(weakref.ref(known))
        return known

    monkeypatch.setattr(Adapter, "window", window)
    return seen


# A face


def test_a_face_is_followed_in_pixels_of_the_fitted_picture(session, portrait):
    clip = made(session, FACE)
    there = to_68(find_face(portrait).points) * 64 / 300
    np.testing.assert_allclose(clip.landmarks[0], there, atol=1e-3)
    assert clip.landmarks.shape == (3, 68, 2) and clip.frames.shape == (3, 64, 64, 3)
    assert clip.settings["fps"] == 12.5 and clip.motion == FACE and clip.sound is None
    assert clip.settings["landmark_scale"] == 0.05 and "landmark scale 0.05" in clip.title
    assert torch.equal(clip.flow, session.face_flow(FACE)) and clip.flow.abs().max() > 1


def test_the_face_decides_what_the_clip_shows(session):
    clip, still = made(session, FACE), made(session, FACE, landmark_scale=0.0)
    other = made(session, FACE.with_face(TURNED))
    assert not np.array_equal(clip.frames, still.frames)
    assert not np.array_equal(clip.frames, other.frames)


@pytest.mark.parametrize("frames", [3, 8])
def test_landmark_flow_is_made_of_hints_as_in_the_release(session, models, frames):
    """A clip longer than the model's own is made in chunks."""
    landmarks = session.face_motion(FACE, frames).landmarks
    features = grid_features(models.s2d, torch.from_numpy(session.image).permute(2, 0, 1) / 255)
    wanted = dense_flow(models.s2d, features, landmark_hints(landmarks, SIZE, SIZE), SIZE)
    torch.testing.assert_close(session.face_flow(FACE, frames), wanted, rtol=1e-4, atol=1e-4)


def test_a_network_that_meets_hints_takes_landmarks_where_they_are_asked(session, models):
    landmarks = session.face_motion(FACE).landmarks
    own = session.face_flow(FACE)
    config = replace(models.s2d.config, meets_hints=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.landmark_s2d, "config", config)
        made = session.face_flow(FACE)
    x, y = landmarks[0].round().long().clamp(0, 63).unbind(-1)
    asked = (landmarks[-1] - landmarks[0]).T
    errors = [float((flow[-1][:, y, x] - asked).norm(dim=0).mean()) for flow in (made, own)]
    assert errors[0] < 0.4 * errors[1]
    assert torch.equal(made[..., 0, 0], own[..., 0, 0])


def test_a_landmark_file_is_in_pixels_of_the_photograph(session, portrait, tmp_path):
    marks = np.stack([to_68(find_face(portrait).points) + np.array([3 * t, 0]) for t in range(5)])
    np.save(tmp_path / "marks.npy", marks)
    motion = Motion(SIZE).with_face(tmp_path / "marks.npy")
    followed = session.face_motion(motion)
    np.testing.assert_allclose(followed.landmarks, marks * 64 / 300, atol=1e-3)
    assert len(session.face_motion(motion, 2).landmarks) == 2


def test_a_video_is_followed_no_further_than_the_clip_lasts(session, portrait, tmp_path):
    write_clip(tmp_path / "cut.mp4", np.stack([portrait] * 3 + [255 - portrait] * 3), 10)
    motion = Motion(SIZE).with_face(tmp_path / "cut.mp4")
    before_the_cut = session.face_motion(motion, 3)
    assert len(before_the_cut.landmarks) == 3 and before_the_cut.notes == ()
    with pytest.raises(InputError, match=r"cut at frame 3|lost from frame 3"):
        session.face_motion(motion)


def test_a_face_whose_source_ends_early_rests_and_says_so(session, portrait, tmp_path):
    np.save(tmp_path / "marks.npy", np.stack([to_68(find_face(portrait).points)] * 2))
    clip = made(session, Motion(SIZE).with_face(tmp_path / "marks.npy"), steps=1)
    assert clip.landmarks.shape[0] == 3 and torch.equal(clip.landmarks[2], clip.landmarks[1])
    assert "ends after 2 of 3 frames; it rests from there on" in " ".join(clip.notes)


def test_a_face_is_driven_once_however_often_tracks_change(models, portrait, monkeypatch):
    calls, drive = [], layers.drive_face
    monkeypatch.setattr(layers, "drive_face", lambda *a, **k: calls.append(1) or drive(*a, **k))
    session = Session(models)
    session.set_image(portrait)
    for motion in (FACE, BOTH, BOTH.with_pin(5, 5)):
        session.blended_flow(motion)
        session.face_mask(motion)
    assert len(calls) == 1
    session.face_motion(FACE.with_face(Expression(yaw=5.0)))
    assert len(calls) == 2
    speaking = FACE.with_face(data_file("speech.wav"))
    lengths = [len(session.face_motion(speaking, frames).landmarks) for frames in (4, None, 9)]
    assert lengths == [4, 38, 9] and len(calls) == 3


def test_previews_of_a_voice_are_those_of_its_seed(models, portrait):
    session = Session(models)
    session.set_image(portrait)
    speaking = Motion(SIZE).with_face(data_file("speech.wav"))
    ways = [session.blended_flow(speaking, 40, seed=seed) for seed in (1, 2)]
    assert torch.equal(ways[0], session.face_flow(speaking, 40, seed=1))
    assert not torch.allclose(*(way[:3] for way in ways))
    clip = made(session, speaking, num_frames=4, steps=1, seed=2)
    torch.testing.assert_close(clip.flow, ways[1][:3])


def test_each_of_two_faces_moves_its_own_part_of_the_picture(models, portrait):
    head, size = portrait[:256, 36:292], (512, 256)
    session = Session(models)
    session.set_image(np.concatenate([head, head], axis=1))
    first, second = FaceSource(expression=OPEN), FaceSource(expression=TURNED, choose=1)
    both = made(session, Motion(size, face=first, others=[second]))
    assert "the picture shows 2 faces; the largest was taken" in both.notes
    alone = [made(session, Motion(size, face=face)) for face in (first, second)]
    middle = both.flow.shape[-1] // 2
    sides = slice(0, middle), slice(middle, None)
    where = alone[0].landmarks[0, :, 0].mean()
    for clip, side in zip(alone, sides if where < middle else sides[::-1], strict=True):
        found = both.flow[..., side]
        inside = found != 0
        assert inside.any() and torch.equal(found[inside], clip.flow[..., side][inside])


def test_clips_with_a_face_may_have_a_size_of_their_own(models, portrait):
    own = replace(models.settings, face_short_side=128)
    both = replace(models, settings=own)
    sizes = [
        animate(portrait, motion, model=both, **size).frames.shape[1]
        for motion, size in ((DRAG, {}), (FACE, {}), (FACE, {"size": (64, 64)}))
    ]
    assert sizes == [64, 128, 64]
    assert animate(portrait, DRAG, face=OPEN, model=both).frames.shape[1] == 128
    clip = animate(portrait, face=OPEN, model=models, seed=3)
    assert clip.frames.shape[1] == 64 and clip.motion == Motion((300, 300)).with_face(OPEN)


# A face and tracks


@pytest.mark.parametrize(("value", "alone"), [(255, FACE), (0, DRAG)], ids=["face", "tracks"])
def test_a_full_or_empty_mask_equals_one_control_alone_to_the_last_bit(
    value, alone, session, windows
):
    wanted = made(session, alone).frames
    windows.clear()
    both = made(session, BOTH.with_mask(np.full(SIZE, value, np.uint8)))
    assert np.array_equal(both.frames, wanted)
    assert [kind for kind, *_ in windows] == ["face" if value else "tracks"]  # the other rests


def test_a_mask_parts_the_two_and_its_edge_may_be_soft(session):
    motion = BOTH.with_mask(painted(32))
    soft = made(session, motion, mask_softness=16)
    assert soft.settings["mask_softness"] == 16
    both, face, drag = (made(session, m) for m in (motion, FACE, DRAG))
    for other in (face, drag, soft):
        assert not np.array_equal(both.frames, other.frames)


def test_flows_are_blended_by_the_mask(session):
    motion = BOTH.with_mask(painted(40))
    blended, face = session.blended_flow(motion), session.face_flow(motion)
    torch.testing.assert_close(blended[..., :40], face[..., :40])
    torch.testing.assert_close(blended[..., 40:], session.dense_flow(motion)[..., 40:])
    assert torch.equal(session.blended_flow(DRAG), session.dense_flow(DRAG))
    assert torch.equal(session.blended_flow(FACE), session.face_flow(FACE))
    assert not session.blended_flow(Motion(SIZE)).any()


def test_without_a_painted_mask_one_is_proposed_around_the_head(session):
    mask = session.face_mask(BOTH)
    x, y = session.face_motion(BOTH).landmarks[0].long().T
    assert (mask[y, x] == 255).all() and mask[-1, -1] == 0
    proposed, given = made(session, BOTH), made(session, BOTH.with_mask(mask))
    assert np.array_equal(proposed.frames, given.frames)
    assert np.array_equal(session.face_mask(BOTH.with_mask(painted(5))), painted(5))


def test_a_face_alone_keeps_to_its_mask_only_if_one_is_painted(session):
    masked = made(session, FACE.with_mask(painted(32)))
    assert not np.array_equal(masked.frames, made(session, FACE).frames)
    nowhere = made(session, FACE.with_mask(painted(0)))
    assert np.array_equal(nowhere.frames, made(session, FACE, landmark_scale=0.0).frames)


def test_a_soft_mask_fades_over_as_many_pixels_as_asked_for():
    hard, soft = soft_mask(painted(32), 0.0), soft_mask(painted(32), 8.0)
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    row = soft[0, 0, 5]
    assert (row.diff() <= 0).all() and row[31] == pytest.approx(1 - float(row[32]), abs=1e-6)
    assert row[26] > 0.97 and row[37] < 0.03 and row[29] < 0.95
    torch.testing.assert_close(soft_mask(painted(64), 8.0), torch.ones(1, 1, *SIZE))


def test_each_control_has_its_own_span_of_the_steps(session, models):
    calls = []
    hooks = [
        models.adapter(kind).register_forward_pre_hook(lambda *call, kind=kind: calls.append(kind))
        for kind in ("trajectory", "landmark")
    ]
    made(session, BOTH, steps=3, trajectory_span=(0, 0.5), landmark_span=(0.5, 1))
    for hook in hooks:
        hook.remove()
    assert calls == ["trajectory", "trajectory", "landmark"]


# Long clips


def test_a_long_clip_is_made_window_by_window(session, windows):
    """Warped features are held for one window only."""
    steps = list(session.animate_steps(BOTH, num_frames=5, steps=2, preview_every=1))
    parts = [[0, 1, 2], [0, 2, 3], [0, 3, 4]]
    wanted = [(kind, part) for part in parts for kind in ("tracks", "face")] * 2
    assert [(kind, part) for kind, part, _ in windows] == wanted
    assert max(alive for *_, alive in windows) == 1  # the other adapter's, of the same window
    assert [(s.index, s.total) for s in steps] == [(k, 6) for k in range(1, 7)]
    assert [s.index for s in steps if s.preview is not None] == [3, 6]
    assert steps[-1].clip.frames.shape == (5, 64, 64, 3)
    assert steps[-1].clip.flow.shape == (4, 2, 64, 64)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"num_frames": 5, "window_stride": 2}, [[0, 1, 2], [0, 3, 4]]),
        ({"num_frames": 3, "window": 2, "window_stride": 1}, [[0, 1], [0, 2]]),
        (
            {"num_frames": 5, "window_stride": 2, "repeat_last_window": True},
            [[0, 1, 2], [0, 3, 4], [0, 3, 4]],
        ),
        ({"num_frames": 2, "window_stride": 7}, [[0, 1]]),
    ],
    ids=["at a stride", "shorter than native", "the last one twice", "a single one"],
)
def test_windows_follow_each_other(settings, parts, session, windows):
    made(session, DRAG, **settings)
    assert [part for _, part, _ in windows] == parts


def test_frames_that_a_track_does_not_reach_repeat_its_last_flow(session):
    flow = session.dense_flow(DRAG, 6)
    torch.testing.assert_close(flow[:2], session.dense_flow(DRAG))
    torch.testing.assert_close(flow[2:], flow[1:2].expand(3, -1, -1, -1))


def test_a_clip_may_be_asked_for_in_seconds(session):
    assert len(made(session, DRAG, seconds=0.25).frames) == 2
    assert len(made(session, FACE, seconds=0.32).frames) == 4


# What cannot be


def test_what_a_motion_or_a_crop_makes_impossible_is_refused(session, models, portrait):
    wide = Session(models)
    wide.set_image(portrait, size=(256, 64))
    for act, sentence in (
        (lambda: made(session, DRAG.with_mask(painted(8))), "a face mask but no face to follow"),
        (lambda: session.face_motion(DRAG), "the motion has no face"),
        (lambda: wide.face_motion(FACE), r"cropped to 256x64 .* choose a size \(--size\) of"),
    ):
        with pytest.raises(InputError, match=sentence):
            act()


def test_a_model_without_the_adapter_is_told_before_any_work(models, portrait, monkeypatch):
    monkeypatch.setattr(layers, "drive_face", lambda *args, **settings: pytest.fail("worked"))
    tracks = {"trajectory": models.adapters["trajectory"]}
    session = Session(replace(models, adapters=tracks))
    session.set_image(portrait)
    with pytest.raises(InputError, match="the toy model has no landmark adapter"):
        made(session, FACE)


def test_a_face_moves_at_12_5_frames_per_second_or_more(models):
    for ask in (
        lambda fps: ClipSettings.of(models.settings, True, {"fps": fps}),
        lambda fps: drive_face(np.zeros((64, 64, 3), np.uint8), OPEN, fps=fps),
        lambda fps: speech_curves(Sound(np.zeros(16_000, np.float32)), fps),
    ):
        for fps in (8, 241):
            with pytest.raises(InputError, match=r"face must lie between 12\.5 and 240, but"):
                ask(fps)
    assert ClipSettings.of(models.settings, True, {"fps": 25}).fps == 25
    kept = ClipSettings.of(models.settings, False).to_json(has_face=False)
    assert not {"landmark_scale", "landmark_span", "mask_softness"} & set(kept)


def test_a_track_that_leaves_the_picture_is_told(session):
    leaving = Motion(SIZE, tracks=[[(50, 32), (60, 32)], [(50, 32), (70, 32)]])
    notes = made(session, leaving).notes
    assert "track 2 leaves the picture in frame 2" in notes
    assert not any("track 1" in note for note in notes)
