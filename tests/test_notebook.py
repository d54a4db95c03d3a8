"""What the notebooks show: pictures, tables, charts, progress, sliders."""

import base64
import io

import av
import numpy as np
import pytest
import torch
from PIL import Image

from mofa_nb.paths import data_file
from mofa_nb.show import charts
from mofa_nb.show.colours import HOLE, FeatureColours
from mofa_nb.show.layout import enlarged, flow_sheet
from mofa_nb.show.notebook import (
    ProgressBar,
    machine_note,
    picture_file,
    show,
    show_clip,
    table,
    with_progress,
)
from mofa_nb.show.sliders import Sliders


def noise(rng, height=160, width=200):
    return rng.integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def page(monkeypatch):
    """Everything that would be put on a page."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *items, **_: shown.extend(items))
    return shown


def test_a_plain_picture_is_saved_without_loss_and_a_large_photograph_lightly(rng):
    data, kind = picture_file(np.full((300, 400, 3), 7, np.uint8))
    assert kind == "png" and (np.array(Image.open(io.BytesIO(data))) == 7).all()
    data, kind = picture_file(noise(rng, 400, 400))
    assert kind == "jpeg" and Image.open(io.BytesIO(data)).size == (400, 400)


def test_a_picture_comes_with_its_reading(page, rng):
    show(noise(rng), "Red moves right.")
    assert [type(item).__name__ for item in page] == ["Image", "Markdown"]
    assert page[1].data == "*Red moves right.*" and page[0].metadata["alt"] == "Red moves right."


def test_a_clip_comes_with_a_row_of_frames_for_pages_that_play_nothing(page, monkeypatch, rng):
    import mediapy

    played = []
    monkeypatch.setattr(mediapy, "show_video", lambda frames, **how: played.append(how))
    frames = np.stack([noise(rng, 64, 96) for _ in range(3)])
    show_clip(frames, fps=8, title="mini model")
    assert played[0]["fps"] == 8 and (played[0]["width"], played[0]["height"]) == (384, 256)
    assert [type(item).__name__ for item in page] == ["Image"]


def test_a_clip_with_a_voice_is_a_video_with_sound(page, tmp_path, rng):
    frames = np.stack([noise(rng, 64, 64) for _ in range(6)])
    show_clip(frames, fps=12.5, title="mini model", sound=data_file("speech.wav"))
    (tmp_path / "shown.mp4").write_bytes(base64.b64decode(page[0].data.split('"')[-2][22:]))
    with av.open(str(tmp_path / "shown.mp4")) as shown:
        assert len(shown.streams.video) == len(shown.streams.audio) == 1
    assert type(page[1]).__name__ == "Image"


def test_tables_bars_and_notes_in_words(capsys):
    text = table(["who", "px"], [("S2D", 1.234), ("rest", 5)]).data
    assert text.split("\n") == ["| who | px |", "| :-- | --: |", "| S2D | 1.23 |", "| rest | 5 |"]
    assert "Change runtime type" in repr(machine_note("release", "cpu"))
    assert "needs a CUDA GPU" in repr(machine_note("release", "cpu"))
    assert "no GPU is needed" in repr(machine_note("mini", "cpu"))
    ProgressBar()("denoise", 1, 2)  # silent without a page, and passes everything on
    assert list(with_progress([3, 1, 2], "numbers")) == [3, 1, 2]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_bar_grows_in_place(page, monkeypatch):
    shell = type("Shell", (), {"kernel": 1})()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    for done in (0, 2, 4):
        ProgressBar()("denoise", done, 4)
    none, half, whole = map(str, page)
    assert none.count("█") == 0 and half.count("█") == half.count("░")
    assert whole.endswith("4/4") and "░" not in whole


def test_sliders_redraw_and_tell_what_went_wrong():
    def draw(level):
        if level == 13:
            raise ValueError("unlucky")
        return np.full((8, 8, 3), level, np.uint8)

    sliders = Sliders(draw, level=(0, 20, 5))
    sliders.sliders["level"].value = 9
    assert Image.open(io.BytesIO(sliders.picture.value)).getpixel((0, 0)) == (9, 9, 9)
    sliders.sliders["level"].value = 13
    assert "unlucky" in sliders.status.value
    sliders.sliders["level"].value = 14
    assert sliders.status.value == ""


def test_sliders_are_a_picture_where_no_widget_can_be_shown():
    sliders = Sliders(lambda x: np.full((8, 8, 3), int(x), np.uint8), x=(0.0, 1.0, 0.5))
    bundle = sliders._repr_mimebundle_()
    assert "image/png" in bundle and bundle["text/plain"] == "Sliders at x 0.5"


def test_equal_features_get_equal_colours_whatever_their_sign_and_holes_are_dark():
    features = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))
    colours = FeatureColours.of(features)
    moved = torch.cat([torch.zeros(5, 4, 1), features[:, :, :-1]], dim=2)
    before, after = colours(features), colours(moved)
    assert np.array_equal(after[:, 1:], before[:, :-1])
    assert (after[:, 0] == HOLE).all() and before.std() > 20
    turned = FeatureColours.of((features + 1).flip(-1))
    assert np.array_equal(FeatureColours.of(features + 1)(features + 1), turned(features + 1))


def test_flows_of_one_sheet_share_a_scale_and_a_wheel():
    slow, fast = torch.zeros(2, 8, 8), torch.zeros(2, 8, 8)
    slow[0], fast[0] = 2, 4
    sheet = flow_sheet({"slow": slow, "fast": fast}, title="Speeds", height=64)
    assert (sheet == (255, 0, 0)).all(-1).sum() >= 64 * 64
    assert (sheet == (255, 127, 127)).all(-1).sum() >= 64 * 64
    alone = flow_sheet({"slow": slow}, title="Speeds", height=64)
    assert (alone == (255, 0, 0)).all(-1).sum() >= 64 * 64


def test_a_sheet_breaks_into_rows_and_enlarging_repeats_pixels():
    tile = np.full((32, 32, 3), 90, np.uint8)
    parts = {str(k): tile for k in range(5)}
    wide, tall = flow_sheet(parts, title="", columns=5), flow_sheet(parts, title="", columns=2)
    assert wide.shape[1] > tall.shape[1] and wide.shape[0] < tall.shape[0]
    small = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = enlarged(small, 100)
    assert large.shape == (100, 100, 3) and (large[:50, :50] == small[0, 0]).all()


def test_charts_are_pictures_on_white_paper_and_bands_are_shaded():
    labels = {"title": "T", "x_label": "x"}
    line = charts.curves({"a": ([1, 2], [0, 1])}, y_label="y", log_x=True, **labels)
    hill = charts.distributions([0, 1, 2], {"a": [0, 1, 0]}, lines={"a": [1]}, around=1, **labels)
    heat = charts.matrix(np.eye(2), ["r", "s"], ["c", "d"], bar_label="b", **labels)
    for picture in (line, hill, heat):
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
        assert (picture[0, 0] == 255).all() and len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    lines = {"a": ([1, 2], [1, 1])}
    plain = charts.curves(lines, y_label="", **labels)
    band = {"a": ([0.5, 0.5], [1.5, 1.5])}
    shaded = charts.curves(lines, bands=band, top=2, y_label="", **labels)
    assert (shaded < 250).any(-1).sum() > (plain < 250).any(-1).sum() + 1000
