"""Layered scenes: the flow they state is the motion they show."""

import dataclasses
import math

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional

from mofa_nb.checks import InputError
from mofa_nb.clips.draws import Dice
from mofa_nb.clips.scenes import evaluation_scenes, random_scenes
from mofa_nb.clips.scenes.recipe import SEEDS, SceneMix, held_out_tiles, suits
from mofa_nb.clips.scenes.render import (
    Bend,
    Layer,
    Pose,
    canvas_points,
    pose_about,
    random_bends,
    render_layers,
)

FRAMES, SIDE = 5, 64
COLLAGE = SceneMix(collage=1.0, cutout=0.0)
CUTOUT = SceneMix(collage=0.0, cutout=1.0)
BENT = SceneMix(collage=0.0, cutout=0.0)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """Smooth random pictures."""
    return tiny.photos()


def made(photos, batch=8, seed=1, **settings):
    generator = torch.Generator().manual_seed(seed)
    return random_scenes(photos, batch, FRAMES, (SIDE, SIDE), generator=generator, **settings)


def seen_at(images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Each frame-0 pixel's colour at its stated place in a later image."""
    height, width = images.shape[-2:]
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    place = canvas_points(height, width, images.device) + flow.permute(0, 2, 3, 1)
    return functional.grid_sample(images, place / centre, align_corners=True)


def square(depth: int, half: float, grey: float, shift_x: float) -> Layer:
    """A grey square about the centre of a 33x33 raster that ends `shift_x` px to the right."""
    points = canvas_points(33, 33, torch.device("cpu"))
    alpha = (points.abs() <= half).all(-1).float()
    colour = torch.full((3, 33, 33), grey)
    shift = torch.zeros(1, 2, 2)
    shift[0, 1, 0] = shift_x
    pose = Pose(torch.eye(2).expand(1, 2, 2, 2), shift)
    raster = torch.cat([colour, alpha[None]]) if depth else colour
    return Layer(depth, torch.tensor([0]), raster[None], torch.ones(1), torch.zeros(1, 2), pose)


def test_a_square_that_slides_four_pixels_covers_four_columns():
    batch = render_layers([square(0, 99, 0.2, 0), square(1, 3, 0.8, 4)], 1, 2, (33, 33))
    mid = 16
    assert batch.layers[0, mid].tolist() == [0] * 13 + [1] * 7 + [0] * 13
    assert batch.flow[0, 0, 0, mid].tolist() == [0] * 13 + [4] * 7 + [0] * 13
    assert batch.flow[0, 0, 1].abs().max() == 0
    assert batch.visible[0, 0, 0, mid].tolist() == [True] * 20 + [False] * 4 + [True] * 9
    shown = batch.frames[0, 1, 0, mid]
    torch.testing.assert_close(shown, torch.tensor([0.2] * 17 + [0.8] * 7 + [0.2] * 9))
    gone = render_layers([square(0, 99, 0.2, 5)], 1, 2, (33, 33))  # out of the frame
    assert gone.visible[0, 0, 0, 0].tolist() == [True] * 28 + [False] * 5
    layers = [square(0, 99, 0.2, 0), square(1, 3, 0.5, 0), square(2, 3, 0.9, 0)]
    nearer = render_layers(layers, 1, 2, (33, 33))
    assert nearer.layers[0, 16, 16] == 2
    assert nearer.frames[0, 0, 0, 16, 16] == pytest.approx(0.9)


def test_a_quarter_turn_about_a_point_leaves_the_point_and_turns_right_to_down_twice_as_far():
    centre, quarter = torch.tensor([[2.0, 1.0]]), torch.tensor([[0.0, math.pi / 2]])
    pose = pose_about(centre, torch.zeros(1, 2, 2), quarter, torch.tensor([[0.0, math.log(2)]]))
    points = torch.tensor([[[2.0, 1.0], [5.0, 1.0]]]).expand(1, 2, 1, 2, 2)
    moved = pose.apply(points)
    torch.testing.assert_close(moved[0, 1, 0], torch.tensor([[2.0, 1.0], [2.0, 7.0]]))
    torch.testing.assert_close(pose.inverse().apply(moved), points)


def test_poses_compose_in_the_order_said():
    double = Pose(2 * torch.eye(2).expand(1, 1, 2, 2), torch.zeros(1, 1, 2))
    aside = Pose(torch.eye(2).expand(1, 1, 2, 2), torch.tensor([[[3.0, 0.0]]]))
    point = torch.ones(1, 1, 1, 1, 2)
    torch.testing.assert_close(double.after(aside).apply(point).flatten(), torch.tensor([8.0, 2.0]))
    torch.testing.assert_close(aside.after(double).apply(point).flatten(), torch.tensor([5.0, 2.0]))


def test_bends_go_there_and_back_within_a_tenth_of_a_pixel():
    dice = Dice(torch.Generator().manual_seed(3), torch.device("cpu"))
    bend = random_bends(dice, torch.zeros(64, 2), 4, unit=1.0)
    points = canvas_points(32, 32, torch.device("cpu")) * 4
    start = points.expand(64, 4, 32, 32, 2)
    moved = bend.forward(start)
    assert (moved[:, 0] - start[:, 0]).abs().max() == 0
    assert (moved - start).norm(dim=-1).max() > 10
    back = moved - bend.displacement(moved)
    assert (back - start).norm(dim=-1).max() < 0.1


def test_a_bend_drags_its_centre_and_leaves_what_is_far_away():
    zeros = torch.zeros(1, 2)
    drag = torch.tensor([[[0.0, 0.0], [6.0, 0.0]]])
    still = torch.zeros(1, 2, 2)[..., 0]
    bend = Bend(zeros, zeros + 20, drag, still, zeros, zeros, still)
    points = torch.tensor([[6.0, 0.0], [80.0, 0.0]]).expand(1, 2, 1, 2, 2)
    # looking back from (6, 0): the window there is exp(-0.09)
    expected = torch.tensor([[6 * math.exp(-0.09), 0.0], [0.0, 0.0]])
    torch.testing.assert_close(bend.displacement(points)[0, 1, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mix", [COLLAGE, CUTOUT, BENT])
def test_following_the_flow_finds_the_same_colour(photos, mix):
    batch = made(photos, mix=mix)
    for t in (0, FRAMES - 2):
        found = seen_at(batch.frames[:, t + 1], batch.flow[:, t])
        error = (found - batch.frames[:, 0]).abs().mean(1)[batch.visible[:, t, 0]]
        assert error.median() < 0.006
        assert error.mean() < 0.02
    if mix is COLLAGE:  # and a wrong flow would be noticed
        found = seen_at(batch.frames[:, -1], -batch.flow[:, -1])
        assert (found - batch.frames[:, 0]).abs().mean(1)[batch.visible[:, -1, 0]].mean() > 0.03


def test_shapes_ranges_and_a_start_from_rest_where_the_photographs_are(photos):
    seeded = torch.Generator().manual_seed(0)
    batch = random_scenes(photos, 4, FRAMES, (48, 80), generator=seeded)
    shapes = [(FRAMES, 3, 48, 80), (FRAMES - 1, 2, 48, 80), (FRAMES - 1, 1, 48, 80), (48, 80)]
    assert [value.shape[1:] for value in vars(batch).values()] == shapes
    assert len(batch) == 4 and batch.layers.dtype == torch.long
    assert batch.frames.min() >= 0 and batch.frames.max() <= 1
    length = batch.flow.norm(dim=2)
    assert length[:, 0].mean() < length[:, -1].mean()
    elsewhere = made(photos.to("meta"))
    assert {value.device.type for value in vars(elsewhere).values()} == {"meta"}
    assert elsewhere.frames.shape == (8, FRAMES, 3, SIDE, SIDE)


def test_moving_things_move_four_to_thirty_pixels(photos):
    batch = made(photos, batch=48, mix=CUTOUT)
    length = batch.flow[:, -1].norm(dim=1) * 128 / SIDE
    moving = length > 1
    means = torch.stack([a[b].mean() for a, b in zip(length, moving, strict=True) if b.any()])
    assert 4 < means.median() < 20
    assert (means < 45).all()


def test_two_fifths_of_the_collages_have_a_still_camera(photos):
    batch = made(photos, batch=60, mix=COLLAGE)
    corner = batch.layers == 0
    ends = batch.flow[:, -1].norm(dim=1)
    still = [bool((end[mask] == 0).all()) for end, mask in zip(ends, corner, strict=True)]
    assert 0.25 < np.mean(still) < 0.65


def test_cutouts_start_as_the_photograph_alone(photos):
    """At frame 0 nothing betrays the part that will move: no seam along its rim."""
    mix = dataclasses.replace(CUTOUT, still_camera=1.0)
    batch = made(photos, batch=12, mix=mix)
    first = batch.frames[:, 0]
    step = (first[..., 1:] - first[..., :-1]).abs().amax(1)
    rim = (batch.layers[..., 1:] == 1) ^ (batch.layers[..., :-1] == 1)
    assert step[rim].mean() < 2 * step[~rim].mean()


def test_without_photographs_there_are_no_scenes(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("MOFA_NB_ROOT", str(tmp_path))
    for act, sentence in (
        (lambda: made(photos[:0]), "photos must be"),
        (lambda: made(photos.float()), "square uint8 photos, 2 frames .* but torch.float32"),
        (lambda: made(photos[..., :-1]), "square uint8 photos"),
        (lambda: random_scenes(photos, 1, 1, generator=torch.Generator()), "1 of 1 frames of"),
        (lambda: evaluation_scenes(33), "32 evaluation scenes"),
        (held_out_tiles, r"china\.jpg does not exist"),
    ):
        with pytest.raises(InputError, match=sentence):
            act()


def test_the_evaluation_scenes_are_moderate_and_fixed():
    scenes = evaluation_scenes(8)
    assert scenes.frames.shape == (8, 14, 3, 128, 128)
    assert all(suits(scenes[i : i + 1]) for i in range(8))
    assert torch.equal(evaluation_scenes(2).frames, scenes.frames[:2])
    assert not torch.equal(scenes.frames[0], scenes.frames[1])
    assert len(SEEDS) == len(set(SEEDS)) == 32
