"""Dense flow of a clip: translations are found, occlusions seen, bad clips refused."""

import sys
import types

import numpy as np
import pytest
import torch

from mofa_nb.checks import InputError
from mofa_nb.flow import optical_flow
from mofa_nb.flow.optical_flow import (
    Learned,
    as_frames,
    clip_flow,
    clip_flows,
    estimator_input,
    estimator_output,
    visible,
)


def textured(rng, height=48, width=64):
    """A smooth random picture, uint8 [height, width, 3]."""
    cv2 = pytest.importorskip("cv2")
    coarse = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def panned(rng, steps=4, dx=2, dy=-1, height=48, width=64):
    """A window sliding over a picture, so that everything moves by (dx, dy) per frame."""
    big = textured(rng, height + 32, width + 32)
    tops = [16 - dy * t for t in range(steps)]
    lefts = [16 - dx * t for t in range(steps)]
    windows = [big[y : y + height, x : x + width] for y, x in zip(tops, lefts, strict=True)]
    return np.stack(windows)


@pytest.mark.parametrize("method", ["dis", "dis_fine", "dis_smooth"])
def test_a_pan_is_found_in_every_frame_counted_from_the_first_and_back(rng, method):
    asked = torch.tensor([[2.0, -1], [4, -2], [6, -3]])
    for flow, way in zip(clip_flows(panned(rng), method), (asked, -asked), strict=True):
        assert flow.shape == (3, 2, 48, 64) and flow.dtype == torch.float32
        inner = flow[:, :, 12:-12, 12:-12].mean((-2, -1))
        torch.testing.assert_close(inner, way, atol=0.1, rtol=0)


def test_large_frames_are_used_as_they_are(rng):
    clip = panned(rng, steps=2, dx=3, dy=0, height=400, width=416)
    inner = clip_flow(clip)[0, :, 20:-20, 20:-20].mean((-2, -1))
    torch.testing.assert_close(inner, torch.tensor([3.0, 0]), atol=0.05, rtol=0)


def test_a_still_clip_has_no_flow(rng):
    flow = clip_flow(np.stack([textured(rng)] * 3))
    assert flow.abs().max() == 0


def test_uint8_floats_and_lists_are_the_same_clip(rng):
    clip = panned(rng)
    expected = as_frames(clip)
    assert expected.shape == (4, 3, 48, 64)
    assert torch.equal(as_frames(list(clip)), expected)
    assert torch.equal(as_frames(torch.from_numpy(clip)), expected)
    assert torch.equal(as_frames(expected), expected)


def test_backward_flow_undoes_forward_flow_and_leaving_pixels_are_not_visible(rng):
    forward, backward = clip_flows(panned(rng, dx=5, dy=0))
    assert (forward + backward)[:, :, 12:-12, 20:-20].abs().max() < 0.3
    seen = visible(forward, backward)
    assert seen.shape == (3, 1, 48, 64)
    assert seen[2, 0, :, -14:].float().mean() < 0.02  # 15 px to the right is outside
    assert seen[2, 0, 4:-4, 4:-20].float().mean() > 0.98


def test_a_way_that_does_not_lead_back_is_not_visible():
    forward = torch.zeros(1, 2, 20, 20)
    forward[0, 0] = 4
    seen = visible(forward, -forward)[0, 0]
    assert seen[:, :15].all() and not seen[:, 16:].any()
    assert not visible(forward, torch.zeros_like(forward)).any()
    assert not visible(forward.fill_(torch.nan), -forward).any()


def test_any_function_can_be_the_estimator(rng):
    def halves(sources, targets):
        assert sources.shape == targets.shape == (3, 3, 48, 64)
        return torch.full((3, 2, 48, 64), 0.5)

    assert (clip_flow(panned(rng), method=halves) == 0.5).all()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((1, 32, 32, 3), np.uint8), "at least two frames, but 1 came"),
        ([], "two or more frames of one size, but .. came"),
        ([np.zeros((32, 32, 3), np.uint8)], r"two or more frames .* but .*32, 32, 3.* came"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 40, 3), np.uint8)], "one size, but"),
        (torch.full((2, 3, 32, 32), torch.nan), "the clip has NaN"),
        (torch.full((2, 3, 32, 32), 255.0), "lie in .0, 1., but 255"),
        (np.zeros((2, 8, 32, 3), np.uint8), "at least 16 px on a side"),
        (torch.zeros(2, 32, 32, 3), "a clip of floats must be .T, 3, H, W."),
        (np.zeros((32, 32, 3), np.uint8), "uint8 must be .T, H, W, 3."),
        ("clip.mp4", "uint8 .* or a float tensor .*, but str came"),
    ],
)
def test_a_clip_without_a_flow_is_refused_in_one_sentence(frames, words):
    with pytest.raises(InputError, match=words):
        clip_flow(frames)


def test_flow_of_a_portrait_comes_back_with_its_axes_in_place():
    assert estimator_input(torch.zeros(1, 3, 20, 10), (8, 16)).shape == (1, 3, 8, 16)
    flow = torch.zeros(1, 2, 8, 16)
    flow[:, 0] = 4  # along the long side: down, in a portrait of 20 x 10
    back = estimator_output(flow, (20, 10))
    assert back.shape == (1, 2, 20, 10)
    assert back[:, 0].abs().max() == 0 and torch.allclose(back[:, 1], torch.tensor(5.0))
    released = estimator_output(flow, (20, 10), as_released=True)
    assert torch.equal(released, back.flip(1))


class Shift(torch.nn.Module):
    """Stands for a network: says how far the red channel's brightest pixel went, everywhere."""

    def forward(self, inputs):
        images = inputs["images"]
        assert images.shape[:3] == (1, 2, 3) and images.min() >= 0
        red = images[0, :, 2].flatten(1).argmax(1)  # channels come blue first
        y, x = red // images.shape[-1], red % images.shape[-1]
        flow = torch.stack([x[1] - x[0], y[1] - y[0]]).float().view(1, 1, 2, 1, 1)
        return {"flows": flow.expand(1, 1, 2, *images.shape[-2:])}


@pytest.mark.parametrize("method", ["gmflow", "sea_raft", "unimatch"])
@pytest.mark.parametrize("height, width", [(48, 64), (64, 48), (40, 40)])
def test_learned_estimators_get_their_order_of_channels_and_size(
    method, height, width, monkeypatch
):
    monkeypatch.setattr(optical_flow, "_network", lambda *_: Shift())
    clip = torch.zeros(3, 3, height, width)
    for t in range(3):
        clip[t, 0, 10 + 2 * t, 20 + 5 * t] = 1.0
        clip[t, 2, 5, 5] = 1.0  # blue rests
    flow = clip_flow(clip, method)
    wanted = torch.tensor([[5.0, 2.0], [10.0, 4.0]])[..., None, None].expand(2, 2, height, width)
    torch.testing.assert_close(flow, wanted, atol=0.4, rtol=0)


BROKEN = types.SimpleNamespace(get_model=lambda *_, **__: 1 / 0)
RAFT = "torchvision.models.optical_flow"
LACKING = [  # estimator, its package, what stands in for that -> the sentence
    ("magic", "ptlflow", None, r"must be one of dis, .*raft, .*sea_raft, but 'magic'"),
    ("raft", RAFT, None, r"needs .*pip install torchvision.*method='dis'"),
    ("gmflow", "ptlflow", None, r"needs .*pip install \.\[flow\].*method='dis'"),
    ("sea_raft", "ptlflow", BROKEN, "the weights 'things' of sea_raft_m could not be"),
    (Learned("sea_raft_m", "sintle"), "ptlflow", BROKEN, "weights 'sintle' of sea_raft_m could"),
]


@pytest.mark.parametrize(("method", "package", "found", "sentence"), LACKING)
def test_an_estimator_that_cannot_be_had_is_told(
    method, package, found, sentence, rng, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, found)
    with pytest.raises(InputError, match=sentence):
        clip_flow(panned(rng), method)
