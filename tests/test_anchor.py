"""Anchored sampling: what is carried along, what is left to the networks, and when."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from moving import FRAMES, SIZE, moving_right, picture

from mofa_nb.animate import Session, animate
from mofa_nb.checks import InputError
from mofa_nb.flow.warp import carried, torn, with_soft_rims
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.pipeline.settings import ClipSettings
from mofa_nb.sampling.anchor import Anchor, anchored, anchoring
from mofa_nb.sampling.denoise import Control, denoise_steps, encode_start, initial_noise, shares

FREE = (1.0, 1.0)


@pytest.fixture(scope="module")
def models():
    """A toy model of the release's settings: it would anchor in steps from sigma 1 on."""
    return tiny.models()


@pytest.fixture(scope="module")
def image():
    """A picture in [-1, 1]."""
    return picture()


@pytest.fixture(scope="module")
def control(models, image):
    """A trajectory control with an anchor."""
    flow, adapter = moving_right(16), models.adapter("trajectory")
    with torch.no_grad():
        known = adapter.conditioning(image, flow)
    made = anchoring(models, image, flow)(range(FRAMES))
    return Control(adapter, known, 1.0, anchor=made)


@pytest.fixture(scope="module")
def steps(models, image):
    """All steps of a clip."""

    def run(*controls, count=4):
        noise = initial_noise(models, SIZE, FRAMES, torch.Generator().manual_seed(4))[1]
        start = encode_start(models, (image + 1) / 2)
        return list(denoise_steps(models, start, controls, noise, steps=count, guidance=FREE))

    return run


# What is carried along


def test_the_photograph_goes_where_the_flow_takes_it(image):
    moved, covered = carried(image, moving_right(16))
    close = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(moved[-1, :, :, 17:32], image[0, :, :, 1:16], **close)
    torch.testing.assert_close(moved[-1, :, :, 49:], image[0, :, :, 49:], **close)
    assert covered[-1, 0, :, :16].max() == 0 and covered[-1, 0, :, 16:].min() >= 1
    front = moved[-1, :, :, 32:47]  # what moved farther
    torch.testing.assert_close(front, image[0, :, :, 16:31], atol=0.01, rtol=0)
    filled, _ = carried(torch.full_like(image, 0.5), moving_right(16))  # holes from around them
    torch.testing.assert_close(filled, torch.full_like(filled, 0.5), atol=0.05, rtol=0)


def test_the_photograph_tears_between_two_motions(image):
    steps = torch.tensor([0.0] * 20 + [4, 4, 9, 9, 12, 12] + [16.0] * 38)
    for turned in (False, True):
        flow = torch.zeros(1, 1, 2, *SIZE)
        flow[0, 0, 1 if turned else 0] = steps[:, None] if turned else steps
        lines = torn(flow)[0, 0, 0].all(0 if not turned else 1)
        assert lines.nonzero().flatten().tolist() == [18, 19, 20, 21, 22, 23, 24, 25]
        _, covered = carried(image, flow)
        covered = covered[0, 0].T if turned else covered[0, 0]
        assert covered[:, 18:42].max() == 0 and covered[:, [*range(18), *range(42, 64)]].min() >= 1
    assert not torn(moving_right(16)).any()


def test_a_skin_stretches_instead_of_tearing(image):
    flow = torch.zeros(1, 1, 2, *SIZE)
    flow[0, 0, 0] = torch.tensor([0.0] * 30 + [1.5, 3.0, 4.5] + [6.0] * 31)
    landed = [carried(image, flow, tears)[1][0, 0, 5, 28:36] for tears in (True, False)]
    assert landed[0].max() == 0 and landed[1].sum() > 3


def test_a_hole_is_filled_with_what_lies_behind(image):
    scene = torch.full_like(image, -0.5)
    scene[..., 20:40, 20:40] = 0.8
    flow = torch.zeros(1, 1, 2, *SIZE)
    flow[..., 0, 20:40, 20:40] = 8
    moved, _ = carried(scene, flow)
    torch.testing.assert_close(moved[0, :, 20:40, 20:27], scene[0, :, :20, :7], atol=0.02, rtol=0)
    torch.testing.assert_close(moved[0, :, 21:39, 29:47], scene[0, :, 21:39, 21:39])


def test_only_the_rims_of_moved_things_are_soft(image):
    landed = torch.zeros(1, 1, *SIZE)
    landed[..., 20:40, 32:] = 10
    changed = (with_soft_rims(image, landed) != image).any(1)[0]
    assert changed[20:40, [31, 32]].all() and changed[[19, 20, 39, 40], 33:].all()
    assert not changed[:18].any() and not changed[22:38, :31].any()
    assert not changed[22:38, 33:].any()


def test_a_hole_that_a_moving_camera_leaves_is_filled_from_beside_it():
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    flow = torch.zeros(1, 1, 2, *SIZE)
    flow[:, :, 0] = 12
    moved, covered = carried(ramp, flow)
    assert covered[0, 0, :, :12].max() == 0
    assert (moved[0, 0, :, :12] + 1).abs().max() < 0.3


def test_what_stretches_is_filled_evenly(image):
    flow = torch.zeros(1, 1, 2, *SIZE)
    flow[0, 0, 1] = torch.linspace(0, 12, 64)[:, None]
    picture = torch.linspace(-1, 1, 64)[:, None].expand(1, 3, 64, 64)
    moved, _ = carried(picture, flow)
    rows = torch.arange(52)
    expected = picture[0, 0, :, 0][(rows * 63 / 75).round().long()]
    assert (moved[0, 0, :52, 5] - expected).abs().max() < 0.05


def test_cells_with_a_hole_are_left_to_the_networks(models, image):
    def made(*shares, frames=range(FRAMES)):
        return anchoring(models, image, moving_right(18), *shares)(frames)

    anchor = made()
    cell = SIZE[0] // anchor.latents.shape[-1]
    torn = -(-18 // cell)  # cells that lie wholly or partly in the hole
    assert torn * cell > 18
    assert anchor.weight[0, -1, 0, :, :torn].max() == 0
    assert anchor.weight[0, -1, 0, :, torn:].min() == 1
    assert anchor.weight[0, 0].min() == 1
    torch.testing.assert_close(made(0.3).weight, 0.3 * anchor.weight)
    some = made(frames=[0, 2, 3])
    torch.testing.assert_close(some.latents, anchor.latents[:, [0, 2, 3]])
    torch.testing.assert_close(some.weight, anchor.weight[:, [0, 2, 3]])


# What it does to an estimate


def test_the_clean_latents_are_the_anchors_as_far_as_it_weighs():
    velocity, latents, kept = torch.randn(3, 1, 2, 4, 8, 8, generator=torch.manual_seed(0))
    weight = torch.zeros(1, 2, 1, 8, 8)
    weight[..., :4], weight[..., 4:6] = 1, 0.5
    sigma, level = 3.0, 10.0**0.5
    given = anchored(velocity, latents, sigma, [(Anchor(kept, weight), 1.0)])
    clean = latents / 10 - given * sigma / level
    plain = latents / 10 - velocity * sigma / level
    torch.testing.assert_close(clean[..., :4], kept[..., :4], atol=1e-5, rtol=1e-4)
    half = (plain + kept)[..., 4:6] / 2
    torch.testing.assert_close(clean[..., 4:6], half, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(clean[..., 6:], plain[..., 6:], atol=1e-5, rtol=1e-4)
    assert anchored(velocity, latents, sigma, []) is velocity


def test_its_share_goes_with_the_scale_and_the_mask(control):
    latents = torch.zeros_like(control.anchor.latents)
    assert shares([replace(control, scale=0.5)], latents)[0][1] == 0.5
    assert shares([replace(control, scale=3.0)], latents)[0][1] == 1.0
    assert shares([replace(control, anchor=None)], latents) == []
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., 32:] = 1
    share = shares([replace(control, mask=mask)], latents)[0][1]
    cells = latents.shape[-1]
    assert share[..., : cells // 2].max() == 0 and share[..., cells // 2 :].min() == 1


# In the loop


def test_noisy_steps_are_anchored_and_the_last_ones_are_not(steps, control):
    for step in steps(control):
        kept = control.anchor.weight.bool().expand(step.denoised.shape)
        gap = (step.denoised - control.anchor.latents).abs()[kept].max()
        assert (gap < 1e-3) == (step.sigma > 1.0), step.sigma


def test_at_a_control_scale_of_zero_nothing_is_anchored(steps, control):
    without = steps(replace(control, scale=0.0))[-1].latents
    assert torch.equal(without, steps()[-1].latents)
    assert not torch.equal(without, steps(control)[-1].latents)


# Settings


def test_the_release_does_not_anchor_unless_asked_to():
    own = tiny.models().settings
    assert "trajectory_anchor" not in ClipSettings.of(own, False).to_json()
    assert ClipSettings.of(own, False, {"trajectory_anchor": 0.5}).trajectory_anchor == 0.5
    with pytest.raises(InputError, match="anchor must lie between 0 and 1"):
        ClipSettings.of(own, False, {"trajectory_anchor": 1.5})
    assert ClipSettings.of(own, False, {"landmark_anchor": 1.0}).landmark_anchor == 0
    assert ClipSettings.of(own, True, {"landmark_anchor": 0.3}).landmark_anchor == 0.3


def test_settings_answer_to_their_older_names_too():
    own, older = tiny.models().settings, {"control_scale": 0.2, "face_anchor": 0.5, "anchor": 0.25}
    settings = ClipSettings.of(own, True, older)
    found = settings.trajectory_scale, settings.landmark_anchor, settings.trajectory_anchor
    assert found == (0.2, 0.5, 0.25)
    assert type(own).from_dict({"control_scale": 0.3, "anchor": 1.0}).trajectory_anchor == 1.0


def test_an_anchored_clip_begins_with_the_photograph():
    models = tiny.models()
    session = Session(replace(models, settings=replace(models.settings, detail=1.0)))
    photo = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    motion = Motion((64, 64), (Track(((20.0, 30.0), (30.0, 30.0))),))
    given = {"model": session, "num_frames": 4, "steps": 1, "trajectory_scale": 1.0}
    begin, free = (
        animate(photo, motion, size=(64, 64), trajectory_anchor=share, **given)
        .frames[0]
        .astype(int)
        for share in (1.0, 0.0)
    )
    assert abs(begin - photo).max() <= 1 < abs(free - photo).max()
