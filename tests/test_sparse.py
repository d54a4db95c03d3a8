"""Paths become hints: the right displacement, at the right pixel of the grid, and nowhere else."""

import numpy as np
import pytest
import torch

from mofa_nb.checks import InputError
from mofa_nb.flow.sparse import (
    combine_brush,
    hints_from_flow,
    hints_from_paths,
    motion_hints,
)
from mofa_nb.motion.motion import Motion


def known_pixels(hints):
    """The (x, y) where the first frame's mask is set."""
    rows, columns = np.nonzero(hints.mask[0, 0].numpy())
    return list(zip(columns.tolist(), rows.tolist(), strict=True))


def test_a_hint_is_the_fractional_displacement_at_the_start_pixel():
    paths = torch.tensor([[[3.7, 2.2], [4.0, 2.0], [5.2, 0.7]]], dtype=torch.float64)
    hints = hints_from_paths(paths, (6, 8))
    assert known_pixels(hints) == [(3, 2)]
    expected = torch.tensor([[0.3, -0.2], [1.5, -1.5]])
    torch.testing.assert_close(hints.flow[:, :, 2, 3], expected)
    assert hints.flow.abs().sum() == hints.flow[:, :, 2, 3].abs().sum()


def test_paths_that_start_in_one_pixel_are_averaged():
    paths = torch.tensor([[[3.1, 2.0], [5.1, 2.0]], [[3.9, 2.5], [3.9, 6.5]]])
    hints = hints_from_paths(paths, (6, 8))
    torch.testing.assert_close(hints.flow[0, :, 2, 3], torch.tensor([1.0, 2.0]))
    assert hints.mask[0, 0, 2, 3] == 1


def test_a_pin_is_a_known_zero_and_an_empty_motion_gives_empty_hints():
    hints = motion_hints(Motion((8, 6), pins=[(4, 5)]), (6, 8), 4).outside
    assert known_pixels(hints) == [(4, 5)] and hints.mask.shape == (3, 1, 6, 8)
    assert not hints.flow.any() and not hints.is_empty
    none = motion_hints(Motion((8, 6)), (6, 8), 4).outside
    assert none.is_empty and none.flow.shape == (3, 2, 6, 8) and none.grid == (6, 8)


def test_motion_is_scaled_to_the_grid_along_each_axis():
    motion = Motion((80, 60), tracks=[[(40, 30), (60, 45)]])
    hints = motion_hints(motion, (6, 16), 2).outside
    assert known_pixels(hints) == [(8, 3)]
    torch.testing.assert_close(hints.flow[0, :, 3, 8], torch.tensor([4.0, 1.5]))


def test_starts_outside_the_grid_and_more_tracks_than_it_has_pixels_are_refused():
    with pytest.raises(InputError, match="track 2 starts at \\(8, 1\\), outside the 8x6"):
        hints_from_paths(torch.tensor([[[1.0, 1], [2, 2]], [[8.0, 1], [2, 2]]]), (6, 8))
    with pytest.raises(InputError, match=r"49 tracks and pins are more than .* \(48\)"):
        hints_from_paths(torch.zeros(49, 3, 2), (6, 8))


def test_hints_from_flow_keep_the_flow_at_the_points_only_be_it_zero():
    flow = torch.arange(48.0).view(1, 2, 4, 6).repeat(3, 1, 1, 1)
    hints = hints_from_flow(flow, torch.tensor([[5, 3], [0, 1]]))
    assert known_pixels(hints) == [(0, 1), (5, 3)]
    assert hints.flow[2, :, 3, 5].tolist() == [23, 47] and hints.flow[0].count_nonzero() == 4
    hints = hints_from_flow(torch.zeros(2, 2, 4, 6), torch.tensor([[2, 2]]))
    assert known_pixels(hints) == [(2, 2)]


def half_painted(width=16, height=12):
    brush = np.zeros((height, width), np.uint8)
    brush[:, : width // 2] = 255
    return brush


def test_the_brush_splits_tracks_by_where_they_start():
    motion = Motion((16, 12), [[(2, 2), (14, 2)], [(13, 5), (2, 5)]], [(1, 9)], half_painted())
    hints = motion_hints(motion, (12, 16), 3)
    assert known_pixels(hints.inside) == [(2, 2), (1, 9)]
    assert known_pixels(hints.outside) == [(13, 5)]
    assert hints.alpha.shape == (1, 12, 16)


def test_with_alpha_the_two_flows_are_blended():
    inside, outside = torch.full((1, 2, 1, 3), 4.0), torch.full((1, 2, 1, 3), -2.0)
    joined = combine_brush(inside, outside, torch.tensor([[[0.0, 0.5, 1.0]]]))
    assert joined[0, 0, 0].tolist() == [-2, 1, 4]
