"""A face in the pad's state: its source, its mask, its place in the history."""

import numpy as np
from state_hands import SIZE, drag, pad

from mofa_nb.motion.face import Expression, FaceSource
from mofa_nb.motion.motion import Motion
from mofa_nb.pad.state import PadState

SMILE = Expression(smile=0.5)


def with_face() -> PadState:
    """A driven face, its mask proposed on the left half, the brush at hand."""
    state = pad(tool="brush")
    state.set_face(SMILE)
    left = np.zeros((300, 400), np.uint8)
    left[:, :200] = 255
    state.landmarks, state.proposed = np.zeros((14, 68, 2)), left
    return state


def test_a_face_is_an_edit_like_any_other():
    state = pad()
    drag(state, (50, 60), (150, 100))
    state.set_face("voice.wav")
    assert state.motion.face == FaceSource("voice.wav") and len(state.motion.tracks) == 1
    assert state.summary() == "1 track · face · 400 × 300"
    state.undo()
    assert state.motion.face is None and len(state.motion.tracks) == 1
    state.redo()
    assert state.motion.face == FaceSource("voice.wav")


def test_a_slider_being_dragged_is_one_step_of_the_history():
    state = pad()
    state.set_face(Expression())
    for value in (0.1, 0.2, 0.3):
        state.set_face(Expression(mouth=value), "mouth")
    state.set_face(Expression(mouth=0.3, yaw=5), "yaw")
    state.undo()
    assert state.motion.face.expression == Expression(mouth=0.3)
    state.set_face(Expression(mouth=0.4), "mouth")
    state.undo()
    assert state.motion.face.expression == Expression(mouth=0.3)
    state.undo()
    assert state.motion.face.expression == Expression()


def test_painting_the_face_mask_begins_with_the_proposed_one_and_spares_the_brush():
    state = with_face()
    state.paint_mask("mask")
    drag(state, (300, 150), (301, 150))
    assert state.motion.brush is None
    assert (state.motion.mask[:, :200] == 255).all() and state.motion.mask[150, 300] == 255
    assert state.motion.mask[10, 300] == 0
    state.change(mask=None)
    assert state.motion.mask is None and (state.mask_shown("mask") == state.proposed).all()


def test_a_face_mask_erased_to_nothing_is_the_proposed_one_again():
    state = with_face()
    state.paint_mask("mask")
    state.use("erase")
    state.resize_brush(200)
    drag(state, (0, 100), (399, 100), (399, 250), (0, 250))
    assert state.motion.mask is None and "proposed one is back" in state.notice


def test_without_a_face_there_is_no_face_mask_to_paint():
    state = with_face()
    state.paint_mask("mask")
    drag(state, (300, 150), (301, 150))
    state.set_face(None)
    assert state.motion.mask is None and state.mask == "brush"
    assert state.mask_shown("mask") is None
    state.paint_mask("mask")
    drag(state, (300, 150), (301, 150))
    assert state.motion.brush is not None and state.motion.mask is None


def test_clearing_takes_the_face_too_and_keeps_what_comes_after_the_tracks():
    state = with_face()
    state.change(after="loop")
    state.clear()
    assert state.motion == Motion(SIZE, after="loop")
