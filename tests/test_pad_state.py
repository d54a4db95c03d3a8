"""The pad without its widgets: gestures, and the history of edits."""

import math

import numpy as np
import pytest
from pad_hands import SIZE, click, drag, state_of

from mofa_nb.checks import InputError
from mofa_nb.motion.camera import camera_tracks
from mofa_nb.motion.face import Expression
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.pad.state import PadState
from mofa_nb.pad.strokes import Handle, curve, distances, painted, track_along

LINE = Motion(SIZE).with_track([(50, 50), (150, 50)])
BENT = Motion(SIZE).with_track([(50, 50), (100, 80), (150, 50)])
PINNED = LINE.with_pin(30, 140)
GESTURES = {  # what was there, the tool, places of each drag or click, what is there then
    "a straight drag becomes a track of two points":
        (Motion(SIZE), "track", [[(50, 60), (150, 100)]], [((50, 60), (150, 100))]),
    "a bent drag keeps its corner with few points":
        (Motion(SIZE), "track", [[(50, 50), (150, 50), (150, 150)]],
         [((50, 50), (150, 50), (150, 150))]),
    "a click on the last point ends a track of clicks":
        (Motion(SIZE), "track", [[(10, 10)], [(60, 20)], [(61, 21)]], [((10, 10), (60, 20))]),
    "moving a control point leaves the others":
        (BENT, "move", [[(102, 79), (112, 99)]], [((50, 50), (110, 100), (150, 50))]),
    "moving a line moves the whole track":
        (LINE, "move", [[(100, 52), (110, 72)]], [((60, 70), (160, 70))]),
    "a track moved over the edge keeps its start inside":
        (LINE, "move", [[(100, 50), (0, 50)]], [((0, 50), (100, 50))]),
    "a track that can run no farther out stays there and goes on along the other axis":
        (Motion(SIZE, [[(300, 50), (790, 50)]]), "move", [[(320, 50), (360, 90)]],
         [((310, 90), (800, 90))]),
    "moving a pin moves only the pin":
        (PINNED, "move", [[(31, 141), (61, 151)]], [((50, 50), (150, 50)), (60, 150)]),
    "a pin is set where the button goes down and may be dragged at once":
        (Motion(SIZE), "pin", [[(30, 40)], [(100, 100), (120, 90)]], [(30, 40), (120, 90)]),
    "a second click on a pin adds none":
        (Motion(SIZE), "pin", [[(30, 40)], [(31, 41)]], [(30, 40)]),
    "places outside are moved to the edge":
        (Motion(SIZE), "pin", [[(-20, 1000)]], [(0, 299.99)]),
}  # fmt: skip


@pytest.mark.parametrize("what", GESTURES)
def test_gestures_draw_and_move(what):
    motion, tool, drags, wanted = GESTURES[what]
    state = state_of(motion, tool)
    for places in drags:
        click(state, *places[0]) if len(places) == 1 else drag(state, *places)
    assert [*(t.points for t in state.motion.tracks), *state.motion.pins] == wanted
    if "corner" in what:
        assert state.motion.tracks[0].times == (0, 0.5, 1)
    if tool == "track" and len(drags) == 1:
        assert state.selected == Handle("track", 0)


def test_a_wavy_stroke_is_followed_within_the_tolerance_at_an_even_pace():
    stroke = [(float(x), 100 + 20 * math.sin(x / 20)) for x in range(200)]
    track = track_along(stroke, 1.5)
    assert 5 <= len(track.points) <= 12
    assert distances(np.array(stroke), curve(track)).max() < 1.6
    steps = np.hypot(*np.diff(track.path(14), axis=0).T)
    assert steps.max() < 2 * steps.min()


def test_clicks_set_a_track_point_by_point_until_enter_and_undo_takes_them_back():
    state = state_of()
    for place in ((10, 10), (60, 20), (90, 90)):
        click(state, *place)
    assert state.motion.tracks == () and len(state.clicks) == 3
    state.undo()
    assert state.clicks == ((10, 10), (60, 20))
    state.finish()
    assert state.motion.tracks == (Track(((10, 10), (60, 20))),) and state.clicks == ()


def test_one_click_alone_leaves_nothing():
    state = state_of()
    click(state, 10, 10)
    state.use("move")
    assert state.motion == Motion(SIZE) and not state.can_undo


def test_a_brush_stroke_paints_a_capsule():
    state = state_of(tool="brush")
    state.resize_brush(20)
    drag(state, (100, 150), (200, 150))
    area = (state.motion.brush > 0).sum()
    assert area == pytest.approx(100 * 40 + math.pi * 20**2, rel=0.04)
    assert state.motion.brush[150, 150] == 255 and state.motion.brush[120, 150] == 0


def test_the_painted_disc_is_centred_where_the_mouse_was():
    mask = painted(np.zeros((100, 100), np.uint8), [(40.5, 60.5)], 10, 255)
    y, x = np.nonzero(mask)
    assert (x.mean(), y.mean()) == pytest.approx((40, 60), abs=0.3)  # pixel centres are at .5


def test_erasing_everything_leaves_no_brush():
    state = state_of(tool="brush")
    drag(state, (100, 150), (140, 150))
    state.use("erase")
    state.resize_brush(80)
    drag(state, (100, 150), (140, 150))
    assert state.motion.brush is None


def test_a_locked_track_cannot_be_moved_deleted_or_cleared():
    motion = Motion(SIZE).with_track([(50, 50), (150, 50)], locked=True)
    state = state_of(motion, "move")
    drag(state, (100, 50), (120, 90))
    assert "locked" in state.notice
    state.delete("track", 0)
    assert "locked" in state.notice
    state.clear()
    assert state.motion == motion


def test_leaving_the_picture_or_a_second_press_ends_the_stroke():
    state = state_of()
    state.press(50, 50)
    state.drag(100, 50)
    state.leave()
    state.drag(200, 200)
    state.release(200, 200)
    assert state.motion.tracks == (Track(((50, 50), (100, 50))),)
    state.press(50, 90)
    state.drag(100, 90)
    state.press(200, 200)
    state.drag(250, 200)
    state.release(250, 200)
    assert len(state.motion.tracks) == 3


def test_tracks_start_only_where_the_model_sees_them():
    state = state_of()
    state.box = (20, 0, 380, 300)
    drag(state, (2, 100), (60, 100))
    assert state.motion.tracks[0].points[0][0] == 20
    state.add_camera("Pan left", 0.2)
    assert all(20 <= track.points[0][0] < 380 for track in state.motion.tracks)


def test_a_track_that_starts_where_the_model_does_not_look_moves_without_a_jump():
    state = state_of(Motion(SIZE).with_track([(5, 50), (150, 50)]), "move")
    state.box = (20, 0, 380, 300)
    drag(state, (100, 50), (103, 60))
    assert state.motion.tracks[0].points == ((8, 60), (153, 60))
    drag(state, (100, 60), (80, 60))
    assert state.motion.tracks[0].points[0] == (8, 60)


def test_escape_drops_what_is_in_progress():
    state = state_of(LINE, "move")
    before = state.motion
    state.press(50, 50)
    state.drag(80, 80)
    assert state.motion != before
    state.cancel()
    assert state.motion == before and not state.can_undo


def test_a_new_stroke_forgets_what_was_taken_back():
    state = state_of()
    drag(state, (50, 60), (150, 100))
    state.undo()
    assert state.can_redo
    drag(state, (10, 10), (80, 10))
    assert not state.can_redo


def test_a_refused_change_says_why_and_changes_nothing():
    state = state_of(LINE)
    state.set_track(0, start=0.8, end=0.2)
    assert state.motion == LINE and "start must come before end" in state.notice


def test_deleting_what_is_selected():
    state = state_of(Motion(SIZE).with_track([(50, 50), (150, 50)]).with_pin(10, 10), "move")
    assert state.summary() == "1 track · 1 pin · 400 × 300"
    click(state, 150, 50)
    state.delete_selected()
    assert state.motion.tracks == () and len(state.motion.pins) == 1
    state.delete_selected()
    assert "Select" in state.notice and len(state.motion.pins) == 1


def test_a_loaded_motion_of_another_size_is_rescaled_and_can_be_undone():
    state = state_of()
    state.load(Motion((800, 600)).with_track([(100, 100), (200, 100)]))
    assert state.motion.tracks[0].points == ((50, 50), (100, 50)) and state.notice == ""
    state.load(Motion((800, 800)).with_pin(400, 400))
    assert state.motion.pins == ((200, 150),) and "800x800" in state.notice
    state.undo()
    assert len(state.motion.tracks) == 1
    state.box = (100, 0, 300, 300)
    film = Motion((800, 800), [[(0, 400), (9, 400)], [(400, 400), (480, 400)]])
    state.load_film(film, ["it has a cut"])
    assert [track.points for track in state.motion.tracks] == [((200, 150), (240, 150))]
    assert all(word in state.notice for word in ("a cut", "1 of 2 tracks begin", "800x800"))
    with pytest.raises(InputError, match="tool must be one of track"):
        state.use("lasso")


def test_a_camera_move_spares_what_is_drawn_and_replaces_the_last_one():
    state = state_of()
    drag(state, (50, 37), (80, 37))
    state.add_camera("Pan left", 0.2)
    around = camera_tracks("Pan left", 0.2, SIZE)
    assert len(state.motion.tracks) == 1 + len(around) - 1  # the cell at (36, 37) is taken
    state.add_camera("Zoom in", 0.2)
    assert state.motion.tracks[0].points[0] == (50, 37)
    assert len(state.motion.tracks) == len(around)
    state.undo()
    state.undo()
    assert len(state.motion.tracks) == 1


def test_a_small_picture_has_proportionally_small_handles():
    state = state_of(Motion((40, 30)).with_track([(5, 5), (15, 5)]), "move", unit=0.1)
    drag(state, (10, 7), (10, 9))
    assert state.selected is None  # two pixels away: twenty on the screen


def test_to_front_and_to_back_are_steps_of_the_history():
    state = state_of(
        Motion(SIZE, [[(50, 50), (90, 50)], [(200, 50), (150, 50)], [(9, 9), (20, 20)]])
    )
    state.move_in_depth(1, behind=False)
    state.move_in_depth(2, behind=False)
    state.move_in_depth(0, behind=True)
    assert [track.depth for track in state.motion.tracks] == [1, -1, -2]
    state.undo()
    assert [track.depth for track in state.motion.tracks] == [None, -1, -2]


# Faces


def with_face() -> PadState:
    """A driven face, its mask proposed on the left half, the brush at hand."""
    state = state_of(tool="brush")
    state.set_face(Expression(smile=0.5))
    left = np.zeros((300, 400), np.uint8)
    left[:, :200] = 255
    state.landmarks, state.proposed = np.zeros((14, 68, 2)), left
    return state


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
