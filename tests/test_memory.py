"""Memory ways: the same numbers in each, and a step down where memory runs out."""

import copy

import numpy as np
import pytest
import tiny
import torch

from mofa_nb.checks import InputError
from mofa_nb.config import SPEEDS, Settings
from mofa_nb.models import load
from mofa_nb.models import memory as ways
from mofa_nb.models.memory import Memory, arrange, fitted_into_memory
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.pipeline.session import Session
from mofa_nb.pipeline.settings import ClipSettings
from mofa_nb.sampling.denoise import Control, decode, denoise_windows

SIZE, FRAMES = (64, 64), 3
GUIDED, FREE = (1.0, 3.0), (1.0, 1.0)


@pytest.fixture(scope="module")
def models():
    """A toy model of this file's own: its layers get hooks."""
    return copy.deepcopy(tiny.models())


@pytest.fixture(autouse=True)
def plain_again(models):
    """A test that leaves its layers' hooks behind."""
    yield
    arrange(models, "full")


def made(models, memory=None, guidance=FREE, steps=2):
    """A clip of both adapters: latents and decoded frames, from picture to end."""
    start, tracks, noise = tiny.begun_clip(models, FRAMES)
    face, marks = models.adapter("landmark"), (start.image[:, None] + 1) / 2
    picture, flow = start.image.to(models.unet.dtype), tracks.conditioning.flow
    with torch.no_grad():
        known = face.conditioning(picture, flow, marks.expand(-1, FRAMES, -1, -1, -1))
    controls = [tracks, Control(face, known, 0.05)]
    how = {"steps": steps, "guidance": guidance, "memory": memory}
    *_, last = denoise_windows(models, start, controls, noise, **how)
    frames = torch.cat(list(decode(models, last.latents, chunk=2, memory=memory)))
    return last.latents, frames


@pytest.fixture(scope="module")
def full(models):
    """What the plain way gives."""
    return made(models, Memory(models))


def hooked(net):
    return sum(hasattr(module, "_diffusers_hook") for module in net.modules())


@pytest.mark.parametrize("way", ["balanced", "low"])
def test_every_way_gives_the_same_numbers(models, full, way):
    arrange(models, way, FRAMES)
    assert hooked(models.vae) and bool(hooked(models.unet)) == (way == "low")
    ours = made(models, Memory(models, way))
    arrange(models, "full")
    assert not any(map(hooked, models.parts.values()))
    assert all(torch.equal(*pair) for pair in zip(ours, full, strict=True))


def test_guidance_halves_in_turn_are_the_same_but_for_rounding(models):
    seen, nets = [], [models.unet, *models.adapters.values()]
    for net in nets:
        net.double()  # rounding of made-up weights grows through a deep network
    tried = [Memory(models), Memory(models, "balanced")]
    with models.unet.register_forward_pre_hook(lambda net, args: seen.append(len(args[0]))):
        at_once, in_turn = (made(models, memory, GUIDED, steps=1)[0] for memory in tried)
    for net in nets:
        net.float()
    assert seen == [2, 1, 1]
    assert float((in_turn - at_once).abs().max() / at_once.abs().max()) < 1e-5


def test_s2d_gives_the_same_flow_when_its_layers_are_brought(models):
    image, hints = torch.rand(1, 3, 64, 64), torch.zeros(2, 3, 64, 64)
    plain = models.s2d(models.s2d.image_features(image), hints[:, :2], hints[:, 2:])
    arrange(models, "balanced")
    brought = models.s2d(models.s2d.image_features(image), hints[:, :2], hints[:, 2:])
    assert torch.equal(plain, brought)


def test_a_clip_that_does_not_fit_goes_on_one_way_down_and_says_so(models, full):
    memory, refused = Memory(models, frames=FRAMES), []

    def too_small(*_):
        if memory.way != "low":
            refused.append(memory.way)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB. Oh.")

    with models.unet.up_blocks[-1].register_forward_pre_hook(too_small):
        ours = made(models, memory)
    assert refused == ["full", "balanced"]
    assert ["went on" in note and "nothing was lost" in note for note in memory.notes] == [True] * 2
    assert all(torch.equal(*pair) for pair in zip(ours, full, strict=True))


def test_frames_are_decoded_fewer_at_once_when_memory_runs_out(models):
    memory, seen = Memory(models, "low", decode_chunk=3), []

    def watch(_, args):
        seen.append(len(args[0]))
        if len(args[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with models.vae.decoder.register_forward_pre_hook(watch):
        frames = torch.cat(list(decode(models, torch.zeros(1, 3, 4, 8, 8), memory=memory)))
    assert seen == [3, 1, 1, 1] and len(frames) == 3


def test_where_nothing_lower_is_left_the_shortage_is_told(models):
    memory = Memory(models, "low", decode_chunk=1)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        memory.run(lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. x")))


@pytest.mark.parametrize("way", ways.WAYS)
def test_auto_takes_the_first_way_that_fits(models, monkeypatch, way):
    monkeypatch.setattr(ways, "STEP_BYTES", dict.fromkeys(ways.WAYS, 100))
    free = int(ways.needed(models, way, FRAMES, SIZE, guided=True) / ways.SPARE) + 9
    monkeypatch.setattr(ways, "free_memory", lambda device: free)
    memory = fitted_into_memory(models, FRAMES, SIZE, guided=True)
    assert memory.way == way and f"memory: {way}, as it needs about" in memory.notes[0]


def test_halves_that_are_computed_at_once_take_twice_as_much_in_every_way(models):
    for way in ways.WAYS:
        apart, at_once = (ways.needed(models, way, 4, SIZE, True, both) for both in (False, True))
        still = ways.weights_on_card(models, way)
        assert at_once - still == (apart - still) * (1 if way == "full" else 2)


def test_without_a_card_all_stays_where_it_is_and_a_way_that_is_asked_for_is_taken(models):
    memory = fitted_into_memory(models, FRAMES, SIZE, guided=True)
    assert (memory.way, memory.decode_chunk, memory.notes) == ("full", None, [])
    assert fitted_into_memory(models, FRAMES, SIZE, guided=True, wanted="low").way == "low"
    assert hooked(models.unet)
    with pytest.raises(InputError, match="must be one of auto, full, balanced, low, but 't"):
        ClipSettings.of(Settings(), False, {"memory": "tiny"})


def test_a_clips_card_tells_the_way_and_the_speed_that_were_asked_for(models):
    session = Session(models)
    session.set_image(np.zeros((64, 64, 3), np.uint8), size=(64, 64))
    how = {"num_frames": 2, "memory": "low", "speed": "draft"}
    *_, last = session.animate_steps(Motion((64, 64)), **how)
    used = last.clip.settings
    assert (used["memory"], used["speed"], used["steps"]) == ("low", "draft", 7)
    *_, last = session.animate_steps(Motion((64, 64)), num_frames=2, steps=1)
    assert not {"memory", "speed", "compile"} & set(last.clip.settings)
    assert not hooked(models.unet)  # auto, without a card


def test_a_model_is_loaded_in_main_memory_and_then_arranged(tmp_path, monkeypatch):
    """What a card cannot hold must not pass through it."""
    folder, seen = tiny.write_folder(tmp_path), []
    fit = load.fitted_into_memory

    def watched(models, *size, **how):
        places = {next(net.parameters()).device.type for net in models.parts.values()}
        seen.append((models.device.type, places))
        return fit(models, *size, **how)

    monkeypatch.setattr(load, "fitted_into_memory", watched)
    models = load.load_models(folder, "meta")
    assert seen == [("meta", {"cpu"})] and models.unet.device.type == "meta"


@pytest.mark.parametrize("stage", ["s2d", "trajectory_adapter"])
def test_memory_that_runs_out_before_the_first_step_costs_nothing(models, stage):
    session, motion = Session(models), Motion((64, 64), [Track([(10, 10), (30, 20)])])
    session.set_image(np.full((64, 64, 3), 90, np.uint8))
    used = {"steps": 1, "guidance": FREE, "num_frames": FRAMES}
    *_, plain = session.animate_steps(motion, **used)
    net = models.parts[stage] if stage == "s2d" else models.adapter("trajectory").flow_encoder
    small = iter([True])

    def refuse(*_):
        if next(small, False):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB. Oh.")

    hook = net.register_forward_pre_hook(refuse)
    *_, ours = session.animate_steps(motion, **used)
    hook.remove()
    arrange(models, "full")
    assert any("memory ran out" in note for note in ours.clip.notes)
    np.testing.assert_array_equal(ours.clip.frames, plain.clip.frames)


def test_what_a_speed_keeps_is_counted_and_given_up_where_there_is_no_room(models, monkeypatch):
    how, fast = {"guided": True, "windows": 3}, SPEEDS["fast"]
    few, many = (ways.needed(models, "low", 4, SIZE, True, kept=kept) for kept in (0, 6))
    assert many > few
    for free, reuses in ((many, True), (few, False)):
        monkeypatch.setattr(ways, "free_memory", lambda _, free=free: int(free / ways.SPARE) + 9)
        monkeypatch.setattr(ways, "weight_bytes", lambda net, on_card=False: 0)
        memory = fitted_into_memory(models, 4, SIZE, speed=fast, wanted="low", **how)
        assert memory.reuses == reuses == (not any("all is computed" in n for n in memory.notes))
    memory = Memory(models, kept=[{"residuals": 1}])
    assert memory.lower() and memory.kept == [{}] and not memory.reuses
    arrange(models, "full")


def test_an_adapter_without_work_stays_off_the_card(models):
    unused = ways.unused_parts(["trajectory"])
    arrange(models, "balanced", FRAMES, unused)
    assert unused == ["landmark_adapter"] and hooked(models.adapter("landmark"))
    assert not hooked(models.adapter("trajectory"))
    arrange(models, "balanced", FRAMES)
    assert not hooked(models.adapter("landmark"))
    arrange(models, "full")
