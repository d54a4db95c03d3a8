"""Training stages: each learns, stores its parts, and refuses what it cannot use."""

import copy
import dataclasses
import json
import math
from pathlib import Path

import pytest
import tiny
import torch
from tiny import random, seeded
from torch import nn
from train_hands import job_for, loss_for, sums

from mofa_nb.adapter.adapter import Adapter
from mofa_nb.checks import InputError
from mofa_nb.clips.footage.bank import open_bank, save_bank
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.models import weights
from mofa_nb.models.load import load_models
from mofa_nb.sampling.denoise import encode_start
from mofa_nb.train import __main__ as command
from mofa_nb.train.loop import Stopped, Trainer
from mofa_nb.train.parts import open_parts, save_memory
from mofa_nb.train.sources import open_source
from mofa_nb.train.stages import STAGES
from mofa_nb.train.video import (
    Core,
    VideoLoss,
    busy_places,
    cut,
    encode_clips,
    image_token,
    mask_loss,
    prepare_clips,
    start_as,
    start_as_unet,
    stir_zero_convolutions,
    uncovered_share,
)


@pytest.fixture(scope="module")
def models(toy_folder):
    """It, loaded in float32."""
    return load_models(toy_folder, "cpu", tiny.FLOAT32)


def test_an_awake_adapter_has_no_zero_convolution_left():
    net = weights.build("trajectory_adapter", tiny.FOLDER["trajectory_adapter"])
    silent = [m for m in net.modules() if isinstance(m, nn.Conv2d) and not m.weight.any()]
    stir_zero_convolutions(net)
    assert len(silent) > 10 and all(m.weight.any() for m in silent)


def test_clips_smaller_than_what_is_trained_on_are_refused_before_anything_is_made(tmp_path, bank):
    whole = open_bank(bank)
    small = {"clips": torch.zeros(1, 4, 3, 32, 48, dtype=torch.uint8)}
    save_bank(dataclasses.replace(whole, **small), tmp_path / "small.pt")
    job = job_for("video", tmp_path, tmp_path / "small.pt", clips_share=0.1)
    with pytest.raises(InputError, match=r"crops of 64x64 need clips .*as large"):
        open_source(job)
    assert open_source(dataclasses.replace(job, clips_share=0.0))


def test_a_face_network_begins_as_the_one_for_tracks(tmp_path, bank):
    model = tiny.write_folder(tmp_path, [name for name in tiny.FOLDER if name != "landmark_s2d"])
    parts = open_parts(model, STAGES["landmark_s2d"].parts, from_scratch=["landmark_s2d"])
    assert sums(parts["landmark_s2d"]) != sums(parts["s2d"])
    loss_for(job_for("landmark_s2d", model, bank), parts)
    assert sums(parts["landmark_s2d"]) == sums(parts["s2d"])


@pytest.mark.parametrize(
    "stage, turns, made", [("landmark", 1, {"landmark_s2d"}), ("joint", 2, {"s2d", "landmark_s2d"})]
)
def test_landmarks_are_made_dense_by_the_face_network_and_tracks_by_the_other(
    stage, turns, made, tmp_path, bank
):
    model, asked = tiny.write_folder(tmp_path), []
    parts = open_parts(model, STAGES[stage].opened(model))
    for name in ("s2d", "landmark_s2d"):
        parts[name].register_forward_hook(lambda *_, name=name: asked.append(name))
    loss = loss_for(job_for(stage, model, bank, s2d_share=1.0), parts)
    for turn in range(turns):
        loss(turn)
    assert set(asked) == made and len(asked) == turns


@torch.no_grad()
def test_training_sees_pictures_as_they_are_used_later(models):
    """The same token and image latents as at inference; scaled clip latents."""
    frames = torch.rand(2, 3, 3, 64, 64, generator=seeded())
    quiet = dataclasses.replace(models.settings, noise_aug=0.0)
    clips = encode_clips(models.vae, frames, quiet)
    tokens = image_token(models.image_encoder, frames[:, 0])
    for k in range(2):
        start = encode_start(models, frames[k : k + 1, 0])
        torch.testing.assert_close(tokens[k : k + 1], start.embedding)
        torch.testing.assert_close(clips["image_latents"][k : k + 1], start.latents.half())
    wanted = models.vae.config.scaling_factor * clips["image_latents"].float()
    torch.testing.assert_close(clips["latents"][:, 0].float(), wanted, rtol=2e-3, atol=2e-3)
    torch.manual_seed(0)
    noisy = encode_clips(models.vae, frames, models.settings)
    assert torch.equal(noisy["latents"], clips["latents"])
    assert not torch.equal(noisy["image_latents"], clips["image_latents"])


@torch.no_grad()
def test_a_sample_that_is_not_kept_runs_free_and_a_kept_one_does_not(models):
    adapter = copy.deepcopy(models.adapter("trajectory"))
    stir_zero_convolutions(adapter)
    known = adapter.conditioning(random(2, 3, 64, 64), random(2, 2, 2, 64, 64))
    ids = torch.tensor([models.settings.time_ids] * 2)
    inputs = (random(2, 3, 8, 16, 16), random(2), random(2, 1, 16), ids)
    out = Core(adapter, models.unet)(*inputs, torch.tensor([0.0, 1.0]), *known.warped)
    free = models.unet(*inputs)
    steered = models.unet(*inputs, adapter(*inputs, known))
    torch.testing.assert_close(out, torch.stack([free[0], steered[1]]), rtol=1e-4, atol=1e-5)
    assert (free - steered).abs().max() > 1e-3


@torch.no_grad()
def test_a_landmark_adapter_begins_as_the_trajectory_adapter(models):
    """The same residuals but for the first frame, whose coarse features skip a convolution."""
    torch.manual_seed(0)
    trajectory = copy.deepcopy(models.adapter("trajectory"))
    stir_zero_convolutions(trajectory)
    config = dataclasses.replace(trajectory.config, landmark_channels=(4, 8, 16))
    landmark = Adapter(dataclasses.replace(config, occlusion_channels=(8, 16, 16, 8)))
    start_as(landmark, trajectory)
    image, flow = torch.rand(1, 3, 64, 64), 4 * torch.randn(1, 2, 2, 1, 1).expand(1, 2, 2, 64, 64)
    known = trajectory.conditioning(image, flow)
    marked = landmark.conditioning(image, flow, torch.rand(1, 3, 3, 64, 64))
    assert not marked.landmarks.any()
    for warped, filled in zip(known.warped, marked.warped, strict=True):
        change = (warped - filled)[:, 1:].abs().mean() / warped[:, 1:].abs().mean()
        assert change < 0.15
    stir_zero_convolutions(landmark)
    assert landmark.conditioning(image, flow, torch.rand(1, 3, 3, 64, 64)).landmarks.any()


def test_a_part_of_the_grid_covers_the_same_picture_at_every_level():
    def map_of(side):
        """Each cell holds the picture's place of its upper left corner, in pixels of 32."""
        row = torch.arange(0, 32, 32 // side).float()
        return torch.stack(torch.meshgrid(row, row, indexing="ij")).expand(3, 2, side, side)

    places = torch.tensor([[0, 0], [8, 16], [16, 8]])
    levels = [cut(map_of(side), places, cells=16, grid=32) for side in (32, 8, 4)]
    assert [level.shape[-2:] for level in levels] == [(16, 16), (4, 4), (2, 2)]
    for level in levels:
        assert torch.equal(level[:, :, 0, 0], places.float())


def test_the_part_is_where_something_moves_or_is_uncovered():
    latents, uncovered = torch.zeros(2, 3, 4, 32, 32), torch.zeros(1, 2, 1, 32, 32)
    latents[0, 2, :, 2:6, 26:30] = 1
    latents[1, 1, :, 25:28, 9:12] = 1
    for _ in range(5):
        places = busy_places(latents, 16, 8)
        assert places.tolist() == [[0, 16], [16, places[1, 1]]] and places[1, 1] in (0, 8)
    uncovered[0, 1, :, 28:, :4] = 1
    torch.manual_seed(0)
    drawn = [tuple(busy_places(latents[:1], 16, 8, uncovered)[0].tolist()) for _ in range(40)]
    assert set(drawn) == {(0, 16), (16, 0)} and 8 < drawn.count((16, 0)) < 32


@torch.no_grad()
def test_a_part_of_a_window_is_what_the_whole_window_shows_there(models):
    adapter, places = models.adapter("trajectory"), torch.tensor([[8, 0], [0, 8]])
    image, flow = torch.rand(2, 3, 64, 64), 6 * torch.randn(2, 2, 2, 64, 64)
    stir_zero_convolutions(adapter)
    reference, grid = adapter.reference(image, flow), 64 // adapter.config.strides[0]
    part = lambda whole: cut(whole, places, 8, grid)  # noqa: E731
    whole = adapter.window(reference, range(3))
    known = adapter.window(reference, range(3), part)
    for level, small in zip(whole.warped, known.warped, strict=True):
        assert small.any() and torch.equal(part(level), small)


def test_masks_learn_to_close_where_a_moving_square_uncovers_the_picture():
    flow, visible = torch.zeros(1, 1, 2, 16, 16), torch.ones(1, 1, 1, 16, 16, dtype=torch.bool)
    flow[..., 0, 4:8, 4:8] = 4.0
    visible[..., 4:8, 8:12] = False  # the background that the square hides
    visible[..., 12:, :4] = False  # a surface that turns away: something new is seen there
    share = uncovered_share(flow, visible, 4)
    wanted = torch.zeros(4, 4)
    wanted[1, 1] = wanted[3, 0] = 1
    torch.testing.assert_close(share[0, 0, 0], wanted)
    uncovered = torch.zeros(1, 2, 1, 8, 8)
    uncovered[..., :4] = 1
    right = 1 - uncovered
    coarse = right[..., ::2, ::2]
    assert mask_loss((right, coarse), uncovered) < 1e-3 < mask_loss((coarse * 0 + 0.9,), uncovered)


def test_parts_come_from_their_weights_where_there_are_some(tmp_path):
    tiny.write_folder(tmp_path, ["s2d"])
    torch.manual_seed(5)
    once, again = (open_parts(tmp_path, ["s2d"])["s2d"] for _ in range(2))
    name = "trajectory_adapter"
    fresh = open_parts(tmp_path, [name], from_scratch=[name])[name]
    with pytest.raises(InputError, match=f"{name} has no weights: .*--from-scratch {name}"):
        open_parts(tmp_path, [name], from_scratch=["s2d"])
    assert sums(once) == sums(again)
    assert not any(p.requires_grad for p in fresh.parameters()) and not fresh.training


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_few_steps_of_a_stage_lower_its_loss(stage, tmp_path, bank):
    job = job_for(stage, tiny.write_configs(tmp_path), bank, s2d_share=0.5)
    if stage == "trajectory":  # the other way to warp, and to teach
        job = dataclasses.replace(job, distill=True)
        config = tiny.FOLDER["trajectory_adapter"] | {"warp": "picture"}
        (job.model / "trajectory_adapter" / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    parts = open_parts(job.model, STAGES[stage].parts, from_scratch=["all"])
    loss_of = loss_for(job, parts)

    def same_draws(step):
        torch.manual_seed(0)
        return loss_of(0)

    trained = {name: parts[name].train() for name in STAGES[stage].trained}
    frozen = {name: sums(part) for name, part in parts.items() if name not in trained}
    trainer = Trainer(trained, tmp_path / "run", job.schedule)
    losses = [entry["loss"] for entry in trainer.fit(same_draws, every=1)]
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])
    assert frozen == {name: sums(parts[name]) for name in frozen}


def test_an_adapter_may_begin_as_a_copy_of_the_unet_that_changes_nothing(models):
    adapter = weights.build("trajectory_adapter", tiny.FOLDER["trajectory_adapter"])
    start_as_unet(adapter, models.unet)
    wanted = models.unet.state_dict()
    for key, value in adapter.state_dict().items():
        if key.startswith(("conv_in", "time_embedding", "down_blocks", "mid_block")):
            assert torch.equal(value, wanted[key])
    known = adapter.conditioning(torch.rand(1, 3, 64, 64), torch.randn(1, 2, 2, 64, 64))
    inputs = torch.randn(1, 3, 8, 16, 16), torch.ones(1), torch.randn(1, 1, 16), torch.ones(1, 3)
    residuals = adapter(*inputs, known)
    assert not residuals.mid.any() and not any(value.any() for value in residuals.down)


def test_an_adapter_begins_as_the_unet_though_there_is_a_trained_one(tmp_path, bank, monkeypatch):
    begun, model = {}, tiny.write_folder(tmp_path / "m")
    trained = weights.load_part("trajectory_adapter", model / "trajectory_adapter")
    stir_zero_convolutions(trained)
    weights.save_part(
        "trajectory_adapter",
        trained,
        tiny.FOLDER["trajectory_adapter"],
        model / "trajectory_adapter",
        torch.float32,
    )

    class Seen(Trainer):
        def __init__(self, modules, *rest):
            begun.update(
                {k: v.clone() for k, v in modules["trajectory_adapter"].state_dict().items()}
            )
            raise Stopped("seen", 1)

    monkeypatch.setattr(command, "Trainer", Seen)
    for from_unet in (True, False):
        with pytest.raises(Stopped):
            command.train(job_for("trajectory", model, bank, from_unet=from_unet))
        zeros = [begun[key] for key in begun if key.startswith("controlnet_down_blocks.")]
        assert zeros and any(value.any() for value in zeros) != from_unet


@torch.no_grad()
def test_a_samples_loss_is_at_high_noise_whatever_a_run_draws(models, bank):
    frames, flow = torch.rand(1, 4, 3, 64, 64), torch.zeros(1, 3, 2, 64, 64)
    parts, told = vars(models) | {"trajectory_adapter": models.adapter("trajectory")}, []
    for log_normal in (False, True):
        torch.manual_seed(0)
        job = job_for("video", Path("m"), bank, log_normal=log_normal)
        clip = SceneBatch(frames, flow, None, None)
        told.append(command._losses(job, parts, models.settings, clip))
    assert told[0] == told[1] and set(told[0]) == {"sample_loss", "sample_loss_still"}


@torch.no_grad()
@pytest.mark.parametrize("as_released", [False, True])
def test_pixels_and_ids_are_those_of_use_or_of_the_originals_training(as_released, models, bank):
    """There (SPEC 6.1, 6.2) pixels stay in [0, 1] and the first frame has the clip's own noise."""
    model = Path("m")
    job = job_for("trajectory", model, bank, drop_rate=0.0, as_released=as_released, high_share=1.0)
    adapter, frames = models.adapter("trajectory"), torch.rand(1, 4, 3, 64, 64)
    batch = SceneBatch(frames, torch.zeros(1, 3, 2, 64, 64), None, None)
    before = torch.get_rng_state()
    clips = prepare_clips(vars(models), batch, batch.flow, models.settings, as_released)
    drawn = not torch.equal(before, torch.get_rng_state())
    assert drawn == ("image_latents" in clips) == (not as_released)
    loss, seen = VideoLoss(job, vars(models), adapter, models.settings, 0.0), []
    loss.run = lambda *inputs: (seen.append(inputs), clips["latents"].float())[1]
    loss(clips)
    sample, _, _, ids, _, finest, *_ = seen[0]
    widened = (lambda pixels: pixels) if as_released else (lambda pixels: pixels * 2 - 1)
    shown = adapter.reference(widened(clips["first"] / 255), batch.flow)
    torch.testing.assert_close(finest[:, 0], shown.features[0])
    wanted = (6.0, 0.02, 127.0) if as_released else models.settings.time_ids
    assert ids[0].tolist() == pytest.approx(wanted)
    plain, width = models.vae.encode(widened(frames[:, 0])).latent_dist.mode(), sample.shape[2] // 2
    noisy, image = sample[0, 0].split(width)  # at so high a level nearly noise alone
    extra = torch.stack([(image - plain[0]).flatten(), noisy.flatten()])
    assert (torch.corrcoef(extra)[0, 1] > 0.9) == as_released


def test_recomputing_blocks_changes_no_gradient(tmp_path, bank):
    model = tiny.write_configs(tmp_path)
    job, grads = job_for("trajectory", model, bank, precision="no"), []
    for lean in (False, True):
        torch.manual_seed(0)
        parts = open_parts(model, STAGES["trajectory"].parts, from_scratch=["all"])
        loss_of = loss_for(job, parts)
        for part in (parts["trajectory_adapter"], parts["unet"]) if lean else ():
            save_memory(part)
        parts["trajectory_adapter"].requires_grad_(True)
        torch.manual_seed(1)
        loss_of(0)[0].backward()
        grads.append(
            [p.grad for p in parts["trajectory_adapter"].parameters() if p.grad is not None]
        )
    assert all(torch.equal(*pair) for pair in zip(*grads, strict=True)) and len(grads[0]) > 100
