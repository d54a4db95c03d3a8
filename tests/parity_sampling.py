"""Recorded draws of the release's hint sampler; collected by test_parity.py."""

import json

import numpy as np
import torch
from parity_core import cases

from mofa_nb.flow import samplers


def sampling_cases(golden):
    """(parameters, flow [2, H, W], recorded arrays by short name) of every recorded case."""
    for name, arrays in cases(golden, "sparse_sampling", "params"):
        params = json.loads(str(arrays["params"]))
        flow = arrays["flow"].transpose(2, 0, 1)
        if flow.shape[1:] != (params["H"], params["W"]):
            size = (2, params["H"], params["W"])
            whole = golden.smooth_flow(f"ws/{golden.split}/{name}", size, 12)
            assert np.array_equal(whole[:, ::8, ::8], flow)
            flow = whole
        yield params, torch.from_numpy(flow), arrays


def same_points(points, recorded):
    """Whether points (x, y) are the recorded (y, x); an empty list was recorded without columns."""
    return np.array_equal(points.numpy()[:, ::-1], np.reshape(recorded, (-1, 2)))


def test_grid_and_watershed_repeat_the_recorded_draw_alone_and_together(golden):
    for params, flow, arrays in sampling_cases(golden):
        how = {"stride": int(np.sqrt(1 / params["bg_ratio"]))}
        assert same_points(samplers.grid_points(flow, **how), arrays["grid_yx"]), params
        stream, alone = (np.random.RandomState(params["seed"]) for _ in range(2))
        points = samplers.watershed_points(flow, alone, window=params["nms_ks"])
        assert same_points(points, arrays["watershed_yx"]), params
        points = samplers.sample_points(flow, stream, window=params["nms_ks"], **how)
        assert same_points(points, arrays["points_yx"]), params
        assert stream.random_sample() == arrays["rng_after"], params


def test_edge_map_and_distances_have_the_recorded_statistics(golden):
    for params, flow, arrays in sampling_cases(golden):
        shrink, edges = samplers.motion_edges(flow)
        assert shrink == params["ds"]
        statistics = [edges.mean(), edges.std()]
        np.testing.assert_allclose(statistics, arrays["edge_meanstd"], rtol=1e-5, atol=1e-7)
        distance = samplers.edge_distance(edges)
        if edges.any():  # without an edge the recorded distances have no meaning
            statistics = [distance.mean(), distance.max()]
            np.testing.assert_allclose(statistics, arrays["dist_meanmax"], rtol=1e-9)


def test_neighbour_elimination_alone_is_exact(golden):
    recorded = golden.load("sparse_sampling")
    candidates = np.stack([recorded["elim.ph"], recorded["elim.pw"]], -1)
    stream = np.random.RandomState(int(recorded["elim.seed"]))
    kept = samplers.eliminate_neighbours(candidates, 15, stream)
    assert np.array_equal(kept, np.reshape(recorded["elim.out"], (-1, 2)))
