"""Tracks, brush, resizing and colours against the release's recorded numbers."""

import json
import re

import numpy as np
import pytest
import torch

from mofa_nb.flow.resize import flow_pyramid, resize_antialiased, resize_flow
from mofa_nb.flow.sparse import brush_alpha, hints_from_paths, motion_hints, starts_on_brush
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.show import flow_to_rgb


def cases(data, pattern):
    """The case names that stand before the first dot of keys matching `pattern`."""
    return sorted({match[1] for key in data if (match := re.match(pattern, key))})


def recorded_hints(data, prefix, frames, grid):
    """Dense (flow, mask) arrays [T-1, C, H, W] out of a recorded list of non-zero entries."""
    flow, mask = np.zeros((frames, 2, *grid)), np.zeros((frames, 1, *grid))
    t, y, x = data[f"{prefix}.idx_tyx"].reshape(-1, 3).T
    flow[t, :, y, x] = data[f"{prefix}.flow_xy"].reshape(-1, 2)
    mask[t, 0, y, x] = data[f"{prefix}.mask_values"]
    return flow, mask


def test_paths_are_the_releases_monotone_cubics(golden):
    data = golden.load("trajectories")
    names = cases(data, r"(interp\d+)\.")
    assert names
    for name in names:
        track = Track(data[f"{name}.points_xy"])
        path = track.path(int(data[f"{name}.n"]))
        np.testing.assert_allclose(path, data[f"{name}.out_xy"], rtol=0, atol=1e-9)


def test_hints_as_released_are_cut_to_whole_pixels_and_summed(golden):
    data = golden.load("trajectories")
    grid = data["divide.brush_u8"].shape
    paths = torch.from_numpy(data["sparse.tracks_xy"])
    hints = hints_from_paths(paths, grid, as_released=True)
    for name, sign in (("sparse0", 1), ("sparse1", -1)):  # the backward one mirrors the forward
        flow, mask = recorded_hints(data, name, paths.shape[1] - 1, grid)
        np.testing.assert_array_equal(sign * hints.flow.numpy(), flow)
        np.testing.assert_array_equal(hints.mask.numpy(), mask)


def test_tracks_split_at_the_brush_as_in_the_release(golden):
    data = golden.load("trajectories")
    paths = torch.from_numpy(data["sparse.tracks_xy"])
    alpha = torch.from_numpy(data["divide.brush_u8"] / np.float32(255))
    inside = starts_on_brush(paths, alpha, as_released=True)
    assert [int(inside.sum()), int((~inside).sum())] == data["divide.n_in_out"].tolist()
    np.testing.assert_array_equal(paths[inside][:, 0].numpy(), data["divide.in_first"])
    np.testing.assert_array_equal(paths[~inside][:, 0].numpy(), data["divide.out_first"])


def test_the_brush_is_resized_bilinearly(golden):
    data = golden.load("trajectories")
    wanted = data["brush_resize.out"]
    ours = brush_alpha(data["brush_resize.in_u8"], wanted.shape).numpy() * 255
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-4)


def test_clicks_become_the_releases_hints_inside_and_outside_the_brush(golden):
    data = golden.load("trajectory_to_flow")
    width, height, frames = data["WHn"].tolist()
    side = 4 * len(data["brush384_strided4"])
    grid = (side, side)
    for name in cases(data, r"(\w+)\.tracks_json"):
        tracks = [Track(points) for points in json.loads(str(data[f"{name}.tracks_json"]))]
        motion = Motion((width, height), tuple(tracks), brush=data["brush_u8"])
        hints = motion_hints(motion, grid, frames, as_released=True)
        np.testing.assert_allclose(
            255 * hints.alpha[0, ::4, ::4], data["brush384_strided4"], rtol=0, atol=1e-3
        )
        for part, ours in (("in", hints.inside), ("out", hints.outside)):
            flow, mask = recorded_hints(data, f"{name}.{part}", frames - 1, grid)
            np.testing.assert_array_equal(ours.flow.numpy(), flow)
            np.testing.assert_array_equal(ours.mask.numpy(), mask)


def test_clip_input_is_blurred_and_resized_as_released(golden):
    data = golden.load("resize_and_pyramid")
    names = cases(data, r"(aa\d+)\.")
    assert names
    for name in names:
        height, width, side = data[f"{name}.HWS"].tolist()
        tag = f"aa/{golden.split}/{name.removeprefix('aa')}"
        image = data.get(f"{name}.in", golden.rnd(tag, (1, 3, height, width), 0, 1))
        ours = resize_antialiased(torch.from_numpy(image), (side, side)).numpy()
        wanted = data[f"{name}.out"]
        step = 1 if wanted.shape[-1] == side else 5
        np.testing.assert_allclose(ours[..., ::step, ::step], wanted, rtol=0, atol=1e-5)


def recorded_flow(golden, data, name):
    """The full-size flow [1, T-1, 2, H, W] of a pyramid case, stored or made again."""
    frames, height, width = data[f"{name}.THW"].tolist()
    tag = f"pyr/{golden.split}/{name.removeprefix('pyr')}"
    made = golden.smooth_flow(tag, (1, frames, 2, height, width), 20)
    return torch.from_numpy(data.get(f"{name}.flow", made))


def recorded_strides(data, name):
    return sorted(int(key.split(".s")[1]) for key in data if key.startswith(f"{name}.s"))


def test_flow_pyramid_takes_every_sth_pixel_and_divides(golden):
    data = golden.load("resize_and_pyramid")
    names = cases(data, r"(pyr\d+)\.")
    assert names
    for name in names:
        strides = recorded_strides(data, name)
        levels = flow_pyramid(recorded_flow(golden, data, name), strides)
        assert strides
        for stride, ours in zip(strides, levels, strict=True):
            np.testing.assert_array_equal(ours.numpy(), data[f"{name}.s{stride}"])


def test_flow_goes_from_the_hint_grid_to_the_image_by_nearest_pixel(golden):
    data = golden.load("resize_and_pyramid")
    names = cases(data, r"(resize\d+)\.")
    assert names
    for name in names:
        size = tuple(data[f"{name}.HW"].tolist())
        tag = f"fr/{golden.split}/{name.removeprefix('resize')}"
        flow = torch.from_numpy(golden.smooth_flow(tag, (1, 1, 2, 384, 384), 20))
        key = next(k for k in data if k.startswith(f"{name}.out"))
        step = int(re.search(r"\d+$", key)[0])
        ours = resize_flow(flow, size)[..., ::step, ::step].numpy()
        np.testing.assert_allclose(ours, data[key], rtol=1e-6, atol=1e-6)


def test_flow_colours_are_the_releases_when_each_frame_is_normalised_alone(golden):
    data = golden.load("flow_viz")
    names = cases(data, r"(\w+)\.flow")
    assert names
    for name in names:
        flow = torch.from_numpy(data[f"{name}.flow"]).permute(2, 0, 1)
        before = flow.clone()
        ours = flow_to_rgb(flow, as_released=True).astype(int)
        difference = np.abs(ours - data[f"{name}.rgb"].astype(int))
        assert difference.max() <= 1, name
        np.testing.assert_array_equal(flow, before, "the caller's flow must not change")


@pytest.mark.parametrize("swap", ["axes", "bilinear"])
def test_swapped_axes_or_a_bilinear_pyramid_would_be_noticed(golden, swap):
    data = golden.load("resize_and_pyramid")
    name = cases(data, r"(pyr\d+)\.")[0]
    flow, stride = recorded_flow(golden, data, name), recorded_strides(data, name)[0]
    if swap == "axes":
        wrong = flow_pyramid(flow.flip(-3), [stride])[0]
    else:
        pooled = torch.nn.functional.avg_pool2d(flow.flatten(0, 1), stride)
        wrong = pooled.unflatten(0, flow.shape[:2]) / stride
    wanted = data[f"{name}.s{stride}"]
    assert np.abs(wrong.numpy() - wanted).max() > 0.1 * np.abs(wanted).max()
