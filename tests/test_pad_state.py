"""The pad without its widgets: gestures, history, camera moves, and a long random walk."""

import math
from itertools import pairwise

import numpy as np
import pytest

from mofa_nb.checks import InputError
from mofa_nb.face_source import FaceSource
from mofa_nb.faces.expression import LIMITS, Expression
from mofa_nb.motion import Motion, Track
from mofa_nb.pad.handles import Handle
from mofa_nb.pad.presets import CAMERAS, camera_tracks
from mofa_nb.pad.state import TOOLS, PadState
from mofa_nb.pad.strokes import distance_to_track, painted, track_along
from mofa_nb.tracks import AFTER

SIZE = (400, 300)


def pad(motion: Motion | None = None, tool: str = "track", **settings) -> PadState:
    state = PadState(motion or Motion(SIZE), **settings)
    state.use(tool)
    return state


def drag(state: PadState, *places: tuple[float, float]) -> None:
    """Press at the first place, move through ten points a leg, release at the last."""
    state.press(*places[0])
    for (x0, y0), (x1, y1) in pairwise(places):
        for k in range(1, 11):
            state.drag(x0 + (x1 - x0) * k / 10, y0 + (y1 - y0) * k / 10)
    state.release(*places[-1])


def click(state: PadState, x: float, y: float) -> None:
    state.press(x, y)
    state.release(x, y)


def test_a_straight_drag_becomes_a_track_of_two_points():
    state = pad()
    drag(state, (50, 60), (150, 100))
    assert state.motion.tracks == (Track(((50, 60), (150, 100))),)
    assert state.selected == Handle("track", 0)


def test_a_bent_drag_keeps_its_corner_with_few_points():
    state = pad()
    drag(state, (50, 50), (150, 50), (150, 150))
    assert state.motion.tracks[0].points == ((50, 50), (150, 50), (150, 150))
    assert state.motion.tracks[0].times == (0, 0.5, 1)


def test_a_wavy_stroke_is_followed_within_the_tolerance_at_an_even_pace():
    stroke = [(float(x), 100 + 20 * math.sin(x / 20)) for x in range(200)]
    track = track_along(stroke, 1.5)
    assert 5 <= len(track.points) <= 12
    assert max(distance_to_track(track, point) for point in stroke) < 1.6
    steps = np.hypot(*np.diff(track.path(14), axis=0).T)
    assert steps.max() < 2 * steps.min()


def test_clicks_set_a_track_point_by_point_until_enter():
    state = pad()
    for place in ((10, 10), (60, 20), (90, 90)):
        click(state, *place)
    assert state.motion.tracks == () and len(state.clicks) == 3
    state.finish()
    assert state.motion.tracks == (Track(((10, 10), (60, 20), (90, 90))),)
    assert state.clicks == ()


def test_a_click_on_the_last_point_ends_the_track():
    state = pad()
    for place in ((10, 10), (60, 20), (61, 21)):
        click(state, *place)
    assert state.motion.tracks == (Track(((10, 10), (60, 20))),)


def test_one_click_alone_leaves_nothing():
    state = pad()
    click(state, 10, 10)
    state.use("move")
    assert state.motion == Motion(SIZE) and not state.can_undo


def test_undo_takes_back_clicked_points_one_by_one():
    state = pad()
    click(state, 10, 10)
    click(state, 60, 20)
    state.undo()
    assert state.clicks == ((10, 10),)


def test_a_pin_is_set_where_the_button_goes_down_and_may_be_dragged_at_once():
    state = pad(tool="pin")
    click(state, 30, 40)
    drag(state, (100, 100), (120, 90))
    assert state.motion.pins == ((30, 40), (120, 90))


def test_a_second_click_on_a_pin_adds_none():
    state = pad(tool="pin")
    click(state, 30, 40)
    click(state, 31, 41)
    assert state.motion.pins == ((30, 40),)


def test_a_brush_stroke_paints_a_capsule():
    state = pad(tool="brush")
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
    state = pad(tool="brush")
    drag(state, (100, 150), (140, 150))
    state.use("erase")
    state.resize_brush(80)
    drag(state, (100, 150), (140, 150))
    assert state.motion.brush is None


def test_moving_a_control_point_leaves_the_others():
    state = pad(Motion(SIZE).with_track([(50, 50), (100, 80), (150, 50)]), "move")
    drag(state, (102, 79), (112, 99))
    assert state.motion.tracks[0].points == ((50, 50), (110, 100), (150, 50))


def test_moving_a_line_moves_the_whole_track():
    state = pad(Motion(SIZE).with_track([(50, 50), (150, 50)]), "move")
    drag(state, (100, 52), (110, 72))
    assert state.motion.tracks[0].points == ((60, 70), (160, 70))


def test_a_track_moved_over_the_edge_keeps_its_start_inside():
    state = pad(Motion(SIZE).with_track([(50, 50), (150, 50)]), "move")
    drag(state, (100, 50), (0, 50))
    assert state.motion.tracks[0].points == ((0, 50), (100, 50))


def test_moving_a_pin_moves_only_the_pin():
    motion = Motion(SIZE).with_pin(30, 40).with_track([(200, 200), (250, 200)])
    state = pad(motion, "move")
    drag(state, (31, 41), (61, 51))
    assert state.motion.pins == ((60, 50),) and state.motion.tracks == motion.tracks


def test_a_locked_track_cannot_be_moved_deleted_or_cleared():
    motion = Motion(SIZE).with_track([(50, 50), (150, 50)], locked=True)
    state = pad(motion, "move")
    drag(state, (100, 50), (120, 90))
    assert "locked" in state.notice
    state.delete("track", 0)
    assert "locked" in state.notice
    state.clear()
    assert state.motion == motion


def test_leaving_the_picture_ends_the_stroke_and_later_moves_draw_nothing():
    state = pad()
    state.press(50, 50)
    state.drag(100, 50)
    state.leave()
    state.drag(200, 200)
    state.release(200, 200)
    assert state.motion.tracks == (Track(((50, 50), (100, 50))),)


def test_a_second_press_ends_the_first_stroke():
    state = pad()
    state.press(50, 50)
    state.drag(100, 50)
    state.press(200, 200)
    state.drag(250, 200)
    state.release(250, 200)
    assert len(state.motion.tracks) == 2


def test_places_outside_are_moved_to_the_edge():
    state = pad(tool="pin")
    click(state, -20, 1000)
    assert state.motion.pins == ((0, 299.99),)


def test_tracks_start_only_where_the_model_sees_them():
    state = pad()
    state.box = (20, 0, 380, 300)
    drag(state, (2, 100), (60, 100))
    assert state.motion.tracks[0].points[0][0] == 20
    state.add_camera("Pan left", 0.2)
    assert all(20 <= track.points[0][0] < 380 for track in state.motion.tracks)


def test_escape_drops_what_is_in_progress():
    state = pad(Motion(SIZE).with_track([(50, 50), (150, 50)]), "move")
    before = state.motion
    state.press(50, 50)
    state.drag(80, 80)
    assert state.motion != before
    state.cancel()
    assert state.motion == before and not state.can_undo


def test_undo_goes_back_to_the_start_and_redo_returns():
    state = pad()
    drag(state, (50, 60), (150, 100))
    state.use("brush")
    drag(state, (100, 150), (140, 150))
    state.set_track(0, speed="ease")
    last = state.motion
    for _ in range(3):
        state.undo()
    assert state.motion == Motion(SIZE) and not state.can_undo
    for _ in range(3):
        state.redo()
    assert state.motion == last and not state.can_redo


def test_a_new_stroke_forgets_what_was_taken_back():
    state = pad()
    drag(state, (50, 60), (150, 100))
    state.undo()
    drag(state, (10, 10), (80, 10))
    assert not state.can_redo


def test_a_refused_change_says_why_and_changes_nothing():
    motion = Motion(SIZE).with_track([(50, 50), (150, 50)])
    state = pad(motion)
    state.set_track(0, start=0.8, end=0.2)
    assert state.motion == motion and "start must come before end" in state.notice


def test_deleting_what_is_selected():
    state = pad(Motion(SIZE).with_track([(50, 50), (150, 50)]).with_pin(10, 10), "move")
    click(state, 150, 50)
    state.delete_selected()
    assert state.motion.tracks == () and len(state.motion.pins) == 1
    state.delete_selected()
    assert "Select" in state.notice and len(state.motion.pins) == 1


def test_a_loaded_motion_of_another_size_is_rescaled_and_can_be_undone():
    state = pad()
    state.load(Motion((800, 600)).with_track([(100, 100), (200, 100)]))
    assert state.motion.tracks[0].points == ((50, 50), (100, 50)) and state.notice == ""
    state.load(Motion((800, 800)).with_pin(400, 400))
    assert state.motion.pins == ((200, 150),) and "800x800" in state.notice
    state.undo()
    assert len(state.motion.tracks) == 1


SMILE = Expression(smile=0.5)


def with_face() -> PadState:
    """A driven face, its mask proposed on the left half, the brush at hand."""
    state = pad(tool="brush")
    state.set_face(SMILE)
    left = np.zeros((300, 400), np.uint8)
    left[:, :200] = 255
    state.see_face(np.zeros((14, 68, 2)), left)
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
    state.reset_mask()
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
    state.set_after("loop")
    state.clear()
    assert state.motion == Motion(SIZE, after="loop")


def test_an_unknown_tool_is_refused():
    with pytest.raises(InputError, match="tool must be one of track"):
        pad().use("lasso")


def test_a_small_picture_has_proportionally_small_handles():
    state = pad(Motion((40, 30)).with_track([(5, 5), (15, 5)]), "move", unit=0.1)
    drag(state, (10, 7), (10, 9))
    assert state.selected is None  # two pixels away: twenty on the screen


def test_panning_left_moves_the_picture_right_by_the_strength():
    for track in camera_tracks("Pan left", 0.25, SIZE):
        (x0, y0), (x1, y1) = track.points
        assert (x1 - x0, y1 - y0) == pytest.approx((100, 0), abs=0.02)


def test_zooming_moves_every_point_away_from_the_middle():
    for track in camera_tracks("Zoom in", 0.5, SIZE):
        (x0, y0), (x1, y1) = track.points
        assert (x1 - 200, y1 - 150) == pytest.approx((1.5 * (x0 - 200), 1.5 * (y0 - 150)), abs=0.02)


def test_zooming_out_undoes_zooming_in():
    for track in camera_tracks("Zoom out", 0.5, SIZE):
        (x0, y0), (x1, y1) = track.points
        assert (1.5 * (x1 - 200), 1.5 * (y1 - 150)) == pytest.approx((x0 - 200, y0 - 150), abs=0.05)


def test_rotating_keeps_the_distance_to_the_middle_and_turns_clockwise_for_left():
    for track in camera_tracks("Rotate left", 0.5, SIZE):
        away = np.hypot(*(np.array(track.points) - (200, 150)).T)
        assert np.ptp(away) < 0.05
        (x0, y0), (x1, y1) = track.points[0], track.points[-1]
        turn = math.atan2(y1 - 150, x1 - 200) - math.atan2(y0 - 150, x0 - 200)
        assert math.degrees(turn) % 360 == pytest.approx(45, abs=0.2)


@pytest.mark.parametrize("size", [(400, 300), (1024, 200), (60, 900)])
@pytest.mark.parametrize("name", CAMERAS)
def test_every_camera_move_at_full_strength_is_a_valid_motion(name, size):
    tracks = camera_tracks(name, 1.0, size)
    assert 16 <= len(Motion(size, tracks).tracks) <= 240


def test_a_camera_move_spares_what_is_drawn_and_replaces_the_last_one():
    state = pad()
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


def test_the_summary_names_what_is_drawn():
    state = pad(Motion(SIZE).with_track([(50, 50), (150, 50)]).with_pin(10, 10))
    assert state.summary() == "1 track · 1 pin · 400 × 300"


def face_events(state: PadState, rng: np.random.Generator) -> list:
    """What the face panel may do."""
    name = str(rng.choice(list(LIMITS)))
    expression = Expression(**{name: rng.uniform(0, LIMITS[name][1])})
    proposed = np.where(rng.random((300, 400)) < 0.5, np.uint8(0), np.uint8(255))
    return [
        lambda: state.set_face(None),
        lambda: state.set_face(FaceSource("voice.wav", choose=int(rng.integers(3)))),
        lambda: state.set_face(expression),
        lambda: state.set_face(expression, name),
        lambda: state.see_face(rng.random((14, 68, 2)), proposed),
        lambda: state.see_face(None, None),
        lambda: state.paint_mask(str(rng.choice(["brush", "mask"]))),
        state.reset_mask,
        lambda: state.set_after(str(rng.choice(AFTER))),
    ]


def random_event(state: PadState, rng: np.random.Generator) -> None:
    """Anything a user or a browser may do, in any order."""
    x, y = rng.uniform(-40, 440), rng.uniform(-40, 340)
    if rng.random() < 0.75:
        events = (state.press, state.drag, state.drag, state.drag, state.release)
        events[rng.integers(len(events))](x, y)
        return
    index = int(rng.integers(max(1, len(state.motion.tracks))))
    track = len(state.motion.tracks) > 0
    acts = [
        state.leave,
        state.cancel,
        state.finish,
        state.undo,
        state.undo,
        state.redo,
        state.delete_selected,
        lambda: state.use(TOOLS[rng.integers(len(TOOLS))]),
        lambda: state.resize_brush(rng.uniform(-5, 500)),
        lambda: state.release(None, None),
        lambda: rng.random() < 0.1 and state.clear(),
        lambda: rng.random() < 0.1 and state.add_camera("Zoom in", rng.uniform(0.05, 1)),
        lambda: track and state.delete("track", index),
        lambda: track and state.set_track(index, locked=bool(rng.random() < 0.3)),
        lambda: track and state.set_track(index, start=rng.uniform(-0.2, 1), end=rng.random()),
        lambda: state.load(Motion((200, 150)).with_track([(x % 200, y % 150), (5, 5)])),
        *face_events(state, rng),
    ]
    acts[rng.integers(len(acts))]()


def selection_exists(state: PadState) -> bool:
    if state.selected is None:
        return True
    kind, index, point = state.selected.kind, state.selected.index, state.selected.point
    if kind == "pin":
        return index < len(state.motion.pins)
    return index < len(state.motion.tracks) and point < len(state.motion.tracks[index].points)


@pytest.mark.parametrize("seed", range(4))
def test_a_random_walk_keeps_its_promises(seed):
    rng = np.random.default_rng(seed)
    first = Motion(SIZE).with_track([(50, 50), (150, 50)])
    state = PadState(first)
    for step in range(1200):
        random_event(state, rng)
        assert state.motion.size == SIZE
        assert selection_exists(state)
        assert state.motion.face is not None or (state.motion.mask, state.mask) == (None, "brush")
        if step % 100 == 0:
            assert Motion.from_json(state.motion.to_json()) == state.motion
    state.release()
    state.finish()
    last = state.motion
    steps = 0
    while state.can_undo:
        state.undo()
        steps += 1
    assert state.motion == first and steps > 50
    for _ in range(steps):
        state.redo()
    assert state.motion == last and not state.can_redo


def test_history_keeps_a_large_brush_in_a_kilobyte_or_so():
    state = pad(Motion((1024, 768)), "brush")
    drag(state, (100, 150), (400, 300))
    drag(state, (500, 500), (800, 100))
    (empty, nothing), (plain, packed) = state._history.past
    assert nothing == {} and empty.brush is None
    assert plain.brush is None and len(packed["brush"]) < 3000
