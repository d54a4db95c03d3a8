"""Tracks, brush, resizing and colours against the release's recorded numbers."""

import json

import numpy as np
import torch
from parity_core import cases, kept

from mofa_nb.flow.resize import flow_pyramid, resize_antialiased, resize_flow
from mofa_nb.flow.sparse import brush_alpha, hints_from_paths, motion_hints, starts_on_brush
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.show import flow_to_rgb


def recorded_hints(data, prefix, frames, grid):
    """Dense (flow, mask) arrays [T-1, C, H, W] out of a recorded list of non-zero entries."""
    flow, mask = np.zeros((frames, 2, *grid)), np.zeros((frames, 1, *grid))
    t, y, x = data[f"{prefix}.idx_tyx"].reshape(-1, 3).T
    flow[t, :, y, x] = data[f"{prefix}.flow_xy"].reshape(-1, 2)
    mask[t, 0, y, x] = data[f"{prefix}.mask_values"]
    return flow, mask


def test_paths_are_the_releases_monotone_cubics(golden):
    for _, data in cases(golden, "trajectories", "n"):
        path = Track(data["points_xy"]).path(int(data["n"]))
        np.testing.assert_allclose(path, data["out_xy"], rtol=0, atol=1e-9)


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
    shared = golden.load("trajectory_to_flow")
    (width, height, frames), brush = shared["WHn"].tolist(), shared["brush384_strided4"]
    grid = (4 * len(brush),) * 2
    for _, data in cases(golden, "trajectory_to_flow", "tracks_json"):
        tracks = [Track(points) for points in json.loads(str(data["tracks_json"]))]
        motion = Motion((width, height), tuple(tracks), brush=shared["brush_u8"])
        hints = motion_hints(motion, grid, frames, as_released=True)
        np.testing.assert_allclose(255 * hints.alpha[0, ::4, ::4], brush, rtol=0, atol=1e-3)
        for part, ours in (("in", hints.inside), ("out", hints.outside)):
            flow, mask = recorded_hints(data, part, frames - 1, grid)
            np.testing.assert_array_equal(ours.flow.numpy(), flow)
            np.testing.assert_array_equal(ours.mask.numpy(), mask)


def test_clip_input_is_blurred_and_resized_as_released(golden):
    for name, data in cases(golden, "resize_and_pyramid", "HWS"):
        height, width, side = data["HWS"].tolist()
        tag = f"aa/{golden.split}/{name.removeprefix('aa')}"
        image = data.get("in", golden.rnd(tag, (1, 3, height, width), 0, 1))
        ours = resize_antialiased(torch.from_numpy(image), (side, side)).numpy()
        step = 1 if data["out"].shape[-1] == side else 5
        np.testing.assert_allclose(ours[..., ::step, ::step], data["out"], rtol=0, atol=1e-5)


def test_flow_pyramid_takes_every_sth_pixel_and_divides(golden):
    for name, data in cases(golden, "resize_and_pyramid", "THW"):
        frames, height, width = data["THW"].tolist()
        tag = f"pyr/{golden.split}/{name.removeprefix('pyr')}"
        made = golden.smooth_flow(tag, (1, frames, 2, height, width), 20)
        strides = sorted(int(key[1:]) for key in data if key[0] == "s")
        levels = flow_pyramid(torch.from_numpy(data.get("flow", made)), strides)
        assert strides
        for stride, ours in zip(strides, levels, strict=True):
            np.testing.assert_array_equal(ours.numpy(), data[f"s{stride}"])


def test_flow_goes_from_the_hint_grid_to_the_image_by_nearest_pixel(golden):
    for name, data in cases(golden, "resize_and_pyramid", "HW"):
        tag = f"fr/{golden.split}/{name.removeprefix('resize')}"
        flow = torch.from_numpy(golden.smooth_flow(tag, (1, 1, 2, 384, 384), 20))
        wanted, step = kept(data, "out")
        ours = resize_flow(flow, tuple(data["HW"].tolist()))[..., ::step, ::step].numpy()
        np.testing.assert_allclose(ours, wanted, rtol=1e-6, atol=1e-6)


def test_flow_colours_are_the_releases_when_each_frame_is_normalised_alone(golden):
    for name, data in cases(golden, "flow_viz", "flow"):
        flow = torch.from_numpy(data["flow"]).permute(2, 0, 1)
        before = flow.clone()
        ours = flow_to_rgb(flow, as_released=True).astype(int)
        difference = np.abs(ours - data["rgb"].astype(int))
        assert difference.max() <= 1, name
        np.testing.assert_array_equal(flow, before, "the caller's flow must not change")
