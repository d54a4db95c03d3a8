"""The pad under a long random walk, and what its history costs."""

import numpy as np
import pytest
from pad_hands import SIZE, drag, send, square, state_of

from mofa_nb.checks import InputError
from mofa_nb.motion.face import LIMITS, Expression, FaceSource
from mofa_nb.motion.motion import Motion
from mofa_nb.motion.tracks import AFTER
from mofa_nb.pad import MotionPad
from mofa_nb.pad.state import TOOLS, PadState


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
        lambda: vars(state).update(landmarks=rng.random((14, 68, 2)), proposed=proposed),
        lambda: vars(state).update(landmarks=None, proposed=None),
        lambda: state.paint_mask(str(rng.choice(["brush", "mask"]))),
        lambda: state.change(mask=None),
        lambda: state.change(after=str(rng.choice(AFTER))),
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


KEYS = ["z", "y", "t", "p", "b", "e", "m", "[", "]", "Enter", "Escape", "Delete", "F5"]
MOUSE = ["mouse_down", "mouse_move", "mouse_move", "mouse_up", "mouse_out", "mouse_wheel"]
EVENTS = [*MOUSE, "key_down", "touch_start", "touch_move", "touch_end"]


def random_message(pad: MotionPad, rng: np.random.Generator) -> None:
    """Anything that the canvas may send."""
    x, y = rng.uniform(-50, 450, 2)
    x = float("nan") if rng.random() < 0.1 else x
    touches = [{"x": x, "y": y}] * int(rng.integers(3))
    flags = {f"{name}_key": bool(rng.random() < 0.3) for name in ("shift", "ctrl", "meta")}
    event, key = str(rng.choice(EVENTS)), str(rng.choice(KEYS))
    send(pad, event, x, y, touches=touches, key=key, **flags)


@pytest.mark.parametrize("seed", range(4))
def test_a_random_walk_keeps_its_promises(seed, make_pad, monkeypatch):
    rng = np.random.default_rng(seed)
    first = Motion(SIZE).with_track([(50, 50), (150, 50)])
    pad, failures = make_pad(motion=first, select=lambda image: square), []
    monkeypatch.setattr(pad, "_fail", failures.append)
    monkeypatch.setattr(pad, "_request", lambda: None)  # a preview would come at any time
    state = pad.state
    for step in range(1200):
        random_message(pad, rng) if step % 8 == 0 else random_event(state, rng)
        assert state.motion.size == SIZE
        assert selection_exists(state)
        assert state.motion.face is not None or (state.motion.mask, state.mask) == (None, "brush")
        if step % 100 == 0:
            assert Motion.from_json(state.motion.to_json()) == state.motion
    assert pad.wait(20) and pad.state is state
    assert all(isinstance(failure, InputError) for failure in failures)  # told, not raised
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


def test_history_shares_tracks_and_keeps_a_large_brush_in_a_kilobyte_or_so():
    state = state_of(Motion((1024, 768)).with_track([(50, 50), (150, 50)]), "brush")
    drag(state, (100, 150), (400, 300))
    drag(state, (500, 500), (800, 100))
    (empty, nothing), (plain, packed) = state.past
    assert not any(nothing.values()) and empty.brush is None
    assert plain.brush is None and len(packed["brush"]) < 3000
    assert empty.tracks[0] is plain.tracks[0] is state.motion.tracks[0]
