"""Small coders in the VAE's place, and what is learnt from the VAE on pictures alone."""

from dataclasses import replace

import pytest
import tiny
import torch

from mofa_nb.checks import InputError
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.config import CoderConfig
from mofa_nb.models.load import load_models
from mofa_nb.models.small_vae import SmallDecoder, SmallEncoder
from mofa_nb.models.weights import build, save_part
from mofa_nb.sampling.anchor import anchoring
from mofa_nb.sampling.denoise import decode
from mofa_nb.train.video import foreseeable


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fold, widths", [(4, (16, 8, 8)), (8, (16, 8)), (2, (8,))])
@torch.no_grad()
def test_coders_fold_as_many_pixels_as_the_latents_cells_have(fold, widths):
    config = CoderConfig(widths, (1,) * len(widths), latent_channels=4, fold=fold)
    latents = SmallEncoder(config)(random(2, 3, 48, 64))
    assert latents.shape == (2, 4, 48 // fold, 64 // fold)
    assert SmallDecoder(config)(latents).shape == (2, 3, 48, 64)


@pytest.mark.parametrize(
    "sizes", [{"widths": ()}, {"depths": (1,)}, {"fold": 6}, {"fold": 2}, {"fold": 0}]
)
@pytest.mark.parametrize("part", ["small_encoder", "small_decoder"])
def test_levels_that_do_not_make_the_fold_are_refused(part, sizes):
    with pytest.raises(InputError, match=r"config does not .*one number for each level of a fold"):
        build(part, CoderConfig().to_dict() | sizes)


@torch.no_grad()
def test_a_folders_small_coders_take_the_vaes_place(tmp_path):
    model = tiny.write_folder(tmp_path)
    plain = load_models(model, "cpu")
    assert plain.small_encoder is None and plain.small_decoder is None
    for name, config in tiny.CODERS.items():
        save_part(name, build(name, config), config, model / name, torch.float32)
    models = load_models(model, "cpu", dict.fromkeys([*tiny.FOLDER, *tiny.CODERS], torch.float32))
    latents = random(1, 5, 4, 8, 8)
    frames = torch.cat(list(decode(models, latents, chunk=3, context=1)))
    torch.testing.assert_close(frames, models.small_decoder(latents[0]))
    image, flow = random(1, 3, 32, 32).tanh(), torch.zeros(1, 2, 2, 32, 32)
    still = anchoring(models, image, flow)(range(3)).latents[0]
    torch.testing.assert_close(still[:1], models.small_encoder(image))
    assert models.hash != plain.hash


def test_a_clip_foretold_shows_the_film_only_where_picture_and_flow_tell_it():
    film, moved = torch.full((2, 2, 3, 8, 8), 0.8), torch.full((2, 1, 3, 8, 8), 0.2)
    flow = torch.zeros(2, 1, 2, 8, 8)
    flow[:, :, 0] = 3  # what comes in from the left is new
    batch = SceneBatch(film, flow, torch.ones(2, 1, 1, 8, 8) > 0, torch.zeros(2, 8, 8).long())
    given = flow.clone()
    given[1] += 1  # made by a network, say
    made = foreseeable(batch, given, moved)
    assert torch.equal(made[:, 0], film[:, 0])
    assert torch.equal(made[0, 1, :, :, :3], moved[0, 0, :, :, :3])
    assert torch.equal(made[0, 1, :, :, 3:], film[0, 1, :, :, 3:])
    assert torch.equal(made[1, 1], moved[1, 0])
    again = foreseeable(batch, replace(batch, flow=flow.half()).flow, moved)
    assert torch.equal(again[0], made[0])  # flow is kept in half floats
