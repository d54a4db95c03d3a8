"""The sampling loop and decoding beyond their recorded numbers (parity_chain)."""

from dataclasses import replace

import pytest
import tiny
import torch
from tiny import random, seeded
from torch.utils.flop_counter import FlopCounterMode

from mofa_nb.checks import InputError
from mofa_nb.sampling.denoise import (
    active,
    decode,
    denoise_steps,
    denoise_windows,
    initial_noise,
    periodic_windows,
)

FRAMES, FREE = 3, (1.0, 1.0)


@pytest.fixture(scope="module")
def models():
    """A toy model of the release's settings."""
    return tiny.models()


@pytest.fixture(scope="module")
def begun(models):
    """The encoded picture, a control, and noise."""
    return tiny.begun_clip(models, FRAMES)


@pytest.fixture
def batches(models):
    """The batch of every call of the UNet and of the trajectory adapter."""
    seen = {"unet": [], "adapter": []}
    hooks = [
        module.register_forward_pre_hook(lambda m, args, name=name: seen[name].append(len(args[0])))
        for name, module in (("unet", models.unet), ("adapter", models.adapter("trajectory")))
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def test_every_step_is_reported_with_its_noise_level(models, begun):
    start, _, noise = begun
    steps = list(denoise_steps(models, start, [], noise, steps=3, guidance=FREE))
    assert [(s.index, s.total) for s in steps] == [(1, 3), (2, 3), (3, 3)]
    levels = [s.sigma for s in steps]
    assert levels[0] == 700 and levels[2] == pytest.approx(0.002) and levels[1] < levels[0]
    assert steps[0].latents.shape == steps[0].denoised.shape == noise.shape
    torch.testing.assert_close(steps[-1].latents, steps[-1].denoised)
    own = models.scheduler  # left alone
    assert own.step_index is None and len(own.sigmas) != 4


def test_image_noise_is_drawn_before_latent_noise(models):
    generator = seeded(5)
    drawn = initial_noise(models, (64, 128), 4, seeded(5))
    assert torch.equal(drawn[0], torch.randn(1, 3, 64, 128, generator=generator))
    assert torch.equal(drawn[1], torch.randn(1, 4, 4, 8, 16, generator=generator))


def test_a_control_works_only_during_its_span_and_never_at_scale_zero(models, begun, batches):
    start, control, noise = begun
    early, late = replace(control, span=(0.0, 0.5)), replace(control, span=(0.5, 1.0))
    assert [len(active([early], index, 4)) for index in range(4)] == [1, 1, 0, 0]
    assert [len(active([late], index, 4)) for index in range(4)] == [0, 0, 1, 1]
    off = replace(control, scale=0.0)
    list(denoise_steps(models, start, [late, off], noise, steps=4, guidance=FREE))
    assert len(batches["unet"]) == 4 and len(batches["adapter"]) == 2


def test_conditioning_costs_nothing_once_the_steps_begin(models, begun):
    start, control, noise = begun
    walk = denoise_steps(models, start, [control], noise, steps=2, guidance=FREE)
    counts = []
    for _ in range(2):
        with FlopCounterMode(display=False) as counter:
            next(walk)
        counts.append(counter.get_total_flops())
    sample = torch.zeros(1, FRAMES, 8, 8, 8)
    inputs = (sample, torch.tensor(0.0), start.embedding, torch.zeros(1, 3))
    with FlopCounterMode(display=False) as alone, torch.no_grad():
        models.unet(*inputs, control.adapter(*inputs, control.conditioning))
    assert counts == [alone.get_total_flops()] * 2


# Windows


def test_fading_windows_count_less_towards_their_ends_and_plain_ones_alike():
    first, second = periodic_windows(9, 6, 3)  # frames 0 1-5, 0 4-8
    assert first.weights(fade=False) == [1] * 6 and second.weights(fade=False) == [1] * 5
    assert first.weights(fade=True) == [1, 1, 2, 3, 2, 1]
    assert second.weights(fade=True) == [1, 2, 3, 2, 1]


def test_windows_are_averaged_by_their_weights(models, begun, monkeypatch):
    start, control, _ = begun
    windows = periodic_windows(6, 4, 2)
    windows = [windows[0], replace(windows[1], start=2, stop=5)]  # both hold frames 2 and 3

    def constant(run, index, latents, controls):
        value = torch.full_like(latents, float(constant.turn))
        constant.turn += 3
        return value, value

    monkeypatch.setattr("mofa_nb.sampling.denoise._Run.step", constant)
    monkeypatch.setattr("mofa_nb.sampling.denoise.windowed", lambda control, window: control)
    got = []
    for fade in (False, True):
        constant.turn = 0
        *_, step = denoise_windows(
            models,
            start,
            [control],
            random(1, 5, 4, 8, 8),
            steps=1,
            guidance=FREE,
            windows=windows,
            fade=fade,
        )
        got.append([float(v) for v in step.latents[0, 1:5, 0, 0, 0]])
    assert got[0] == [0, 1.5, 1.5, 3] and got[1] == [0, 1, 2, 3]


def test_a_clip_that_is_not_finite_ends_at_once_with_a_sentence(models, begun):
    start, _, noise = begun
    steps = denoise_steps(models, start, [], noise * torch.nan, steps=2, guidance=FREE)
    with pytest.raises(InputError, match=r"the clip .* has NaN or infinite values: lower"):
        next(steps)


# Decoding


def test_a_clip_is_decoded_in_chunks_that_are_each_their_own_clip_and_only_when_asked_for(models):
    latents, calls = random(1, 5, 4, 8, 8), []
    parts = decode(models, latents, chunk=2)
    with models.vae.decoder.register_forward_pre_hook(lambda *call: calls.append(1)):
        assert not calls
        chunks = [next(parts)]
        assert len(calls) == 1
    chunks += parts
    assert [len(c) for c in chunks] == [2, 2, 1]
    alone = list(decode(models, latents[:, 2:4]))
    torch.testing.assert_close(chunks[1], alone[0], rtol=1e-4, atol=1e-4)
    assert chunks[0].shape == (2, 3, 64, 64) and chunks[0].dtype == torch.float32
    own = replace(models, settings=replace(models.settings, decode_chunk=3))
    assert [len(part) for part in decode(own, latents[:, :4])] == [3, 1]  # unless another is asked
