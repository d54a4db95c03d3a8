"""The pad in JupyterLab, used with a mouse in a real browser. Screenshots: outputs/browser.

With the mini model: the cells of notebook 04 that its pad needs. The others have a toy session.
"""

import json
from itertools import pairwise

import nbformat
import numpy as np
import pytest
from browser_lab import ROOT, LabPage, browser_path, jupyter_lab, launch, write_notebook

from mofa_nb.paths import data_file
from notebooks import pads

pytest.importorskip("playwright.sync_api", reason="pip install -r requirements-dev.txt")
pytestmark = pytest.mark.skipif(
    browser_path() is None, reason="no Chromium here: apt-get install chromium"
)

CANVAS = "canvas.mofa-stage"
IMPORTS = """from toy_session import ToySession
from mofa_nb.pad import MotionPad"""
PORTRAIT = """from mofa_nb.paths import data_file
portrait, voice = data_file("astronaut.jpg"), data_file("speech.wav")
pad = MotionPad(portrait, ToySession(pause=0.1), folder="saved")
pad"""
INK = f"""() => {{
  const canvas = document.querySelector('{CANVAS}');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (let i = 3; i < pixels.length; i += 4) sum += pixels[i];
  return sum;
}}"""


@pytest.fixture(scope="module")
def browser():
    with launch() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    write_notebook(folder / "face.ipynb", IMPORTS, PORTRAIT)
    flower = f"{str(data_file('flower.jpg'))!r}, ToySession(pause=0.1)"
    write_notebook(folder / "tools.ipynb", IMPORTS, f"pad = MotionPad({flower})\npad")
    page = next((ROOT / "notebooks").glob("04*.ipynb"))
    write_notebook(folder / "drawn.ipynb", *pads.pad_cells(nbformat.read(page, as_version=4)))
    with jupyter_lab(folder) as address:
        yield address


@pytest.fixture
def open_pad(browser, address):
    """Opens a notebook's pad; in the end nothing has been complained of."""
    labs = []

    def opened(name: str, **options) -> LabPage:
        lab = LabPage(browser, address, f"{name}.ipynb", **options)
        labs.append(lab)
        lab.run_all()
        lab.page.wait_for_selector(CANVAS)
        lab.until("pad.wait(20)")
        return lab

    yield opened
    for lab in labs:
        lab.context.close()
        assert [m for m in lab.messages if "ERR_NAME_NOT_RESOLVED" not in m] == []  # badge, offline


def press(lab: LabPage, name: str) -> None:
    about = {"Undo": "Take back", "Redo": "Do again"}.get(name)  # these have an icon only
    button = f"button[title^='{about}']" if about else f"button:has-text('{name}')"
    lab.click(f".mofa-pad {button}")


def motion(lab: LabPage) -> dict:
    return json.loads(lab.python("import json; print(json.dumps(pad.motion.to_json()))"))


def strays(lab: LabPage, track: int, mouse: list[tuple[float, float]]) -> tuple[float, float]:
    """Farthest control point from the mouse's path, and of its ends, in screen pixels."""
    found = motion(lab)
    points = found["tracks"][track]
    box = lab.box(CANVAS)
    scale = box["width"] / found["size"][0]
    points = np.array(points if isinstance(points, list) else points["points"]) * scale
    path = np.array(mouse) * (box["width"], box["height"])
    fine = np.concatenate([np.linspace(a, b, 50) for a, b in pairwise(path)])
    away = np.hypot(*(points[:, None] - fine).transpose(2, 0, 1)).min(1).max()
    ends = np.hypot(*(points[[0, -1]] - path[[0, -1]]).T).max()
    return float(away), float(ends)


def test_drawing_previewing_animating_and_reloading(open_pad):
    lab = open_pad("drawn")
    lab.until("len(pad.motion.tracks) == 7 and pad.screen.preview is not None")
    lab.picture("0-example")
    press(lab, "Clear")
    lab.until("pad.motion.is_empty and pad.wait(20)")
    lab.picture("1-hint")
    blank = lab.page.evaluate(INK)

    first = lab.drag(CANVAS, [(0.25, 0.3), (0.45, 0.35), (0.55, 0.55)])
    second = lab.drag(CANVAS, [(0.8, 0.75), (0.6, 0.85)])
    lab.until("len(pad.motion.tracks) == 2")
    for track, mouse in enumerate((first, second)):
        assert max(strays(lab, track, mouse)) < 1.5
    press(lab, "Pin")
    lab.drag(CANVAS, [(0.9, 0.2), (0.9, 0.2)])
    press(lab, "Brush")
    lab.drag(CANVAS, [(0.2, 0.3), (0.6, 0.5)])
    lab.until("len(pad.motion.pins) == 1 and pad.motion.brush is not None")

    assert lab.page.evaluate(INK) != blank

    lab.until("pad.wait(10) and 'Warped' in pad.screen.caption.value")
    lab.scrub(".mofa-player", 0.3)
    lab.until("2 <= pad.screen.slider.value <= 6")
    lab.picture("2-drawn")

    lab.python("pad.settings.frames.value = 5")
    lab.python("pad.settings.steps.value = 50")  # time enough to draw, however slow the machine
    press(lab, "Animate")
    lab.until("pad.settings.progress.value > 0", 60)
    press(lab, "Track")
    lab.drag(CANVAS, [(0.1, 0.9), (0.3, 0.8)])
    lab.until("len(pad.motion.tracks) == 3 and pad.busy")
    lab.picture("3-sampling")
    press(lab, "Stop")
    lab.until("not pad.busy and 'Stopped' in pad.screen.status.value", 60)
    assert lab.python("print(len(pad.clips))") == "0"
    lab.python("pad.settings.steps.value = 2")
    press(lab, "Animate")
    lab.until("len(pad.clips) == 1 and not pad.settings.run.disabled", 120)
    lab.page.wait_for_selector(".mofa-card img")
    press(lab, "Code")
    lab.page.wait_for_selector(".mofa-code pre:has-text('clip = animate(')")
    lab.picture("4-clip")

    drawn = motion(lab)
    lab.until("pad.wait(10)")
    ink = lab.page.evaluate(INK)
    lab.command("docmanager:save")
    lab.load()
    lab.page.wait_for_selector(CANVAS)
    lab.page.wait_for_function(f"({INK})() == {ink}")
    lab.page.wait_for_selector(".mofa-card img")
    assert motion(lab) == drawn
    lab.drag(CANVAS, [(0.4, 0.1), (0.6, 0.1)])
    lab.until("len(pad.motion.tracks) == 4")
    lab.picture("5-reloaded")


def test_a_face_is_moved_by_hand_and_by_a_voice_beside_a_track_on_a_dense_dark_screen(open_pad):
    lab = open_pad("face", width=1000, density=2.0)
    lab.darken()
    hint = lab.page.evaluate(INK)
    press(lab, "Face")
    lab.page.wait_for_selector(".mofa-face")
    lab.until("pad.state.landmarks is not None")
    lab.page.wait_for_function(f"![0, {hint}].includes(({INK})())")  # lines came by themselves
    mouse = lab.drag(CANVAS, [(0.8, 0.6), (0.85, 0.4), (0.7, 0.3)])
    lab.until("len(pad.motion.tracks) == 1")
    assert max(strays(lab, 0, mouse)) < 1.5
    lab.scrub(".mofa-face", 0.9)
    lab.until("pad.motion.face.expression.mouth > 0.5 and pad.wait(20)")
    lab.until("pad.state.landmarks[-1, 66, 1] - pad.state.landmarks[-1, 62, 1] > 10")
    lab.picture("6-face-dark")

    press(lab, "Undo")
    lab.until("pad.motion.face.expression.mouth == 0")  # a whole drag of the slider is one step
    press(lab, "Redo")
    lab.until("pad.motion.face.expression.mouth > 0.5")

    lab.page.locator(".mofa-face select").first.select_option("By a file")
    path = lab.page.get_by_placeholder("path of a video")
    path.fill(lab.python("print(voice)"))
    path.press("Enter")
    lab.until("pad.motion.face.source and pad.wait(20)")
    press(lab, "Whole length")
    lab.until("pad.settings.frames.value == 38 and pad.wait(20)")
    press(lab, "Animate")
    lab.until("len(pad.clips) == 1 and not pad.settings.run.disabled", 60)
    seconds = "document.querySelector('.mofa-card video')?.duration"
    lab.page.wait_for_function(f"Math.abs({seconds} - 38 / 12.5) < 0.2")
    sound = "document.querySelector('.mofa-card video').webkitAudioDecodedByteCount"
    lab.page.evaluate("document.querySelector('.mofa-card video').play()")
    lab.page.wait_for_function(f"{sound} > 0")
    lab.picture("7-face-clip")

    drawn = motion(lab)
    lab.command("docmanager:save")
    lab.load()
    lab.page.wait_for_selector(".mofa-card video")
    lab.page.wait_for_selector(".mofa-face")
    assert motion(lab) == drawn


def test_a_film_is_followed_and_its_clip_is_compared(open_pad):
    lab = open_pad("tools")
    path = lab.page.get_by_placeholder("path of a photograph")
    path.fill(str(data_file("city.mp4")))
    path.press("Enter")
    lab.until("len(pad.motion.tracks) > 20 and 'The film' in pad.screen.caption.value", 60)
    lab.picture("8-film")

    press(lab, "Animate")
    lab.until("len(pad.clips) == 1 and not pad.settings.run.disabled", 60)
    press(lab, "Compare")
    lab.page.wait_for_selector(".mofa-pad video >> nth=1", state="attached")
    lab.picture("9-compared")
