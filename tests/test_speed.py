"""Speeds: what each leaves out, and that exact leaves out nothing."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch

from mofa_nb.config import EXACT, SPEEDS, Settings, Speed
from mofa_nb.pipeline.settings import ClipSettings
from mofa_nb.sampling.denoise import denoise_steps
from mofa_nb.sampling.speed import aligned_sigmas, compile_blocks, renoised, scheduler_of

GUIDED = (1.0, 3.0)


@pytest.fixture(scope="module")
def clip():
    """Runs the loop; gives the latents, and which parts ran with which batch."""
    models = tiny.models()
    start, control, noise = tiny.begun_clip(models, frames=2)

    def run(speed=EXACT, steps=4, guidance=GUIDED, span=(0.0, 1.0), **changes):
        seen = {"unet": [], "middle": [], "adapter": []}
        nets = {"unet": models.unet, "middle": models.unet.mid_block, "adapter": control.adapter}
        hooks = [
            net.register_forward_pre_hook(lambda m, args, n=n: seen[n].append(len(args[0])))
            for n, net in nets.items()
        ]
        own = replace(models, settings=replace(models.settings, **changes))
        how = {"steps": steps, "guidance": guidance, "speed": speed, "generator": tiny.seeded(7)}
        *_, last = denoise_steps(own, start, [replace(control, span=span)], noise, **how)
        for hook in hooks:
            hook.remove()
        return last.latents, seen

    return run


RUNS = {  # speed, span of the control -> batches of UNet, its middle and the adapter
    "exact runs everything in every step": (EXACT, (0, 1), [2] * 4, [4] * 4, [2] * 4),
    "residuals and deep features stay for every second step":
        (Speed(every=2), (0, 1), [2] * 4, [4, 4], [2, 2]),
    "they are made anew where an adapter's span ends":
        (Speed(every=4), (0, 0.5), [2] * 4, [4, 4], [2]),
    "only the steps of the span are guided":
        (Speed(guided=(0.25, 0.75)), (0, 1), [1, 2, 2, 1], [2, 4, 4, 2], [1, 2, 2, 1]),
}  # fmt: skip


@pytest.mark.parametrize("what", RUNS)
def test_a_speed_leaves_out_what_it_says(what, clip):
    speed, span, unet, middle, adapter = RUNS[what]
    latents, seen = clip(speed, span=span)
    assert seen == {"unet": unet, "middle": middle, "adapter": adapter}
    assert bool(latents.isfinite().all())
    if speed == Speed(every=2):
        exact = clip()[0]
        assert 0 < float((latents - exact).abs().max() / exact.abs().max()) < 0.5


def test_never_guided_is_the_same_as_no_guidance(clip):
    free = clip(steps=2, guidance=(1.0, 1.0))[0]
    assert torch.equal(clip(Speed(guided=(0.0, 0.0)), steps=2)[0], free)


def test_aligned_steps_go_down_from_the_schedulers_highest_level_to_zero():
    scheduler = tiny.models().scheduler
    sigmas = aligned_sigmas(scheduler, 10)
    assert sigmas[0] == 700 and sigmas[-1] == 0 and len(sigmas) == 11
    assert sigmas[1] == pytest.approx(54.5) and sorted(sigmas, reverse=True) == sigmas
    assert len(aligned_sigmas(scheduler, 15)) == 16


def test_a_few_step_unet_is_given_its_levels_and_new_noise_between_steps(clip):
    models = tiny.models(few_step=True)
    scheduler = scheduler_of(models, 4, EXACT, torch.device("cpu"))
    karras = lambda k: (700 ** (1 / 7) + k / 39 * (0.002 ** (1 / 7) - 700 ** (1 / 7))) ** 7  # noqa: E731
    wanted = [karras(0), karras(10), karras(20), karras(30), 0]
    assert scheduler.sigmas.tolist() == pytest.approx(wanted, rel=1e-4)
    once, again = (clip(guidance=(1.0, 1.0), few_step=True)[0] for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, clip(guidance=(1.0, 1.0))[0])


def test_new_noise_is_drawn_where_the_generator_is(monkeypatch):
    drawn = []
    monkeypatch.setattr(torch, "randn", lambda shape, **how: drawn.append(how) or torch.ones(shape))
    generator, levels = SimpleNamespace(device="cuda:1"), SimpleNamespace(sigmas=[3.0, 2.0])
    assert renoised(torch.zeros(2), levels, 0, generator).tolist() == [2.0, 2.0]
    assert drawn == [{"generator": generator, "device": "cuda:1"}]


def test_a_speed_takes_its_share_of_the_models_steps_unless_they_are_given():
    def steps(**given):
        return ClipSettings.of(Settings(), False, given).steps

    assert [steps(speed=name) for name in SPEEDS] == [25, 15, 7]
    assert steps(speed="draft", steps=20) == 20


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
def test_compiling_marks_the_repeated_blocks_until_it_is_no_longer_wanted():
    models = tiny.models()
    models = replace(models, unet=copy.deepcopy(models.unet), adapters={})

    def marked():
        return {type(m).__name__ for m in models.unet.modules() if m._compiled_call_impl}

    compile_blocks(models)
    assert marked() == {"TransformerSpatioTemporalModel", "SpatioTemporalResBlock"}
    config = torch._dynamo.config  # blocks of a class share their code: a version for each shape
    assert getattr(config, "recompile_limit", config.cache_size_limit) >= 40
    compile_blocks(models, wanted=False)
    assert not marked()
