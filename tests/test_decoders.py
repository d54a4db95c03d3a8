"""Decoders: TAESD for previews, frames alone; distilled clips."""

import json

import numpy as np
import pytest
import released
import tiny
import torch
from diffusers import AutoencoderTiny
from tiny import random

from mofa_nb.checks import InputError
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.models.checkpoints import find_release
from mofa_nb.models.load import load_models
from mofa_nb.motion import Motion
from mofa_nb.pipeline.session import Session
from mofa_nb.sampling.denoise import decode
from mofa_nb.train.video import foreseeable


@torch.no_grad()
def test_frames_decoded_alone_are_as_if_the_vae_had_one_frame_at_a_time(tmp_path):
    model = tiny.write_folder(tmp_path)
    vae = load_models(model, "cpu", tiny.FLOAT32).vae
    settings = json.loads((model / "settings.json").read_text()) | {"decode_alone": True}
    (model / "settings.json").write_text(json.dumps(settings))
    models, latents = load_models(model, "cpu", tiny.FLOAT32), random(1, 5, 4, 8, 8)
    frames = torch.cat(list(decode(models, latents, chunk=3)))
    scaled = latents[0] / vae.config.scaling_factor
    wanted = torch.cat([vae.decode(each[None], num_frames=1).sample for each in scaled])
    torch.testing.assert_close(frames, wanted, atol=1e-5, rtol=1e-4)
    assert (frames - vae.decode(scaled, num_frames=5).sample).abs().max() > 1e-3


def write_taesd(folder, levels=3):
    """A tiny one, as diffusers stores it; the published one has four levels of 64 channels."""
    torch.manual_seed(1)
    wide = {f"{side}coder_block_out_channels": (8,) * levels for side in ("en", "de")}
    deep = {f"num_{side}coder_blocks": (1,) * levels for side in ("en", "de")}
    AutoencoderTiny(**wide, **deep, latent_channels=4).save_pretrained(folder / "taesd")


def test_previews_are_taesds_and_clips_are_not(tmp_path):
    model = tiny.write_folder(tmp_path)
    clips, hashes = {}, []
    for name in ("without", "with"):
        session = Session(load_models(model, "cpu"))
        session.set_image(np.full((64, 64, 3), 120, np.uint8))
        steps = session.animate_steps(Motion((64, 64)), steps=2, preview_every=1)
        clips[name] = [step.preview for step in steps]
        hashes.append(session.models.hash)
        write_taesd(model)
    models = session.models
    (before, plain), (preview, clip) = clips.values()
    assert np.array_equal(plain, clip) and not np.array_equal(before, preview)
    assert hashes[0] == hashes[1]
    latents = random(1, 2, 4, 16, 16)
    (frames,) = decode(models, latents, preview=True)
    wanted = models.taesd.decode(latents[0].to(models.taesd.dtype)).sample.float()
    torch.testing.assert_close(frames, wanted)
    write_taesd(model, levels=2)
    with pytest.raises(InputError, match="the taesd of the toy model does not fit"):
        load_models(model, "cpu")


def test_taesd_beside_published_checkpoints_is_found(tmp_path):
    released.write_tiny(tmp_path)
    assert "taesd" not in find_release(tmp_path, tiny.FLOAT32).weights
    write_taesd(tmp_path)
    found = find_release(tmp_path, tiny.FLOAT32)
    assert found.configs["taesd"] == found.weights["taesd"].parent == tmp_path / "taesd"


def test_a_clip_foretold_shows_the_film_only_where_its_own_flow_was_given():
    film, moved = torch.full((2, 2, 3, 8, 8), 0.8), torch.full((2, 1, 3, 8, 8), 0.2)
    flow = torch.full((2, 1, 2, 8, 8), 3.1)
    batch = SceneBatch(film, flow, torch.ones(2, 1, 1, 8, 8) > 0, torch.zeros(2, 8, 8).long())
    given = flow.half().float()  # as it is kept
    given[1] += 1  # made by a network, say
    made = foreseeable(batch, given, moved)
    assert torch.equal(made[0], film[0])
    assert torch.equal(made[1, 0], film[1, 0]) and torch.equal(made[1, 1], moved[1, 0])
