"""Number formats and memory by device, told of cards that are not here."""

import copy
import itertools
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch
from torch.profiler import ProfilerActivity, profile

from mofa_nb.checks import InputError
from mofa_nb.faces import draw
from mofa_nb.models.memory import Memory, frames_that_fit
from mofa_nb.models.models import decode_in_half, has_fast_bfloat16, model_dtypes
from mofa_nb.pipeline import layers
from mofa_nb.sampling.denoise import decode

HALF, WIDE, FULL = torch.float16, torch.bfloat16, torch.float32
GIB = 2**30


@pytest.fixture
def card(monkeypatch):
    """A CUDA card of a capability, as far as number formats look at it; all emulate bfloat16."""

    def plug_in(major, minor=0):
        properties = SimpleNamespace(major=major, minor=minor)
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _: True)

    return plug_in


@pytest.mark.parametrize(
    ("major", "minor", "vae"), [(6, 1, FULL), (7, 5, FULL), (8, 0, WIDE), (9, 0, WIDE)]
)
def test_only_cards_with_bfloat16_of_their_own_decode_in_it(major, minor, vae, card):
    card(major, minor)
    assert torch.cuda.is_bf16_supported()  # by emulation, where not in hardware
    halves = dict.fromkeys(
        ("unet", "image_encoder", "trajectory_adapter", "landmark_adapter"), HALF
    )
    decoders = dict.fromkeys(("vae", "taesd"), vae)
    assert model_dtypes("cuda") == halves | decoders | {"s2d": FULL, "landmark_s2d": FULL}
    assert has_fast_bfloat16("cuda") == (major >= 8)


def test_a_card_without_bfloat16_encodes_in_float32_and_decodes_in_float16(card):
    card(7, 5)
    vae = copy.deepcopy(tiny.part("vae"))
    decode_in_half(vae, model_dtypes("cuda"))
    kinds = {name.split(".")[0]: value.dtype for name, value in vae.named_parameters()}
    assert kinds == {"encoder": FULL, "quant_conv": FULL, "decoder": HALF}
    card(8, 0)
    decode_in_half(vae.float(), model_dtypes("cuda"))
    assert {value.dtype for value in vae.parameters()} == {FULL}  # as it came


def test_frames_that_overflow_in_float16_are_decoded_again_in_float32():
    models, latents = tiny.models(), tiny.random(1, 3, 4, 8, 8)
    models = replace(models, vae=copy.deepcopy(models.vae))
    last = models.vae.decoder.conv_norm_out
    last.weight.data *= 3e4  # fits, and what it makes does not
    wanted = torch.cat(list(decode(models, latents, chunk=2)))
    models.vae.decoder.half()
    memory = Memory(models)
    frames = torch.cat(list(decode(models, latents, chunk=2, memory=memory)))
    assert memory.notes == ["the decoder overflowed in float16, so it went on in float32"]
    torch.testing.assert_close(frames, wanted, rtol=0.01, atol=0.01 * float(wanted.abs().max()))


def test_each_card_of_several_is_asked_for_itself(card, monkeypatch):
    card(7, 5)
    present = [0]

    @contextmanager
    def selected(device):
        present.append(device.index)
        yield
        present.pop()

    of = {0: SimpleNamespace(major=7), 1: SimpleNamespace(major=8)}
    monkeypatch.setattr(torch.cuda, "device", selected)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: present[-1])
    monkeypatch.setattr(torch.cuda, "get_device_properties", of.get)
    assert [model_dtypes(f"cuda:{n}")["vae"] for n in (0, 1)] == [FULL, WIDE]


@pytest.mark.parametrize(("supported", "unet"), [(True, WIDE), (False, FULL)])
def test_a_cpu_uses_bfloat16_where_it_has_instructions_for_it(supported, unet, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    kinds = model_dtypes("cpu")
    assert kinds["unet"] == kinds["vae"] == kinds["trajectory_adapter"] == unet
    assert kinds["s2d"] == kinds["image_encoder"] == FULL


def test_apples_gpus_compute_in_full_precision():
    assert set(model_dtypes("mps").values()) == {FULL}


# Landmark images


def test_a_faces_lines_are_drawn_once_for_all_windows_and_steps(monkeypatch):
    drawings, drawn = [], draw.drawn_landmarks

    def noted(landmarks, size):
        drawings.append(len(landmarks))
        return drawn(landmarks, size)

    models, image = tiny.models(), torch.rand(1, 3, 64, 64)
    landmarks = 64 * torch.rand(7, 68, 2)
    wanted = draw.landmark_images(landmarks, (64, 64))
    monkeypatch.setattr(draw, "drawn_landmarks", noted)
    layer = layers.MotionLayer("landmark", torch.zeros(6, 2, 64, 64), landmarks=landmarks)
    control = layers.adapter_control(models, layer, image)
    for frames in ([0, 1, 2], [0, 3, 4], [0, 5, 6], [0, 1, 2]):
        images = control.conditioning.landmarks(frames)
        assert torch.equal(images[0], wanted[frames])
    assert drawings == [7]


# Memory


@pytest.fixture
def released_vae():
    """What memory depends on: the published VAE's widths, and a format."""
    widths = SimpleNamespace(block_out_channels=(128, 256, 512, 512))
    vae = SimpleNamespace(config=widths)
    return lambda dtype: SimpleNamespace(vae=vae, decoder_dtype=dtype, cell=8)


@pytest.mark.parametrize(
    ("free", "dtype", "frames"),
    [(6.5, FULL, 2), (14, FULL, 6), (14, WIDE, 12), (40, FULL, 18), (0.1, FULL, 1)],
)
def test_as_many_frames_are_decoded_at_once_as_fit_beside_the_model(
    free, dtype, frames, released_vae, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(free * GIB) - 1000, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2000)
    latents = SimpleNamespace(device=torch.device("cuda"), shape=(1, 25, 4, 64, 112))
    assert frames_that_fit(released_vae(dtype), latents) == frames


def test_decoding_one_frame_never_keeps_more_maps_than_are_counted_on():
    models, latents = tiny.models(), torch.randn(1, 4, 4, 8, 8)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        next(decode(models, latents, chunk=4))
    events = seen.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    most = max(itertools.accumulate(nbytes for _, nbytes in changes))
    frame = models.vae.config.block_out_channels[0] * 64 * 64 * models.vae.dtype.itemsize
    assert 4 < most / (4 * frame) < 10


# Clips that are no clips


def test_what_is_not_finite_is_said_and_not_shown(monkeypatch):
    models = tiny.models()
    broken = torch.full((1, 2, 4, 8, 8), torch.nan)
    with pytest.raises(InputError, match=r"\(computed in torch.float32\) has NaN or infinite"):
        next(decode(models, broken))
