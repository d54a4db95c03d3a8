"""Train on pictures: the VAE, its small coders, and an adapter's embedder."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

JITTER = 0.05  # of scaled latents: a decoder is given what networks make, not what a VAE makes
Losses = tuple[Tensor, dict[str, Tensor]]  # what is minimised, and figures for the log


def vae_loss(vae: nn.Module, frames: Float[Tensor, "B T 3 H W"], kl_weight: float = 1e-5) -> Losses:
    """`picture_loss` of what comes back of frames in [0, 1], and a slight pull to unit latents."""
    pixels = frames.flatten(0, 1) * 2 - 1
    posterior = vae.encode(pixels.to(vae.dtype)).latent_dist
    decoded = vae.decode(posterior.sample(), num_frames=frames.shape[1]).sample
    loss, extras = picture_loss(decoded.float(), pixels)
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    return loss + kl_weight * kl, extras


def coder_loss(parts: Mapping[str, nn.Module], pictures: Float[Tensor, "B 3 H W"]) -> Losses:
    """A small encoder gives the VAE's latents, a small decoder the pictures, in [0, 1], behind."""
    pixels = pictures * 2 - 1
    latents = scaled_latents(parts["vae"], pixels)
    missed = F.mse_loss(parts["small_encoder"](pixels).float(), latents) / latents.var()
    told = latents + JITTER * torch.randn_like(latents)
    loss, extras = picture_loss(parts["small_decoder"](told).float(), pixels)
    return loss + missed, extras | {"missed": missed}


def embedder_loss(parts: Mapping[str, nn.Module], pictures: Float[Tensor, "B 3 H W"]) -> Losses:
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


def picture_loss(decoded: Float[Tensor, "B 3 H W"], pixels: Float[Tensor, "B 3 H W"]) -> Losses:
    """Errors of pixels, of their differences and of local contrast, in [-1, 1]. The first two alone
    make everything soft that the latents do not tell exactly; the third asks for as much fine
    detail as there was, wherever it stands."""
    square = F.mse_loss(decoded, pixels)
    error = F.l1_loss(decoded, pixels) + 2 * square
    edges = sum(F.l1_loss(decoded.diff(dim=d), pixels.diff(dim=d)) for d in (-1, -2))
    made, wanted = local_contrast(decoded), local_contrast(pixels)
    contrast = F.l1_loss(made, wanted)
    psnr = -10 * torch.log10(square.detach() / 4)
    energy = made.detach().square().mean() / wanted.square().mean()
    return error + 0.3 * edges + 6 * contrast, {"psnr": psnr, "energy": energy}


def local_contrast(images: Float[Tensor, "B 3 H W"], window: int = 5) -> Float[Tensor, "B 3 h w"]:
    """Root mean square of the gradient in every `window`."""
    across = images.diff(dim=-1)[..., :-1, :].square()
    down = images.diff(dim=-2)[..., :-1].square()
    return (F.avg_pool2d(across + down, window, stride=1) + 1e-5).sqrt()


def photo_crops(
    photos: UInt8[Tensor, "P 3 S S"], count: int, size: tuple[int, int]
) -> Float[Tensor, "N 3 H W"]:
    """`count` crops in [0, 1]: random places, scales, flips, gains.

    A crop shows its own size of the photograph at full resolution, up to twice that shrunk.
    """
    device, side = photos.device, photos.shape[-1]
    chosen = photos[torch.randint(len(photos), (count,), device=device)].float() / 255
    theta = torch.zeros(count, 2, 3, device=device)
    least = max(size) / side
    zoom = least + (min(2 * least, 1.0) - least) * torch.rand(count, device=device) ** 2
    flip = torch.randint(0, 2, (count,), device=device) * 2 - 1
    theta[:, 0, 0] = zoom * size[1] / max(size) * flip
    theta[:, 1, 1] = zoom * size[0] / max(size)
    theta[:, :, 2] = (torch.rand(count, 2, device=device) * 2 - 1) * (1 - zoom[:, None])
    fine = (count, 3, 2 * size[0], 2 * size[1])
    grid = F.affine_grid(theta, list(fine), align_corners=False)
    crops = F.grid_sample(chosen, grid, padding_mode="reflection", align_corners=False)
    crops = F.avg_pool2d(crops, 2)
    gain = 1 + 0.2 * (torch.rand(count, 3, 1, 1, device=device) - 0.5)
    return (crops * gain).clamp(0, 1)
