"""The pad's face mode: its panel, what is shown, and what is asked of the model."""

import io
from datetime import datetime

import av
import numpy as np
import pytest
import tiny
from pad_hands import PHOTO, drag, press_key, status
from toy_session import ToySession

from mofa_nb.media.images import read_image
from mofa_nb.motion.face import Expression, FaceSource, Strengths
from mofa_nb.motion.motion import Motion
from mofa_nb.pad.view import face_shapes
from mofa_nb.paths import data_file
from mofa_nb.pipeline.session import Session

PORTRAIT = read_image(data_file("astronaut.jpg"))
VOICE = str(data_file("speech.wav"))
CHIN, UPPER_LIP, LOWER_LIP = 8, 62, 66


@pytest.fixture
def portrait(make_pad):
    """A pad with a portrait whose face is switched on."""
    pad = make_pad(PORTRAIT)
    pad.face.toggle.click()
    assert pad.wait(20)
    return pad


def test_the_face_button_finds_the_face_and_opens_its_panel(portrait):
    assert portrait.motion.face == FaceSource(expression=Expression())
    assert status(portrait).startswith("0 tracks · face · 512 × 512")
    assert portrait.face.widget.layout.display == "flex"
    assert portrait.screen.flow.layout.visibility == "visible"
    chin = portrait.state.landmarks[0, CHIN]
    assert np.abs(chin - (226, 183)).max() < 10  # of 512 x 512: astronaut's chin
    assert portrait.state.mask_shown("mask") is None  # a face alone needs none
    drag(portrait, (400, 300), (450, 200))
    proposed = portrait.state.mask_shown("mask")
    assert proposed.shape == (512, 512) and proposed[130, 220] == 255
    assert 0.03 < (proposed > 0).mean() < 0.3


def test_the_face_button_and_the_key_switch_it_off_and_on_as_it_was(portrait):
    portrait.face.sliders["smile"].value = 0.5
    portrait.face.toggle.click()
    assert portrait.motion.face is None
    assert portrait.face.widget.layout.display == "none"
    assert portrait.screen.flow.layout.visibility == "hidden"
    press_key(portrait, "f")
    assert portrait.motion.face.expression == Expression(smile=0.5)


def test_sliders_move_the_face_and_can_be_undone_and_reset(portrait):
    mouth, yaw = portrait.face.sliders["mouth"], portrait.face.sliders["yaw"]
    mouth.value = 1.0
    assert portrait.wait(20)
    gap = portrait.state.landmarks[:, LOWER_LIP, 1] - portrait.state.landmarks[:, UPPER_LIP, 1]
    assert gap[-1] > gap[0] + 8
    assert "Warped preview" in portrait.screen.caption.value
    yaw.value = 5
    yaw.value = 12
    press_key(portrait, "z", ctrl=True)
    assert yaw.value == 0 and portrait.motion.face.expression == Expression(mouth=1.0)
    press_key(portrait, "y", ctrl=True)
    yaw.value = 15
    press_key(portrait, "z", ctrl=True)
    assert yaw.value == 12, "a drag after an undo is a step of its own"
    portrait.face.neutral.click()
    assert portrait.motion.face.expression == Expression() and mouth.value == yaw.value == 0


def test_a_voice_drives_the_face_with_the_strengths_and_by_the_networks_asked_for(portrait):
    panel = portrait.face
    panel.path.value = "film.mp4"
    assert panel.voice.disabled
    panel.path.value = VOICE
    assert panel.mode.value == "By a file" and panel.by_hand.layout.display == "none"
    panel.strengths["mouth"].value = 1.5
    assert portrait.motion.face == FaceSource(VOICE, strengths=Strengths(mouth=1.5))
    assert portrait.wait(20)
    assert np.ptp(portrait.state.landmarks[:, LOWER_LIP, 1]) > 1
    panel.strengths["mouth"].value = 1.0
    panel.voice.value = "auto"
    assert portrait.motion.face == FaceSource(VOICE, voice="auto") and not panel.voice.disabled
    panel.sliders["smile"].value = 0.5
    assert portrait.motion.face == FaceSource(expression=Expression(smile=0.5))
    assert panel.voice.value == "preset" and panel.voice.disabled


def test_going_back_to_the_hand_keeps_the_expression_and_the_file(portrait):
    panel = portrait.face
    panel.mode.value = "By a file"  # comes before a file is named
    assert portrait.motion.face.expression == Expression()
    assert panel.by_file.layout.display == "flex"
    panel.sliders["smile"].value = 0.5  # no longer on the screen, but it may come late
    assert panel.mode.value == "By hand"
    panel.path.value = VOICE
    panel.mode.value = "By hand"
    assert portrait.motion.face == FaceSource(expression=Expression(smile=0.5))
    panel.mode.value = "By a file"
    assert portrait.motion.face == FaceSource(VOICE)


def test_an_upload_is_kept_beside_the_clips_and_drives_the_face(portrait):
    content = data_file("speech.wav").read_bytes()
    sent = {"name": "../mine.wav", "type": "", "size": 1, "content": memoryview(content)}
    portrait.face.upload.value = ({**sent, "last_modified": datetime.now()},)
    kept = portrait.folder / "faces" / "mine.wav"
    assert portrait.motion.face.source == str(kept) and kept.read_bytes() == content


def test_a_missing_file_or_person_is_named_and_the_tracks_are_still_shown(portrait):
    portrait.face.person.value = 5
    assert portrait.wait(20)
    assert portrait.motion.face.choose == 4 and "face" in status(portrait)
    assert "warn" in status(portrait)
    drag(portrait, (400, 300), (450, 200))
    portrait.face.path.value = "nowhere.wav"
    assert portrait.wait(20)
    assert "nowhere.wav" in status(portrait) and "warn" in status(portrait)
    assert portrait.state.landmarks is None
    assert portrait.screen.preview.flow is not None


def test_a_picture_without_a_face_says_so(make_pad):
    pad = make_pad(PHOTO)
    pad.face.toggle.click()
    assert pad.wait(20)
    assert "no face was found" in status(pad)
    assert "What the model sees" in pad.screen.caption.value


def test_a_model_without_landmark_adapter_says_why_faces_are_off(make_pad):
    pad = make_pad(PORTRAIT, ToySession(faces=False))
    assert pad.face.toggle.disabled and "no landmark adapter" in pad.face.toggle.tooltip
    press_key(pad, "f")
    assert pad.motion.face is None and "landmark_scale" not in pad.settings.values


def test_the_face_mask_is_painted_beginning_with_the_proposed_one_and_spares_the_brush(portrait):
    portrait.face.paint["mask"].click()
    proposed = portrait.state.mask_shown("mask")
    assert portrait.state.tool == "brush" and portrait.face.paint["mask"].button_style == "info"
    drag(portrait, (400, 300), (450, 300))
    mask = portrait.motion.mask
    assert portrait.motion.brush is None
    assert mask[300, 425] == 255 and mask[10, 425] == 0 and (mask >= proposed).all()
    portrait.face.reset.click()
    assert portrait.motion.mask is None and portrait.face.reset.disabled
    portrait.face.paint["brush"].click()
    drag(portrait, (400, 300), (450, 300))
    assert portrait.motion.brush is not None and portrait.motion.mask is None


def test_either_flow_or_both_are_shown(portrait):
    dense, face = "dense_flow", "face_flow"
    drag(portrait, (400, 300), (450, 200))
    assert portrait.wait(20)
    for flow, calls in (("Tracks", {dense}), ("Face", {face}), ("Both", {dense, face})):
        portrait.session.calls.clear()
        portrait.screen.flow.value = flow
        assert portrait.wait(20)
        assert set(portrait.session.calls) == calls


def test_a_voice_is_shown_again_for_another_seed_but_not_an_expression(portrait):
    portrait.session.calls.clear()
    portrait.settings.seed.value += 1
    assert portrait.wait(20) and portrait.session.calls == []
    panel = portrait.face
    panel.mode.value = "By a file"
    panel.path.value = VOICE
    assert portrait.wait(20)
    before = portrait.state.landmarks.copy()
    portrait.settings.seed.value += 1
    assert portrait.wait(20)
    assert not np.array_equal(before, portrait.state.landmarks)


def test_frames_and_seconds_follow_each_other(make_pad):
    pad = make_pad(PORTRAIT)
    settings = pad.settings
    settings.seconds.value = 3
    assert settings.frames.value == 24 and pad.screen.slider.max == 23
    assert pad.screen.slider.value == 23
    settings.frames.value = 14
    assert (settings.frames.value, settings.seconds.value) == (14, 1.75)
    pad.face.toggle.click()  # at least twelve and a half frames a second
    assert (settings.frames.value, settings.seconds.value) == (14, 1.12)


def test_a_clip_may_last_as_long_as_its_voice_and_plays_it(portrait):
    portrait.face.path.value = VOICE
    assert portrait.wait(20)
    assert portrait.face.whole.description == "Whole length: 38 frames"
    portrait.face.whole.click()
    assert portrait.settings.frames.value == 38
    portrait.settings.steps.value = 2
    portrait.animate()
    assert portrait.wait(60)
    moving = portrait.gallery.cards.children[0].children[0]
    assert len(portrait.clips[0].frames) == 38 and moving.format == "mp4"
    with av.open(io.BytesIO(moving.value)) as video:
        assert len(video.streams.audio) == 1 and video.streams.video[0].frames == 38


def test_a_clip_with_a_face_is_made_with_both_scales(portrait):
    drag(portrait, (400, 300), (450, 200))
    portrait.settings.landmark_scale.value = 0.8
    assert portrait.settings.values["landmark_scale"] == 0.8
    assert "landmark_scale=0.8" in portrait.code()
    portrait.settings.frames.value, portrait.settings.steps.value = 20, 2
    portrait.animate()
    assert portrait.wait(20)
    clip = portrait.clips[0]
    assert len(clip.frames) == 20 and clip.motion == portrait.motion


def test_what_tracks_do_in_longer_clips_is_part_of_the_motion(make_pad):
    pad = make_pad(motion=Motion((400, 300)).with_track([(50, 50), (150, 50)]))
    pad.settings.after.value = "loop"
    assert pad.motion.after == "loop"
    press_key(pad, "z", ctrl=True)
    assert pad.motion.after == "stop" and pad.settings.after.value == "stop"


def test_the_landmarks_are_drawn_as_fifteen_lines_of_the_frame_shown(portrait):
    portrait.face.sliders["yaw"].value = 20
    assert portrait.wait(20)
    casing, lines = face_shapes(portrait.state, 3)
    assert len(casing.places) == len(lines.places) == 15
    assert (lines.places[0] == portrait.state.landmarks[3, :17]).all()
    portrait.face.toggle.click()
    assert face_shapes(portrait.state, 3) == []


def test_the_real_session_takes_what_the_pad_asks(make_pad):
    session = Session(tiny.models(num_frames=3, short_side=128, steps=2, name="tiny"))
    pad = make_pad(PORTRAIT, session)
    assert not pad.face.toggle.disabled
    pad.face.toggle.click()
    drag(pad, (400, 300), (450, 200))
    pad.face.sliders["mouth"].value = 1.0
    for flow in ("Face", "Tracks", "Both"):
        pad.screen.flow.value = flow
        assert pad.wait(60) and "warn" not in status(pad)
        assert len(pad.screen.preview.frames) == 3
    pad.settings.frames.value, pad.settings.steps.value = 5, 1
    pad.animate()
    assert pad.wait(60)
    assert [len(clip.frames) for clip in pad.clips] == [5], status(pad)
    assert "landmark_scale=1.0" in pad.code(pad.clips[0])


def test_a_part_of_the_file_is_asked_for_in_seconds(portrait):
    panel = portrait.face
    assert panel.part["begin"].layout.visibility == "hidden"
    panel.path.value = VOICE
    assert panel.part["begin"].layout.visibility == "visible"
    panel.part["begin"].value = "0.5"
    for end, sentence in (("soon", "end must be a number"), ("0.2", "must begin before it ends")):
        panel.part["end"].value = end
        assert sentence in status(portrait)
        assert portrait.motion.face == FaceSource(VOICE, begin=0.5)
    panel.part["end"].value = "2.1"
    assert portrait.motion.face == FaceSource(VOICE, begin=0.5, end=2.1)


def test_a_clip_much_longer_than_the_usual_one_is_told_before_it_is_begun(portrait):
    settings = portrait.settings
    assert settings.long.layout.display == "none"
    settings.frames.value = 14 * 12
    assert "it takes about 8 minutes" in settings.long.value and not settings.long.layout.display
    settings.side.value = 256
    assert "it takes about 32 minutes" in settings.long.value
    settings.frames.value, settings.side.value = 14, 128
    assert settings.long.layout.display == "none"
    settings.steps.value = 50
    assert "it takes about 4 minutes" in settings.long.value
