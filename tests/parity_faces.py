"""Landmark images and landmark hints against the release's recorded numbers."""

import numpy as np
import torch
from parity_core import cases, moments

from mofa_nb.faces.draw import drawn_landmarks, landmark_hints, landmark_images, landmark_parts


def test_landmark_canvases_and_images_equal_the_release(golden):
    colours = np.array([[0, 0, 0], *(part["color"] for part in landmark_parts())], np.uint8)
    for _, data in cases(golden, "landmarks", "landmarks_xy"):
        landmarks, size = data["landmarks_xy"], tuple(data["HW"].tolist())
        drawn = colours[drawn_landmarks(landmarks, size)]
        np.testing.assert_array_equal(drawn, data["draw320_u8"])
        images = landmark_images(torch.from_numpy(landmarks), size).numpy()
        np.testing.assert_allclose(images[:, :, ::5, ::5], data["pose_strided5"], atol=1e-6)
        np.testing.assert_allclose(moments(images), data["pose_meanstd"], atol=1e-5)
    assert list(landmark_parts()) == golden.load_json("landmark_parts")


def test_landmark_hints_equal_the_release(golden):
    for _, data in cases(golden, "landmarks", "landmarks_xy"):
        landmarks, size = torch.from_numpy(data["landmarks_xy"]), tuple(data["HW"].tolist())
        for name, grid in (("full", size), ("s384", (384, 384))):
            assert tuple(data[f"{name}.shape"])[3] == grid[0]
            hints = landmark_hints(landmarks, size, grid)
            t, y, x = data[f"{name}.idx_tyx"].T
            found = torch.nonzero(hints.mask[:, 0]).tolist()
            assert found == sorted(data[f"{name}.idx_tyx"].tolist())
            flow = hints.flow.numpy()[t, :, y, x]
            np.testing.assert_allclose(flow, data[f"{name}.flow_xy"], atol=2e-5)
