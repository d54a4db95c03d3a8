"""The MOFA-Adapter: what it begins as, and how it warps; its numbers are in parity_core."""

import dataclasses

import pytest
import tiny
import torch
from tiny import random

from mofa_nb.adapter.adapter import Adapter
from mofa_nb.checks import InputError
from mofa_nb.config import AdapterConfig
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
def test_without_warp_features_are_those_of_zero_flow():
    image, flow = random(1, 3, 64, 128).tanh(), 6 * random(1, 2, 2, 64, 128, seed=1)
    condition = tiny.adapter("trajectory").conditioning
    still, ablated = condition(image, 0 * flow), without_warp(condition(image, flow))
    for moved, copied in zip(still.warped, ablated.warped, strict=True):
        torch.testing.assert_close(moved, copied, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "marks"), [("trajectory", 3), ("landmark", None)])
def test_landmarks_are_for_landmark_adapters_only(kind, marks):
    landmarks = marks and torch.zeros(1, 3, marks, 64, 64)
    with pytest.raises(ValueError, match="landmark adapter needs landmark images"):
        tiny.adapter(kind).conditioning(random(1, 3, 64, 64), random(1, 2, 2, 64, 64), landmarks)


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
