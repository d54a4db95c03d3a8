"""The pad's widgets, fed with events exactly as a browser sends them."""

import base64
import io
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from ipycanvas.canvas import COMMANDS
from pad_hands import PHOTO, drag, on_canvas, press_key, send, status
from PIL import Image

from mofa_nb.motion.motion import Motion, Track
from mofa_nb.pad import MotionPad


def messages(pad: MotionPad, monkeypatch) -> list:
    """Those that reach the canvas from now on, each a list of commands."""
    sent, manager = [], pad.screen.stage.canvas._canvas_manager
    monkeypatch.setattr(manager, "_send_custom", lambda commands, buffers=(): sent.append(commands))
    return sent


def test_a_drag_or_a_finger_on_the_canvas_becomes_a_track(make_pad):
    pad = make_pad()
    drag(pad, (50, 60), (150, 100))
    assert pad.motion.tracks == (Track(((50, 60), (150, 100))),)
    assert status(pad).startswith("1 track · 400 × 300")
    for event, places in (
        ("touch_start", [(50, 160)]),
        ("touch_move", [(100, 160)]),
        ("touch_move", [(150, 160), (10, 10)]),
        ("touch_end", []),
    ):
        send(pad, event, touches=[on_canvas(pad, *place) for place in places])
    assert pad.motion.tracks[1] == Track(((50, 160), (150, 160)))


def test_every_tool_has_a_key_and_the_history_has_the_usual_ones(make_pad):
    pad = make_pad()
    for key, tool in (("p", "pin"), ("B", "brush"), ("e", "erase"), ("m", "move"), ("t", "track")):
        press_key(pad, key)
        assert pad.state.tool == tool
    drag(pad, (50, 60), (150, 100))
    press_key(pad, "z", ctrl=True)
    assert pad.motion.is_empty
    press_key(pad, "Z", meta=True, shift=True)
    assert len(pad.motion.tracks) == 1
    pad.tracks.rows[0]["chip"].click()
    press_key(pad, "Delete")
    assert pad.motion.is_empty
    press_key(pad, "Tab")
    press_key(pad, "é", ctrl=True)


def test_a_gesture_is_drawn_in_few_messages_and_hovering_in_none_but_for_a_brush_ring(
    make_pad, monkeypatch
):
    pad = make_pad()
    sent = messages(pad, monkeypatch)
    send(pad, "mouse_move", 100, 100)
    assert sent == []
    begin = time.monotonic()
    drag(pad, (50, 60), (350, 200), steps=200)
    most = 2 + (time.monotonic() - begin) * 30 + 1
    assert 2 <= len(sent) <= most
    assert all(len(commands) > 1 for commands in sent)
    press_key(pad, "b")
    sent.clear()
    time.sleep(0.04)
    send(pad, "mouse_move", 110, 100)
    assert len(sent) == 1


def test_layers_are_redrawn_only_when_what_they_show_changes(make_pad, monkeypatch):
    half = np.zeros((300, 400), np.uint8)
    half[:150] = 255
    pad = make_pad(motion=Motion((400, 300), brush=half), select=lambda image: lambda on, off: half)
    stage, drawn = pad.screen.stage, []
    masks, shapes = stage._draw_masks, stage._draw_shapes
    monkeypatch.setattr(stage, "_draw_masks", lambda m: (drawn.append("masks"), masks(m)))
    paths = stage.canvas[1]
    monkeypatch.setattr(
        stage, "_draw_shapes", lambda on, s: (on is paths and drawn.append("paths"), shapes(on, s))
    )
    drag(pad, (50, 60), (150, 100))
    assert set(drawn) == {"paths"}
    press_key(pad, "s")
    drawn.clear()
    send(pad, "mouse_down", 60, 200)
    send(pad, "mouse_up", 60, 200)  # the mask stays, the click is marked
    assert "paths" in drawn and pad.state.picks == (((60, 200),), ())


def test_a_page_that_connects_later_gets_every_layer_and_nothing_else(make_pad, monkeypatch):
    pad = make_pad(motion=Motion((400, 300)).with_track([(50, 50), (90, 90)]))
    sent = messages(pad, monkeypatch)
    more = []
    monkeypatch.setattr(pad, "_request", lambda: more.append("preview"))
    monkeypatch.setattr(pad.tracks, "show", lambda state: more.append("list"))
    pad.screen.stage.canvas[-1]._handle_custom_msg({"event": "client_ready"}, [])
    assert more == []
    named = {command[1][0] for command in sent[0] if command[0] == COMMANDS["switchCanvas"]}
    assert {f"IPY_MODEL_{layer.model_id}" for layer in pad.screen.stage.canvas._canvases} <= named


def test_releasing_the_mouse_brings_flow_and_a_warped_preview_frame_by_frame(make_pad):
    pad = make_pad()
    pad.wait(10)
    still, plain = pad.screen.image.value, pad.screen.stage.picture.value
    drag(pad, (50, 60), (150, 100))
    assert pad.wait(10)
    assert pad.screen.image.value != still and pad.screen.stage.picture.value != plain
    assert "Warped preview · 160 × 128" in pad.screen.caption.value
    pad.screen.opacity.value = 0
    assert pad.screen.stage.picture.value == plain
    last = pad.screen.image.value
    pad.screen.slider.value = 0
    assert pad.screen.image.value != last and pad.screen.count.value == "1 of 14"


def test_what_the_model_does_not_see_is_dark(make_pad):
    pad = make_pad(np.full((300, 400, 3), 240, np.uint8))
    assert pad.wait(10)
    shown = np.array(Image.open(io.BytesIO(pad.screen.stage.picture.value)))
    assert shown[100, 2].max() < 100 and shown[100, 200].min() > 220
    assert 0 < pad.state.box[0] < 20 and 380 < pad.state.box[2] < 400
    assert pad.state.box[0] == round(pad.state.box[0], 2)  # a place on it stays inside when rounded


def test_the_list_changes_speed_time_and_lock_and_deletes(make_pad):
    pad = make_pad()
    drag(pad, (50, 60), (150, 100))
    parts = pad.tracks.rows[0]
    parts["speed"].value = "ease_in"
    parts["time"].value = (0.25, 0.75)
    parts["lock"].click()
    track = pad.motion.tracks[0]
    assert (track.speed, track.start, track.end, track.locked) == ("ease_in", 0.25, 0.75, True)
    assert parts["delete"].disabled
    parts["lock"].click()
    parts["delete"].click()
    assert pad.motion.is_empty
    for _ in range(6):
        pad.toolbar.edits["Undo"].click()
    assert pad.motion.is_empty and pad.toolbar.edits["Undo"].disabled


def test_a_camera_move_fills_the_frame_and_the_list_stays_short(make_pad):
    pad = make_pad()
    pad.edit(lambda state: state.add_camera("Zoom in", 0.2))
    assert len(pad.motion.tracks) == 20
    assert len(pad.tracks.list.children) == 5 and "16 more" in pad.tracks.note.value


@pytest.mark.parametrize("size", [(2400, 1600), (300, 900), (900, 300), (64, 64)])
def test_pictures_of_any_shape_fit_the_screen_and_state_their_scale(make_pad, size):
    width, height = size
    pad = make_pad(np.zeros((height, width, 3), np.uint8))
    assert max(pad.picture.screen) == 480 and max(pad.motion.size) <= 1024
    assert f"{width} × {height}, shown at {480 / max(size):.0%}" in pad.header.scale.value
    assert pad.wait(10) and "warn" not in status(pad)


def test_without_a_picture_the_first_example_comes_with_its_motion(make_pad):
    pad = make_pad(image=None)
    assert pad.picture.name.endswith(".jpg") and not pad.motion.is_empty
    names = [name for name, _ in pad.header.examples.options]
    assert "chelsea" in names
    pad.header.examples.value = dict(pad.header.examples.options)["coffee"]
    assert pad.picture.name == "coffee.jpg" and not pad.motion.is_empty
    pad.header.path.value = coffee = pad.header.examples.value
    pad.open(PHOTO)
    assert pad.header.examples.value == pad.header.path.value == ""
    for widget in (pad.header.examples, pad.header.path):  # the same one again
        pad.open(PHOTO)
        widget.value = coffee
        assert pad.picture.path == coffee


def test_a_page_without_a_kernel_shows_a_still_picture(make_pad):
    pad = make_pad(motion=Motion((400, 300)).with_track([(50, 50), (300, 200)]))
    bundle = pad._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == pad.widget.model_id
    still = np.array(Image.open(io.BytesIO(base64.b64decode(bundle["image/jpeg"]))).convert("RGB"))
    assert still.shape == (360, 480, 3) and len(bundle["image/jpeg"]) < 500_000


def test_colab_gets_its_widget_manager(make_pad, monkeypatch):
    calls = []
    output = SimpleNamespace(enable_custom_widget_manager=lambda: calls.append(1))
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(output=output))
    pad = make_pad()
    assert calls == []
    pad._repr_mimebundle_()
    assert calls == [1]


def test_the_state_is_imported_without_widgets():
    code = (
        "import sys, mofa_nb.pad.state\n"
        "found = {'ipywidgets', 'ipycanvas', 'diffusers', 'cv2', 'scipy'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
