"""Things selected by clicks, and the same on the pad."""

import numpy as np
import pytest
from pad_hands import click, drag, press_key, send, square, state_of

from mofa_nb.__main__ import parser
from mofa_nb.checks import InputError
from mofa_nb.commands import checked
from mofa_nb.media.images import read_image
from mofa_nb.motion.motion import Motion
from mofa_nb.motion.select import brush_thing, select_thing
from mofa_nb.paths import data_file

FLOWER = read_image(data_file("flower.jpg"))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    return float(((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum())


def two_discs(colour=(200, 120, 60)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy picture of 320 x 240 with two like discs, and the mask of each."""
    y, x = np.mgrid[:240, :320]
    left, right = (np.hypot(x - cx, y - 120) < 50 for cx in (90, 230))
    picture = np.where((left | right)[..., None], colour, (60, 110, 90))
    noise = np.random.default_rng(0).normal(0, 12, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8), left, right


def test_one_click_finds_the_flower_and_not_its_neighbour():
    mask = select_thing(FLOWER, [(310, 220)])
    y, x = np.mgrid[:427, :640]
    disc = np.hypot(x - 307, y - 222) < 135
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
    assert overlap(mask, disc) > 0.93 and mask[415, 380] == 0


def test_one_click_finds_a_thing_whose_colour_differs_by_no_more_than_the_grain():
    picture, left, _ = two_discs((72, 120, 97))
    assert overlap(select_thing(picture, [(90, 120)]), left) > 0.9


def test_clicks_add_things_and_take_them_away():
    picture, left, right = two_discs()
    assert overlap(select_thing(picture, [(90, 120)]), left) > 0.95
    assert overlap(select_thing(picture, [(90, 120), (230, 120)]), left | right) > 0.95
    assert overlap(select_thing(picture, [(90, 120)], [(230, 120)]), left) > 0.95


def test_a_thing_that_the_border_cuts_is_found_whole():
    mask = select_thing(FLOWER, [(380, 415)])
    assert 0.01 < (mask > 0).mean() < 0.04 and mask[426, 380] == 255


@pytest.mark.parametrize(
    ("on", "options", "message"),
    [
        ([(640, 10)], {}, r"a click at \(640, 10\) is outside the 640x427 picture"),
        ([], {}, "at least one"),
        ([(1, 1)], {"by": "nowhere"}, "'nowhere' is no folder of SAM 2's weights"),
    ],
)
def test_clicks_that_select_nothing_are_refused(on, options, message):
    with pytest.raises(InputError, match=message):
        select_thing(FLOWER, on, **options)


def test_sam_2_from_a_folder_gets_the_clicks_and_gives_a_mask_of_the_pictures_size(tmp_path):
    transformers = pytest.importorskip("transformers", minversion="4.56")
    small = {"hidden_size": 32, "num_attention_heads": 2}
    config = transformers.Sam2Config(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=transformers.Sam2HieraDetConfig(
                hidden_size=8, image_size=[64, 64], blocks_per_stage=[1, 1, 1, 1],
                embed_dim_per_stage=[8, 16, 24, 32], num_attention_heads_per_stage=[1, 1, 1, 1],
                window_size_per_stage=[8, 4, 14, 7], global_attention_blocks=[],
            ),
            backbone_channel_list=[32, 24, 16, 8], fpn_hidden_size=32,
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        ),
        prompt_encoder_config={"hidden_size": 32, "image_size": 64},
        mask_decoder_config={**small, "mlp_dim": 16, "iou_head_hidden_dim": 16},
    )  # fmt: skip
    transformers.Sam2Model(config).save_pretrained(tmp_path)
    clicks = ([(310, 220)], []), ([(9, 9)], [(310, 220)])
    masks = [select_thing(FLOWER, on, off, tmp_path) for on, off in clicks]
    assert masks[0].shape == (427, 640) and set(np.unique(masks[0])) <= {0, 255}
    assert not np.array_equal(*masks)


def test_a_second_click_beside_adds_and_one_inside_takes_away():
    state = state_of(tool="select", pick=square)
    click(state, 100, 100)
    click(state, 200, 100)
    assert state.motion.brush[100, 100] == state.motion.brush[100, 200] == 255
    click(state, 100, 100)
    assert state.motion.brush[100, 100] == 0 and state.motion.brush[115, 115] == 255
    assert state.picks == (((100, 100), (200, 100)), ((100, 100),))


def test_undo_takes_back_one_click_and_selecting_goes_on_from_there():
    state = state_of(tool="select", pick=square)
    click(state, 100, 100)
    first = state.motion
    click(state, 100, 100)
    state.undo()
    assert state.motion == first and state.picks == (((100, 100),), ())
    click(state, 105, 100)  # again inside: taken away, not selected anew
    assert state.motion.brush[100, 105] == 0
    for _ in range(2):
        state.undo()
    assert state.motion.brush is None and state.picks == ((), ())


def test_a_selection_joins_what_was_painted():
    state = state_of(tool="brush", pick=square)
    drag(state, (300, 200), (350, 200))
    state.use("select")
    click(state, 100, 100)
    assert state.motion.brush[200, 320] == state.motion.brush[100, 100] == 255


def test_a_click_on_the_pad_brushes_the_thing_and_no_other(make_pad):
    board = make_pad(FLOWER)
    press_key(board, "s")
    send(board, "mouse_down", 310, 220)
    send(board, "mouse_up", 310, 220)
    mask = board.motion.brush > 0
    assert mask[220, 310] and not mask[415, 380]


def test_the_command_line_brushes_what_is_clicked_beside_the_motion_files_own_brush(tmp_path):
    painted = np.zeros((427, 640), np.uint8)
    painted[:20, :20] = 255
    drawn = Motion((640, 427), [[(310, 220), (390, 220)]], brush=painted)
    both = brush_thing(drawn, FLOWER, [(310, 220)]).brush
    assert both[5, 5] == both[220, 310] == 255 and both[415, 380] == 0
    small = brush_thing(Motion((320, 214)), FLOWER, [(310, 220)]).brush
    assert small.shape == (214, 320) and small[110, 155] == 255
    drawn.save(tmp_path / "m.json")
    options = ["animate", str(data_file("flower.jpg")), str(tmp_path / "m.json"), "--model", "mini"]
    arguments = parser().parse_args([*options, "--select", "310,220", "--select-not", "380,415"])
    both = brush_thing(drawn, FLOWER, [(310, 220)], [(380, 415)]).brush
    assert np.array_equal(checked(arguments).motion.brush, both)
    for wrong, message in (("310", "must be 2 numbers"), ("900,10", "outside the 640x427")):
        with pytest.raises(InputError, match=message):
            checked(parser().parse_args([*options, "--select", wrong]))
