"""Train what is learnt from the VAE on pictures alone: small coders, and an adapter's embedder."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mofa_nb.train.vae import picture_loss

JITTER = 0.05  # of scaled latents: a decoder is given what networks make, not what a VAE makes


def coder_loss(
    parts: Mapping[str, nn.Module], pictures: Float[Tensor, "B 3 H W"]
) -> tuple[Tensor, dict[str, Tensor]]:
    """A small encoder gives the VAE's latents, a small decoder the pictures behind them.

    Args:
        parts: vae, small_encoder and small_decoder.
        pictures: in [0, 1].
    """
    pixels = pictures * 2 - 1
    latents = scaled_latents(parts["vae"], pixels)
    missed = F.mse_loss(parts["small_encoder"](pixels).float(), latents) / latents.var()
    told = latents + JITTER * torch.randn_like(latents)
    loss, extras = picture_loss(parts["small_decoder"](told).float(), pixels)
    return loss + missed, extras | {"missed": missed}


def embedder_loss(
    parts: Mapping[str, nn.Module], pictures: Float[Tensor, "B 3 H W"]
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the finest features of an adapter keep of what the VAE tells about a picture."""
    pixels = pictures * 2 - 1
    features = parts["adapter"].controlnet_cond_embedding(pixels)
    missed = unexplained(features, scaled_latents(parts["vae"], pixels))
    return missed, {"missed": missed}


def unexplained(
    features: Float[Tensor, "B C h w"], latents: Float[Tensor, "B K h w"]
) -> Float[Tensor, ""]:
    """Share of the latents' variance that the best linear read-out of the features leaves."""
    given, wanted = (m.float().movedim(1, -1).flatten(0, 2) for m in (features, latents))
    given = torch.cat([given, torch.ones_like(given[:, :1])], dim=1)
    with torch.no_grad():  # at the best read-out its own gradient is zero
        square = given.T @ given
        ridge = 1e-6 * square.diagonal().mean() * torch.eye(len(square), device=given.device)
        readout = torch.linalg.solve(square + ridge, given.T @ wanted)
    rest = wanted - wanted.mean(dim=0)
    return (wanted - given @ readout).square().sum() / rest.square().sum()


@torch.no_grad()
def scaled_latents(vae: nn.Module, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
    """The VAE's modes, as the networks take them."""
    mode = vae.encode(pixels.to(vae.dtype)).latent_dist.mode()
    return mode.float() * vae.config.scaling_factor
