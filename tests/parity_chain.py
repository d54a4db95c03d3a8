"""From clicks to decoded frames, and training's arithmetic, against the recorded numbers."""

import json
import re

import numpy as np
import pytest
import tiny
import torch
from parity_core import FLOW_GATE, case_names, moments, off_by, tensor

from mofa_nb.config import Settings
from mofa_nb.flow import optical_flow
from mofa_nb.flow.dense import dense_flow, grid_features
from mofa_nb.flow.sparse import motion_hints
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.sampling.denoise import (
    Control,
    decode,
    denoise_steps,
    encode_start,
    periodic_windows,
)
from mofa_nb.study.faces import window_counts
from mofa_nb.train import objective

CHAIN_GATE = 1e-3  # of the largest value
PIPELINES = {  # file -> the controls at work
    "pipeline_traj_tiny": "tracks",
    "pipeline_keypoint_tiny": "a face, in windows",
    "pipeline_hybrid_tiny": "a face inside a mask, tracks outside",
}


def test_every_recorded_file_is_checked(golden):
    topics = tiny.MANIFESTS.parent.glob("parity_*.py")
    words = set(re.findall(r'"(\w+)"', "".join(t.read_text(encoding="utf-8") for t in topics)))
    recorded = {file.stem for file in golden.folder.iterdir() if file.suffix in (".npz", ".json")}
    assert recorded - {"meta"} <= words


# Tracks to dense flow


def recorded_dense(data, case):
    """The recorded flow [T-1, 2, h, w] and the step between its pixels."""
    pattern = re.escape(case) + r"\.dense_flow_strided(\d+)"
    key, step = next((k, int(m[1])) for k in data if (m := re.fullmatch(pattern, k)))
    return data[key][0], step


def test_clicks_and_a_brush_become_the_releases_dense_flow(golden):
    data, net = golden.load("trajectory_to_flow"), tiny.released_s2d()
    width, height, frames = data["WHn"].tolist()
    first = golden.rnd(f"tp/first/{golden.split}", (1, 3, height, width), 0, 1)
    features, grid = grid_features(net, tensor(first)[0]), (net.config.grid,) * 2
    cases = case_names(data, r"\.tracks_json")
    assert cases
    for case in cases:
        tracks = tuple(Track(points) for points in json.loads(str(data[f"{case}.tracks_json"])))
        motion = Motion((width, height), tracks, brush=data["brush_u8"])
        hints = motion_hints(motion, grid, frames, as_released=True)
        ours = dense_flow(net, features, hints, (height, width), as_released=True)
        wanted, step = recorded_dense(data, case)
        strided = ours[..., ::step, ::step]
        np.testing.assert_allclose(strided, wanted, rtol=0, atol=FLOW_GATE, err_msg=case)
        np.testing.assert_allclose(moments(ours), data[f"{case}.dense_meanstd"], atol=FLOW_GATE)


# The sampling loop


def stock_scheduler():
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler.from_config(tiny.RELEASED_SCHEDULER)


def test_the_stock_scheduler_has_the_releases_noise_levels(golden):
    data = golden.load("scheduler")
    cases = case_names(data, r"\.sigmas")
    assert cases
    for case in cases:
        scheduler = stock_scheduler()
        scheduler.set_timesteps(len(data[f"{case}.timesteps"]))
        close = {"rtol": 1e-6, "atol": 1e-6}
        np.testing.assert_allclose(scheduler.sigmas, data[f"{case}.sigmas"], **close)
        np.testing.assert_allclose(scheduler.timesteps, data[f"{case}.timesteps"], **close)
        start = float(scheduler.init_noise_sigma)
        np.testing.assert_allclose(start, data[f"{case}.init_noise_sigma"], **close)


def test_the_stock_scheduler_takes_the_releases_steps(golden):
    data = golden.load("scheduler")
    scheduler = stock_scheduler()
    scheduler.set_timesteps(int(data["walk.n"]))
    sample = tensor(data["walk.x0"]) * scheduler.init_noise_sigma
    for k, time in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(sample, time)
        assert off_by(scaled, data[f"walk.scaled{k}"]) < 1e-6
        velocity = tensor(data[f"walk.v{k}"]) + 0.1 * scaled
        sample = scheduler.step(velocity, time, sample).prev_sample
        assert off_by(sample, data[f"walk.x{k + 1}"]) < 1e-6


def recorded_start(data, case):
    """Toy models, the encoded first frame, and the parameters of a recorded clip."""
    params = json.loads(str(data[f"{case}.params"]))
    models = tiny.models(noise_aug=params["aug"])
    image = tensor(data[f"{case}.image_u8"]).permute(2, 0, 1)[None].float() / 255
    noise = tensor(data[f"{case}.noise_image"]) if f"{case}.noise_image" in data else None
    assert (noise is None) == (params["aug"] == 0)
    return models, encode_start(models, image, noise), params


@torch.no_grad()
def recorded_controls(file, data, case, models, image, params):
    """The controls of a recorded clip, and its windows if it has some."""
    flow = tensor(data[f"{case}.flow"])
    if file == "pipeline_traj_tiny":
        adapter = models.adapter("trajectory")
        return [Control(adapter, adapter.conditioning(image, flow), params["scale"])], None
    face, marks = models.adapter("landmark"), tensor(data[f"{case}.landmarks"])
    known = face.reference(image, flow, marks)
    if file == "pipeline_keypoint_tiny":
        shape = (params["F"], params["win"], params["stride"])
        return [Control(face, known, params["scale"])], periodic_windows(*shape, as_released=True)
    tracks, mask = models.adapter("trajectory"), tensor(data[f"{case}.mask"])
    drawn = tracks.conditioning(image, tensor(data[f"{case}.drag_flow"]))
    inside = Control(face, known, params["sl"], mask)
    return [inside, Control(tracks, drawn, params["scale"], 1 - mask)], None


def check_start(data, case, models, start):
    """Hold the encoded first frame to its recording."""
    np.testing.assert_allclose(
        moments(start.image), data[f"{case}.preprocessed_meanstd"], rtol=0, atol=1e-5
    )
    clean = encode_start(models, (start.image + 1) / 2)
    for ours, name in (
        (start.embedding, "image_embeddings"),
        (clean.latents, "image_latents_noaug"),
    ):
        free, steered = data[f"{case}.{name}"]
        assert not free.any() and off_by(ours[0], steered) < CHAIN_GATE


@pytest.mark.parametrize("file", PIPELINES)
def test_first_frame_every_denoising_step_and_the_decoded_clip_equal_the_release(golden, file):
    data = golden.load(file)
    cases = case_names(data, r"\.params")
    assert cases
    for case in cases:
        models, start, params = recorded_start(data, case)
        check_start(data, case, models, start)
        controls, windows = recorded_controls(file, data, case, models, start.image, params)
        chosen = {"steps": params["steps"], "guidance": Settings().guidance, "windows": windows}
        noise = tensor(data[f"{case}.latents0"])
        seen = [s.latents for s in denoise_steps(models, start, controls, noise, **chosen)]
        assert len(seen) == params["steps"]
        for k, latents in enumerate(seen):
            assert off_by(latents, data[f"{case}.step{k}"]) < CHAIN_GATE, (case, k)
        assert off_by(seen[-1], data[f"{case}.final"]) < CHAIN_GATE
        frames = torch.cat(list(decode(models, seen[-1]))).transpose(0, 1)[None]
        assert off_by(frames, data[f"{case}.decoded"]) < CHAIN_GATE


@pytest.mark.parametrize("file", PIPELINES)
def test_clips_with_the_demos_fault_equal_the_demos(golden, file):
    data, faulty = golden.load(file), golden.load("legacy_diffusers024_batch2")
    name = file.removesuffix("_tiny")
    for case in case_names(data, r"\.params"):
        models, start, params = recorded_start(data, case)
        controls, windows = recorded_controls(file, data, case, models, start.image, params)
        chosen = {"steps": params["steps"], "guidance": Settings().guidance, "windows": windows}
        noise = tensor(data[f"{case}.latents0"])
        seen = list(denoise_steps(models, start, controls, noise, as_released=True, **chosen))
        for step, number in ((seen[0], "step0"), (seen[-1], "final")):
            wanted = faulty[f"{name}.{case}.{number}"]
            assert off_by(step.latents, wanted) < CHAIN_GATE, (case, number)
            assert off_by(data[f"{case}.{number}"], wanted) > 5 * CHAIN_GATE


def test_windows_over_long_clips_are_the_releases(golden):
    recorded = golden.load_json("periodic_views")
    assert recorded
    for case in recorded:
        shape = (case["num_frames"], case["window"], case["stride"])
        windows = periodic_windows(*shape, as_released=True)
        assert [[w.start, w.stop] for w in windows] == case["views_half_open"]
        assert window_counts(windows, case["num_frames"]) == case["contributions_per_frame"]


# Training's arithmetic


def test_noise_levels_for_training_follow_the_releases_schedule(golden):
    data = golden.load("training_math")
    ours = objective.sigma(tensor(data["sigma.u"]).double())
    np.testing.assert_allclose(ours, data["sigma.sigma"], rtol=5e-5)
    recorded = data["sigma.batch4_u05"]
    ours = objective.sigma(objective.spread(torch.full((len(recorded),), 0.5)))
    np.testing.assert_allclose(ours, recorded, rtol=1e-5)


def test_one_training_step_has_the_releases_numbers(golden):
    data = {k.removeprefix("step."): v for k, v in golden.load("training_math").items()}
    names = ("latents", "noise", "model_pred", "sigmas")
    latents, noise, prediction, sigmas = (tensor(data[name]) for name in names)
    noisy, model_input, timestep = objective.add_noise(latents, noise, sigmas)
    losses = objective.loss(prediction, noisy, latents, sigmas)
    checks = {
        "model_input_noisy_half": model_input,
        "c_noise": timestep,
        "denoised": objective.denoised(prediction, noisy, sigmas),
        "loss_per_sample": losses,
        "loss": losses.mean(),
    }
    for name, ours in checks.items():
        np.testing.assert_allclose(ours, data[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_conditions_are_dropped_for_the_releases_shares(golden):
    data = golden.load("training_math")
    keep_embedding, keep_image = objective.condition_dropout(tensor(data["drop.p"]))
    np.testing.assert_array_equal(keep_embedding, ~data["drop.embed_dropped"])
    np.testing.assert_array_equal(keep_image.float(), data["drop.image_kept"])


def test_frames_and_flow_are_resized_around_the_estimator_as_in_the_release(golden):
    data = golden.load("training_math")
    cases = case_names(data, r"\.HW")
    assert cases
    for case in cases:
        number, size = case.removeprefix("um"), tuple(data[f"{case}.HW"].tolist())
        assert (size[0] > size[1]) == bool(data[f"{case}.transposed"])
        frames = tensor(golden.rnd(f"um/{golden.split}/{number}", (1, 3, *size), 0, 255))
        working = tuple(data[f"{case}.in_shape"].tolist())
        prepared = optical_flow.estimator_input(frames, working[2:])
        assert tuple(prepared.shape) == working
        shape = (1, 2, *working[2:])
        flow = tensor(golden.smooth_flow(f"umf/{golden.split}/{number}", shape, 15))
        back = optical_flow.estimator_output(flow, size, as_released=True)
        assert tuple(back.shape) == tuple(data[f"{case}.flow_out_shape"])
        for name, ours in (("in", prepared), ("flow_out", back)):
            pattern = re.escape(f"{case}.{name}") + r"_strided(\d+)"
            key, step = next((k, int(m[1])) for k in data if (m := re.fullmatch(pattern, k)))
            strided = ours[..., ::step, ::step]
            np.testing.assert_allclose(strided, data[key], rtol=1e-5, atol=1e-4, err_msg=key)
