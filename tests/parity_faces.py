"""Landmark images and landmark hints against the release's recorded numbers."""

import re

import numpy as np
import torch

from mofa_nb.faces.draw import drawn_landmarks, landmark_hints, landmark_images, landmark_parts


def cases(data):
    """The case names that stand before the first dot."""
    return sorted({match[1] for key in data if (match := re.match(r"(.+)\.landmarks_xy", key))})


def sized(data, case):
    """Landmarks [T, 68, 2] and (H, W) of a case."""
    height, width = (int(side) for side in data[f"{case}.HW"])
    return data[f"{case}.landmarks_xy"], (height, width)


def test_landmark_canvases_and_images_equal_the_release(golden):
    data = golden.load("landmarks")
    assert cases(data)
    colours = np.array([[0, 0, 0], *(part["color"] for part in landmark_parts())], np.uint8)
    for case in cases(data):
        landmarks, size = sized(data, case)
        drawn = colours[drawn_landmarks(landmarks, size)]
        np.testing.assert_array_equal(drawn, data[f"{case}.draw320_u8"])
        images = landmark_images(torch.from_numpy(landmarks), size).numpy()
        recorded = data[f"{case}.pose_strided5"]
        np.testing.assert_allclose(images[:, :, ::5, ::5], recorded, atol=1e-6)
        moments = (images.mean(dtype=np.float64), images.std(dtype=np.float64))
        np.testing.assert_allclose(moments, data[f"{case}.pose_meanstd"], atol=1e-5)
    assert list(landmark_parts()) == golden.load_json("landmark_parts")


def test_landmark_hints_equal_the_release(golden):
    data = golden.load("landmarks")
    for case in cases(data):
        landmarks, size = sized(data, case)
        for name in ("full", "s384"):
            shape = tuple(data[f"{case}.{name}.shape"])
            side = int(name[1:]) if name != "full" else None
            grid = size if side is None else (side, side)
            assert shape[3] == grid[0]
            hints = landmark_hints(torch.from_numpy(landmarks), size, grid)
            t, y, x = data[f"{case}.{name}.idx_tyx"].T
            found = torch.stack(torch.nonzero(hints.mask[:, 0], as_tuple=True)).numpy()
            np.testing.assert_array_equal(sorted(zip(*found)), sorted(zip(t, y, x)))  # noqa: B905
            flow = hints.flow.numpy()[t, :, y, x]
            np.testing.assert_allclose(flow, data[f"{case}.{name}.flow_xy"], atol=2e-5)
