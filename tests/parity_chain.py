"""From clicks to decoded frames, and training's arithmetic, against the recorded numbers."""

import json
import re

import numpy as np
import pytest
import tiny
import torch
from parity_core import FLOW_GATE, cases, kept, moments, off_by, tensor

from mofa_nb.config import Settings
from mofa_nb.flow import optical_flow
from mofa_nb.flow.dense import dense_flow, grid_features
from mofa_nb.flow.sparse import motion_hints
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.sampling import denoise
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


def test_clicks_and_a_brush_become_the_releases_dense_flow(golden):
    shared, net = golden.load("trajectory_to_flow"), tiny.released_s2d()
    width, height, frames = shared["WHn"].tolist()
    first = golden.rnd(f"tp/first/{golden.split}", (1, 3, height, width), 0, 1)
    features, grid = grid_features(net, tensor(first)[0]), (net.config.grid,) * 2
    for case, data in cases(golden, "trajectory_to_flow", "tracks_json"):
        tracks = tuple(Track(points) for points in json.loads(str(data["tracks_json"])))
        motion = Motion((width, height), tracks, brush=shared["brush_u8"])
        hints = motion_hints(motion, grid, frames, as_released=True)
        ours = dense_flow(net, features, hints, (height, width), as_released=True)
        wanted, step = kept(data, "dense_flow")
        strided = ours[..., ::step, ::step]
        np.testing.assert_allclose(strided, wanted[0], rtol=0, atol=FLOW_GATE, err_msg=case)
        np.testing.assert_allclose(moments(ours), data["dense_meanstd"], atol=FLOW_GATE)


# The sampling loop


def test_the_stock_scheduler_has_the_releases_noise_levels(golden):
    for _, data in cases(golden, "scheduler", "sigmas"):
        scheduler = tiny.models().scheduler
        scheduler.set_timesteps(len(data["timesteps"]))
        for name in ("sigmas", "timesteps", "init_noise_sigma"):
            ours = np.asarray(getattr(scheduler, name))
            np.testing.assert_allclose(ours, data[name], rtol=1e-6, atol=1e-6)


def test_the_stock_scheduler_takes_the_releases_steps(golden):
    data = golden.load("scheduler")
    scheduler = tiny.models().scheduler
    scheduler.set_timesteps(int(data["walk.n"]))
    sample = tensor(data["walk.x0"]) * scheduler.init_noise_sigma
    for k, time in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(sample, time)
        assert off_by(scaled, data[f"walk.scaled{k}"]) < 1e-6
        velocity = tensor(data[f"walk.v{k}"]) + 0.1 * scaled
        sample = scheduler.step(velocity, time, sample).prev_sample
        assert off_by(sample, data[f"walk.x{k + 1}"]) < 1e-6


def recorded_start(data):
    """Toy models, the encoded first frame, and the parameters of a recorded clip."""
    params = json.loads(str(data["params"]))
    models = tiny.models(noise_aug=params["aug"])
    image = tensor(data["image_u8"]).permute(2, 0, 1)[None].float() / 255
    noise = tensor(data["noise_image"]) if "noise_image" in data else None
    assert (noise is None) == (params["aug"] == 0)
    return models, denoise.encode_start(models, image, noise), params


@torch.no_grad()
def recorded_controls(file, data, models, image, params):
    """The controls of a recorded clip, and its windows if it has some."""
    flow = tensor(data["flow"])
    if file == "pipeline_traj_tiny":
        adapter = models.adapter("trajectory")
        return [denoise.Control(adapter, adapter.conditioning(image, flow), params["scale"])], None
    face, marks = models.adapter("landmark"), tensor(data["landmarks"])
    known = face.reference(image, flow, marks)
    if file == "pipeline_keypoint_tiny":
        shape = (params["F"], params["win"], params["stride"])
        windows = denoise.periodic_windows(*shape, as_released=True)
        return [denoise.Control(face, known, params["scale"])], windows
    tracks, mask = models.adapter("trajectory"), tensor(data["mask"])
    drawn = tracks.conditioning(image, tensor(data["drag_flow"]))
    inside = denoise.Control(face, known, params["sl"], mask)
    return [inside, denoise.Control(tracks, drawn, params["scale"], 1 - mask)], None


def denoised(file, data, **how):
    """The latents of every step of a recorded clip, its models and its encoded first frame."""
    models, start, params = recorded_start(data)
    controls, windows = recorded_controls(file, data, models, start.image, params)
    chosen = {"steps": params["steps"], "guidance": Settings().guidance, "windows": windows}
    noise = tensor(data["latents0"])
    steps = denoise.denoise_steps(models, start, controls, noise, **chosen, **how)
    seen = [step.latents for step in steps]
    assert len(seen) == params["steps"]
    return seen, models, start


def check_start(data, models, start):
    """Hold the encoded first frame to its recording."""
    wanted = data["preprocessed_meanstd"]
    np.testing.assert_allclose(moments(start.image), wanted, rtol=0, atol=1e-5)
    clean = denoise.encode_start(models, (start.image + 1) / 2)
    for ours, name in (
        (start.embedding, "image_embeddings"),
        (clean.latents, "image_latents_noaug"),
    ):
        free, steered = data[name]
        assert not free.any() and off_by(ours[0], steered) < CHAIN_GATE


@pytest.mark.parametrize("file", PIPELINES)
def test_first_frame_every_denoising_step_and_the_decoded_clip_equal_the_release(golden, file):
    for case, data in cases(golden, file, "params"):
        seen, models, start = denoised(file, data)
        check_start(data, models, start)
        for k, latents in enumerate(seen):
            assert off_by(latents, data[f"step{k}"]) < CHAIN_GATE, (case, k)
        assert off_by(seen[-1], data["final"]) < CHAIN_GATE
        frames = torch.cat(list(denoise.decode(models, seen[-1]))).transpose(0, 1)[None]
        assert off_by(frames, data["decoded"]) < CHAIN_GATE


@pytest.mark.parametrize("file", PIPELINES)
def test_clips_with_the_demos_fault_equal_the_demos(golden, file):
    faulty = golden.load("legacy_diffusers024_batch2")
    for case, data in cases(golden, file, "params"):
        seen, *_ = denoised(file, data, as_released=True)
        for latents, number in ((seen[0], "step0"), (seen[-1], "final")):
            wanted = faulty[f"{file.removesuffix('_tiny')}.{case}.{number}"]
            assert off_by(latents, wanted) < CHAIN_GATE, (case, number)
            assert off_by(data[number], wanted) > 5 * CHAIN_GATE


def test_windows_over_long_clips_are_the_releases(golden):
    recorded = golden.load_json("periodic_views")
    assert recorded
    for case in recorded:
        shape = (case["num_frames"], case["window"], case["stride"])
        windows = denoise.periodic_windows(*shape, as_released=True)
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
    ((_, data),) = cases(golden, "training_math", "model_pred")
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
    for case, data in cases(golden, "training_math", "HW"):
        number, size = case.removeprefix("um"), tuple(data["HW"].tolist())
        assert (size[0] > size[1]) == bool(data["transposed"])
        frames = tensor(golden.rnd(f"um/{golden.split}/{number}", (1, 3, *size), 0, 255))
        working = tuple(data["in_shape"].tolist())
        prepared = optical_flow.estimator_input(frames, working[2:])
        assert tuple(prepared.shape) == working
        shape = (1, 2, *working[2:])
        flow = tensor(golden.smooth_flow(f"umf/{golden.split}/{number}", shape, 15))
        back = optical_flow.estimator_output(flow, size, as_released=True)
        assert tuple(back.shape) == tuple(data["flow_out_shape"])
        for name, ours in (("in", prepared), ("flow_out", back)):
            wanted, step = kept(data, name)
            strided = ours[..., ::step, ::step]
            np.testing.assert_allclose(strided, wanted, rtol=1e-5, atol=1e-4, err_msg=case)
