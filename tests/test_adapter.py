"""The MOFA-Adapter: conditioning once per video, warped features, and residuals."""

import dataclasses

import pytest
import tiny
import torch

from mofa_nb.adapter.adapter import Adapter, OcclusionNet
from mofa_nb.checks import InputError
from mofa_nb.config import AdapterConfig
from mofa_nb.flow.splat import splat
from mofa_nb.study.control import without_warp

SMALL = {  # 1/4 of the image and coarser, as the mini model's
    "in_channels": 16,
    "block_out_channels": (32, 32, 64, 64),
    "layers_per_block": 1,
    "num_attention_heads": (1, 1, 2, 2),
    "cross_attention_dim": 16,
    "addition_time_embed_dim": 32,
    "embedder_channels": (8, 16, 16),
}
IDS = torch.tensor([[6.0, 128.0, 0.02]])


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def video():
    """First frame, flow and landmarks of one video of three frames, 64 x 128 pixels."""
    return {
        "image": random(1, 3, 64, 128).tanh(),
        "flow": 6 * random(1, 2, 2, 64, 128, seed=1),
        "landmarks": (random(1, 3, 3, 64, 128, seed=2) > 1.3).float(),
    }


@pytest.fixture(scope="module")
def step():
    """What changes from step to step: sample, timestep, token, ids."""
    return random(1, 3, 8, 8, 16), torch.tensor(0.7), random(1, 1, 48, seed=3), IDS


@torch.no_grad()
def known(kind, video):
    marks = video["landmarks"] if kind == "landmark" else None
    return tiny.adapter(kind).conditioning(video["image"], video["flow"], marks)


@torch.no_grad()
def residuals(kind, step, conditioning, scale=1.0):
    out = tiny.adapter(kind)(*step, conditioning, scale)
    return [*out.down, out.mid]


# A fresh adapter


@pytest.mark.parametrize("landmark_channels", [(), (8, 16, 16)])
@torch.no_grad()
def test_a_fresh_adapter_changes_nothing(landmark_channels):
    torch.manual_seed(0)
    net = Adapter(AdapterConfig(**SMALL, landmark_channels=landmark_channels))
    marks = torch.rand(1, 3, 3, 32, 64) if landmark_channels else None
    conditioning = net.conditioning(torch.rand(1, 3, 32, 64), random(1, 2, 2, 32, 64), marks)
    out = net(random(1, 3, 16, 8, 16), torch.tensor(0.1), random(1, 1, 16), IDS, conditioning)
    assert len(out.down) == 8 and not any(r.any() for r in (*out.down, out.mid))
    assert not any(level[:, 1:].any() for level in conditioning.warped)
    if landmark_channels:  # its first frame's coarser levels have no zero convolution
        assert not conditioning.landmarks.any() and not conditioning.warped[0].any()
    else:
        assert not any(level.any() for level in conditioning.warped)


def test_levels_follow_the_embedders_steps_and_ways_to_warp_are_two():
    assert AdapterConfig().strides == (8, 16, 32, 64)
    assert AdapterConfig(**SMALL).strides == (4, 8, 16, 32)
    assert AdapterConfig(**SMALL).downscale == 4
    with pytest.raises(InputError, match="warp must be one of features, picture, but 'pixels'"):
        AdapterConfig(warp="pixels")


def test_blocks_attend_as_the_config_says():
    plain, attending = "DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"
    for kinds in ([attending] * 3 + [plain], [plain, attending, attending, plain]):
        blocks = Adapter(AdapterConfig(**SMALL, down_block_types=tuple(kinds))).down_blocks
        assert [type(block).__name__ for block in blocks] == kinds
    assert AdapterConfig().down_block_types == (*[attending] * 3, plain)


@torch.no_grad()
def test_warped_features_stand_at_every_level_and_frame():
    net = Adapter(AdapterConfig(**SMALL))
    conditioning = net.conditioning(torch.rand(2, 3, 64, 96), random(2, 4, 2, 64, 96))
    shapes = [tuple(level.shape) for level in conditioning.warped]
    assert shapes == [(2, 5, 32, 16, 24), (2, 5, 32, 8, 12), (2, 5, 32, 4, 6), (2, 5, 64, 2, 3)]
    assert conditioning.landmarks is None and conditioning.occlusion == ()


# Conditioning


@pytest.mark.parametrize("kind", ["trajectory", "landmark"])
def test_the_first_frame_keeps_its_own_features(kind, video):
    conditioning = known(kind, video)  # and skips the occlusion nets
    for level, warped in zip(conditioning.features, conditioning.warped, strict=True):
        assert torch.equal(warped[:, 0], level) and level.abs().max() > 0


def test_zero_flow_gives_every_frame_the_first_ones_features(video):
    still = known("trajectory", video | {"flow": torch.zeros_like(video["flow"])})
    ablated = without_warp(known("trajectory", video))
    for moved, copied in zip(still.warped, ablated.warped, strict=True):
        torch.testing.assert_close(moved, copied, rtol=1e-5, atol=1e-5)


def test_each_level_is_splatted_along_every_sth_flow_pixel_over_s(video):
    conditioning = known("trajectory", video)
    for stride, level, warped in zip(
        (8, 16, 32, 64), conditioning.features, conditioning.warped, strict=True
    ):
        for frame in range(2):
            small = video["flow"][:, frame, :, ::stride, ::stride] / stride
            assert torch.equal(warped[:, frame + 1], splat(level, small))


def test_conditioning_made_once_serves_every_step_and_both_guidance_halves(video, step):
    once = known("trajectory", video)
    twice = known("trajectory", {k: torch.cat([v, v]) for k, v in video.items()})
    for time in (1.6, -0.3):
        sample, _, token, ids = step
        halves = (torch.cat([sample, sample]), torch.tensor(time),
                  torch.cat([0 * token, token]), ids.expand(2, 3))  # fmt: skip
        for shared, naive in zip(
            residuals("trajectory", halves, once),
            residuals("trajectory", halves, twice),
            strict=True,
        ):
            assert (shared - naive).abs().max() < 1e-5 * naive.abs().max()
    again = known("trajectory", video)
    assert all(torch.equal(a, b) for a, b in zip(once.warped, again.warped, strict=True))


def test_landmarks_are_for_landmark_adapters_only(video):
    with pytest.raises(ValueError, match="landmark adapter needs landmark images"):
        tiny.adapter("trajectory").conditioning(**video)
    with pytest.raises(ValueError, match="landmark adapter needs landmark images"):
        tiny.adapter("landmark").conditioning(video["image"], video["flow"])


# Residuals


@pytest.mark.parametrize("kind", ["trajectory", "landmark"])
def test_residuals_have_the_shapes_of_the_unets_features(kind, video, step):
    made = residuals(kind, step, known(kind, video))
    widths = [32] * 4 + [64] * 3 + [128] * 6
    sizes = [8] * 3 + [4] * 3 + [2] * 3 + [1] * 4
    wanted = [(3, c, h, 2 * h) for c, h in zip(widths, sizes, strict=True)]
    assert [tuple(r.shape) for r in made] == wanted


@torch.no_grad()
def test_residuals_grow_with_the_scale(video, step):
    conditioning = known("trajectory", video)
    full, half = (residuals("trajectory", step, conditioning, s) for s in (1.0, 0.5))
    for one, other in zip(full, half, strict=True):
        torch.testing.assert_close(0.5 * one, other)


@torch.no_grad()
def test_a_moved_picture_keeps_motion_between_cells_which_moved_features_lose():
    embed = dict.fromkeys(("features", "picture"))
    image, right = random(1, 3, 64, 64).tanh(), torch.zeros(1, 1, 2, 64, 64)
    right[:, :, 0] = 4  # half a cell: a cell is 8 pixels here
    for warp in embed:
        net = Adapter(dataclasses.replace(tiny.adapter("trajectory").config, warp=warp)).eval()
        net.load_state_dict(tiny.adapter("trajectory").state_dict())
        made = net.conditioning(image, right).warped
        truly = net.controlnet_cond_embedding(image.roll(4, dims=-1))
        wanted = (truly, *net.flow_encoder(truly))
        inside = (..., slice(3, -2), slice(3, -2))  # the border shows other things
        embed[warp] = [float((a[:, 1] - b)[inside].norm() / b[inside].norm())
                       for a, b in zip(made[:2], wanted[:2], strict=True)]  # fmt: skip
    assert max(embed["picture"]) < 0.05 and min(embed["features"]) > 0.2


def test_flow_image_sample_and_step_all_reach_the_residuals(video, step):
    conditioning, (sample, time, token, ids) = known("trajectory", video), step
    base = residuals("trajectory", step, conditioning)
    negative = known("trajectory", video | {"image": -video["image"]})
    changed = {
        "flow": residuals("trajectory", step, without_warp(conditioning)),
        "image": residuals("trajectory", step, negative),
        "sample": residuals("trajectory", (sample + 1, time, token, ids), conditioning),
    }
    for name, others in changed.items():
        for one, other in zip(base, others, strict=True):
            assert (one - other).abs().max() > 1e-4 * one.abs().max(), name
    later = residuals("trajectory", (sample, time - 1, token, ids), conditioning)
    assert torch.equal(base[0], later[0])  # made before the time enters
    assert (base[-1] - later[-1]).abs().max() > 1e-3 * base[-1].abs().max()


def test_the_coarsest_feature_enters_three_times(video, step):
    """Its effect cannot be undone at one place: taking it out of the middle leaves the rest."""
    conditioning = known("trajectory", video)
    zeroed = dataclasses.replace(
        conditioning, warped=(*conditioning.warped[:-1], torch.zeros_like(conditioning.warped[-1]))
    )
    with_it, without = (residuals("trajectory", step, c) for c in (conditioning, zeroed))
    changed = [not torch.equal(a, b) for a, b in zip(with_it, without, strict=True)]
    assert changed == [False] * 10 + [True] * 3  # after block 2, after block 3 and in the middle


# Landmarks and occlusion


def test_landmarks_steer_every_residual_and_occlusion_masks_are_shares(video, step):
    conditioning = known("landmark", video)
    masks = conditioning.occlusion  # per level and later frame
    assert [tuple(m.shape) for m in masks] == [(1, 2, 1, 8 >> k, 16 >> k) for k in range(4)]
    assert all(0 < m.min() and m.max() < 1 for m in masks)
    blank = known("landmark", video | {"landmarks": torch.zeros_like(video["landmarks"])})
    with_marks, without = (residuals("landmark", step, each) for each in (conditioning, blank))
    for one, other in zip(with_marks, without, strict=True):
        assert (one - other).abs().max() > 1e-3 * one.abs().max()


@torch.no_grad()
def test_an_occlusion_net_keeps_what_its_mask_covers_and_fills_the_rest():
    torch.manual_seed(0)
    net = OcclusionNet(6, (8, 8, 16, 8))
    torch.nn.init.zeros_(net.matting_mask.weight)
    still, flow, warped = random(2, 6, 5, 7), random(2, 2, 5, 7), random(2, 6, 5, 7, seed=1)
    fill = net.matting(net.hourglass(torch.cat([still, flow, warped], 1)))
    for bias, wanted in ((50.0, warped), (-150.0, fill), (0.0, (warped + fill) / 2)):
        torch.nn.init.constant_(net.matting_mask.bias, bias)
        out, mask = net(still, flow, warped)
        torch.testing.assert_close(out, wanted)
        assert mask.shape == (2, 1, 5, 7)
