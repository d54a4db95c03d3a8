"""The sampling loop: what steers it, what repeats, what it costs, and how it is stopped."""

from dataclasses import replace

import pytest
import tiny
import torch
from torch.utils.flop_counter import FlopCounterMode

from mofa_nb.adapter.unet import Residuals
from mofa_nb.checks import InputError
from mofa_nb.sampling.denoise import (
    Control,
    active,
    decode,
    denoise_steps,
    denoise_windows,
    encode_start,
    initial_noise,
    mixed_residuals,
    periodic_windows,
    to_pixels,
)

SIZE, FRAMES, STEPS = (64, 64), 3, 2
GUIDED, FREE = (1.0, 3.0), (1.0, 1.0)


@pytest.fixture(scope="module")
def models():
    """A toy model of the release's settings."""
    return tiny.models()


@pytest.fixture(scope="module")
def image():
    """A picture [1, 3, H, W] in [0, 1]."""
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def start(models, image):
    """The encoded picture."""
    return encode_start(models, image)


@pytest.fixture(scope="module")
def noise(models):
    """Latent noise of seed 42."""
    return initial_noise(models, SIZE, FRAMES, torch.Generator().manual_seed(42))[1]


@pytest.fixture(scope="module")
def control(models, start):
    """A trajectory control along a random flow, weak enough for made-up weights."""
    flow = 5 * torch.randn(1, FRAMES - 1, 2, *SIZE, generator=torch.Generator().manual_seed(2))
    adapter = models.adapter("trajectory")
    with torch.no_grad():
        return Control(adapter, adapter.conditioning(start.image, flow), 0.05)


@pytest.fixture(scope="module")
def clip(models, start, noise):
    """Runs the loop to its end: latents [1, T, C, h, w]."""

    def run(*controls, guidance=FREE, steps=STEPS, noise=noise, models=models, windows=None):
        chosen = {"steps": steps, "guidance": guidance, "windows": windows}
        *_, last = denoise_steps(models, start, controls, noise, **chosen)
        return last.latents

    return run


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


# Steps


def test_every_step_is_reported_with_its_noise_level(models, start, noise):
    steps = list(denoise_steps(models, start, [], noise, steps=3, guidance=FREE))
    assert [(s.index, s.total) for s in steps] == [(1, 3), (2, 3), (3, 3)]
    levels = [s.sigma for s in steps]
    assert levels[0] == 700 and levels[2] == pytest.approx(0.002) and levels[1] < levels[0]
    assert steps[0].latents.shape == steps[0].denoised.shape == noise.shape
    torch.testing.assert_close(steps[-1].latents, steps[-1].denoised)


def test_it_is_cancelled_by_not_asking_for_more(models, start, noise, control, batches):
    walk = denoise_steps(models, start, [control], noise, steps=5, guidance=FREE)
    assert batches["unet"] == []
    next(walk)
    walk.close()
    assert batches == {"unet": [1], "adapter": [1]}


def test_the_same_seed_gives_the_same_latents_and_leaves_the_models_scheduler_alone(
    models, clip, control
):
    before = models.scheduler.sigmas.clone()
    first, again, other = (
        clip(control, noise=initial_noise(models, SIZE, FRAMES, seeded)[1])
        for seeded in (torch.Generator().manual_seed(seed) for seed in (7, 7, 8))
    )
    assert torch.equal(first, again) and (first - other).abs().max() > 0.1
    assert torch.equal(models.scheduler.sigmas, before) and models.scheduler.step_index is None


# Noise and the first frame


def test_image_noise_is_drawn_before_latent_noise(models):
    generator = torch.Generator().manual_seed(5)
    drawn = initial_noise(models, (64, 128), 4, torch.Generator().manual_seed(5))
    assert torch.equal(drawn[0], torch.randn(1, 3, 64, 128, generator=generator))
    assert torch.equal(drawn[1], torch.randn(1, 4, 4, 8, 16, generator=generator))


def test_noise_is_added_to_the_pixels_before_they_are_encoded(models, image):
    strong = replace(models, settings=replace(models.settings, noise_aug=0.5))
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(3))
    noisy = encode_start(strong, image, noise)
    clean = encode_start(models, image + 0.25 * noise)  # twice as wide in [-1, 1]
    torch.testing.assert_close(noisy.latents, clean.latents, rtol=1e-4, atol=1e-4)
    still = encode_start(models, image)
    assert torch.equal(still.image, image * 2 - 1)
    assert still.embedding.shape == (1, 1, 48) and still.latents.shape == (1, 4, 8, 8)
    assert torch.equal(noisy.image, still.image) and torch.equal(noisy.embedding, still.embedding)
    assert (noisy.latents - still.latents).abs().max() > 1e-3


# Controls


def test_a_control_steers_and_its_scale_says_how_much(clip, control, batches):
    free, weak, strong = clip(), clip(replace(control, scale=0.01)), clip(control)
    assert 0 < (weak - free).abs().mean() < (strong - free).abs().mean()
    batches["adapter"].clear()
    assert torch.equal(clip(replace(control, scale=0.0)), free) and batches["adapter"] == []


def test_a_mask_and_its_rest_make_the_whole_and_controls_add_up(clip, control):
    whole, ones, mask = clip(control), torch.ones(1, 1, *SIZE), torch.zeros(1, 1, *SIZE)
    assert torch.equal(clip(replace(control, mask=ones)), whole), "to the last bit"
    assert torch.equal(clip(replace(control, mask=0 * ones)), clip())
    mask[..., :24] = 1
    halves = [replace(control, mask=mask), replace(control, mask=1 - mask)]
    torch.testing.assert_close(clip(*halves), whole, rtol=1e-4, atol=1e-4)
    twice = clip(replace(control, scale=0.02), replace(control, scale=0.03))
    torch.testing.assert_close(twice, whole, rtol=1e-3, atol=1e-3)
    one = periodic_windows(FRAMES, FRAMES)
    assert len(one) == 1 and torch.equal(clip(control, windows=one), whole)


def test_masks_meet_each_residual_at_its_own_size_by_nearest_pixel():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 8:16, 0:32] = 1
    ones = [torch.ones(3, 2, side, side) for side in (8, 4, 2)]
    control = Control(lambda *_: Residuals(tuple(ones[:2]), ones[2]), None, mask=mask)
    cut = mixed_residuals([control], *[None] * 4)
    assert cut.down[0][1, 0, 1].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert cut.down[0].sum() == 4 * 6
    assert not cut.down[1].any() and not cut.mid.any()  # row 0 of 16 px stands for 0..15


def test_a_control_works_only_during_its_span(models, start, noise, control, batches):
    early, late = replace(control, span=(0.0, 0.5)), replace(control, span=(0.5, 1.0))
    assert [len(active([early], index, 4)) for index in range(4)] == [1, 1, 0, 0]
    assert [len(active([late], index, 4)) for index in range(4)] == [0, 0, 1, 1]
    whole = replace(control, span=(0.0, 1.0))
    assert [len(active([whole], index, 3)) for index in range(3)] == [1, 1, 1]
    list(denoise_steps(models, start, [late], noise, steps=4, guidance=FREE))
    assert len(batches["unet"]) == 4 and len(batches["adapter"]) == 2


def test_inner_tensors_are_shown_to_whoever_asks(models, start, noise, control):
    seen = []
    trace = lambda name, value: seen.append((name, type(value).__name__))  # noqa: E731
    list(denoise_steps(models, start, [control], noise, steps=2, guidance=FREE, trace=trace))
    assert seen == [("residuals", "Residuals"), ("velocity", "Tensor")] * 2


def test_conditioning_costs_nothing_once_the_steps_begin(models, start, noise, control):
    adapter, unet = models.adapter("trajectory"), models.unet
    walk = denoise_steps(models, start, [control], noise, steps=3, guidance=FREE)
    counts = []
    for _ in range(3):
        with FlopCounterMode(display=False) as counter:
            next(walk)
        counts.append(counter.get_total_flops())
    sample = torch.zeros(1, FRAMES, 8, 8, 8)
    inputs = (sample, torch.tensor(0.0), start.embedding, torch.zeros(1, 3))
    with FlopCounterMode(display=False) as alone, torch.no_grad():
        unet(*inputs, adapter(*inputs, control.conditioning))
    assert counts == [alone.get_total_flops()] * 3
    with FlopCounterMode(display=False) as known, torch.no_grad():
        adapter.conditioning(start.image, control.conditioning.flow)
    assert known.get_total_flops() > 0


# Guidance


def test_guidance_runs_both_halves_at_once_and_none_runs_half(clip, control, batches):
    clip(control, guidance=GUIDED)
    assert batches == {"unet": [2] * STEPS, "adapter": [2] * STEPS}
    clip(control, guidance=FREE)
    assert batches == {"unet": [2] * STEPS + [1] * STEPS, "adapter": [2] * STEPS + [1] * STEPS}


def first_velocity(models, start, controls, noise, guidance):
    seen = {}
    steps = denoise_steps(
        models, start, controls, noise, steps=2, guidance=guidance, trace=seen.setdefault
    )
    next(steps)
    return seen["velocity"]


def test_guidance_grows_linearly_over_the_frames_from_none_at_the_first(
    models, start, noise, control
):
    plain, guided = (first_velocity(models, start, [control], noise, g) for g in (FREE, (1.0, 3.0)))
    double = first_velocity(models, start, [control], noise, (2.0, 2.0))
    push = double - plain  # what one more unit of guidance adds
    assert push.abs().max() > 1e-3
    for frame, extra in enumerate((0.0, 1.0, 2.0)):
        wanted = plain[:, frame] + extra * push[:, frame]
        torch.testing.assert_close(guided[:, frame], wanted, rtol=1e-3, atol=1e-4)


def test_the_free_half_gets_neither_token_nor_image_but_the_same_control(
    models, start, noise, control
):
    calls, unet = [], models.unet
    hook = unet.register_forward_pre_hook(lambda module, args: calls.append(args))
    first_velocity(models, start, [control], noise, GUIDED)
    hook.remove()
    sample, time, token, ids, residuals = calls[0]
    assert not token[0].any() and torch.equal(token[1], start.embedding[0])
    assert not sample[0, :, 4:].any()
    assert torch.equal(sample[1, :, 4:], start.latents.expand(FRAMES, -1, -1, -1))
    assert torch.equal(sample[0, :, :4], sample[1, :, :4])
    torch.testing.assert_close(ids, torch.tensor([[6.0, 128.0, 0.02]] * 2))
    assert float(time) == pytest.approx(1.63777, abs=1e-5)
    assert residuals.mid.shape[0] == 2 * FRAMES


# Windows


def test_fading_windows_count_less_towards_their_ends_and_plain_ones_alike():
    first, second = periodic_windows(9, 6, 3)  # frames 0 1-5, 0 4-8
    assert first.weights(fade=False) == [1] * 6 and second.weights(fade=False) == [1] * 5
    assert first.weights(fade=True) == [1, 1, 2, 3, 2, 1]
    assert second.weights(fade=True) == [1, 2, 3, 2, 1]
    assert [len(w.weights(True)) for w in (first, second)] == [
        len(w.frames[w.own]) for w in (first, second)
    ]


def test_windows_are_averaged_by_their_weights(models, start, control, monkeypatch):
    long = initial_noise(models, SIZE, 5, torch.Generator().manual_seed(1))[1]
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
            models, start, [control], long, steps=1, guidance=FREE, windows=windows, fade=fade
        )
        got.append([float(v) for v in step.latents[0, 1:5, 0, 0, 0]])
    assert got[0] == [0, 1.5, 1.5, 3] and got[1] == [0, 1, 2, 3]


def test_long_clips_are_averaged_from_windows(models, start, control, batches):
    long = initial_noise(models, SIZE, 6, torch.Generator().manual_seed(1))[1]
    flow = torch.zeros(1, 5, 2, *SIZE)
    reference = control.adapter.reference(start.image, flow)
    windows = periodic_windows(6, 4, 2)
    assert [w.frames for w in windows] == [[0, 1, 2, 3], [0, 3, 4, 5]]
    walk = denoise_steps(
        models, start, [replace(control, conditioning=reference)], long,
        steps=1, guidance=FREE, windows=windows,
    )  # fmt: skip
    latents = next(walk).latents
    assert latents.shape == long.shape and batches["unet"] == [1, 1]
    single = [
        next(denoise_steps(
            models, start, [replace(control, conditioning=control.adapter.window(reference, f))],
            long[:, f], steps=1, guidance=FREE,
        )).latents
        for f in ([0, 1, 2, 3], [0, 3, 4, 5])
    ]  # fmt: skip
    torch.testing.assert_close(latents[:, :3], single[0][:, :3], rtol=1e-4, atol=1e-4)
    shared = (single[0][:, 3] + single[1][:, 1]) / 2
    torch.testing.assert_close(latents[:, 3], shared, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(latents[:, 4:], single[1][:, 2:], rtol=1e-4, atol=1e-4)


def test_a_clip_that_is_not_finite_ends_at_once_with_a_sentence(models, start, noise):
    steps = denoise_steps(models, start, [], noise * torch.nan, steps=STEPS, guidance=FREE)
    with pytest.raises(InputError, match=r"the clip .* has NaN or infinite values: lower"):
        next(steps)


# Decoding


def test_a_clip_is_decoded_in_chunks_that_are_each_their_own_clip_and_only_when_asked_for(models):
    latents, calls = torch.randn(1, 5, 4, 8, 8, generator=torch.Generator().manual_seed(4)), []
    hook = models.vae.decoder.register_forward_pre_hook(lambda *call: calls.append(1))
    parts = decode(models, latents, chunk=2)
    assert len(calls) == 0
    first = next(parts)
    hook.remove()
    assert len(calls) == 1
    chunks = [first, *parts]
    assert [len(c) for c in chunks] == [2, 2, 1]
    alone = list(decode(models, latents[:, 2:4]))
    torch.testing.assert_close(chunks[1], alone[0], rtol=1e-4, atol=1e-4)
    assert chunks[0].shape == (2, 3, 64, 64) and chunks[0].dtype == torch.float32
    own = replace(models, settings=replace(models.settings, decode_chunk=3))
    assert [len(part) for part in decode(own, latents[:, :4])] == [3, 1]  # unless another is asked


@torch.no_grad()
def test_with_context_the_ends_of_a_chunk_do_not_show(models):
    latents = torch.randn(1, 12, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    whole, plain, better = (
        list(decode(models, latents, chunk=chunk, context=context))
        for chunk, context in ((16, 2), (4, 0), (8, 2))
    )
    assert [len(part) for part in plain] == [len(part) for part in better] == [4, 4, 4]
    off, less = ((torch.cat(parts) - whole[0]).abs().mean() for parts in (plain, better))
    assert less < 0.5 * off


@torch.no_grad()
def test_with_context_a_clip_at_rest_shows_nothing_of_its_ends(models):
    one = torch.randn(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    still = one.expand(-1, 6, -1, -1, -1)
    plain, held = (torch.cat(list(decode(models, still, 6 + 2 * n, n))) for n in (0, 4))
    assert held.diff(dim=0).abs().mean() < 0.5 * plain.diff(dim=0).abs().mean()


def test_pixels_run_from_minus_one_to_one_and_are_clamped():
    frames = torch.tensor([-1.5, -1.0, 0.0, 1.0, 2.0]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    pixels = to_pixels(frames)
    assert pixels.shape == (1, 1, 5, 3) and pixels.dtype == torch.uint8
    assert pixels[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
