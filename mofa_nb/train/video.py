"""Train the base video model and the adapters on clips with flow (paper section 3.4)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mofa_nb.adapter import Conditioning
from mofa_nb.config import Settings
from mofa_nb.resize import resize_antialiased
from mofa_nb.scenes import SceneBatch
from mofa_nb.train import objective
from mofa_nb.unet import Residuals


@dataclass(frozen=True)
class VideoSample:
    """What the networks see of a batch of clips, in the convention they are used with."""

    latents: Float[Tensor, "B T C h w"]
    image_latents: Float[Tensor, "B C h w"]
    embeddings: Float[Tensor, "B 1 D"]
    first: Float[Tensor, "B 3 H W"]


class Core(nn.Module):
    """Adapter and UNet as one function of tensors: what every training step runs.

    Its fixed shapes let it be captured as a CUDA graph (`graphed`).
    """

    def __init__(self, adapter: nn.Module, unet: nn.Module):
        super().__init__()
        self.adapter, self.unet = adapter, unet

    def forward(
        self,
        model_input: Float[Tensor, "B T C h w"],
        timestep: Float[Tensor, " B"],
        token: Float[Tensor, "B 1 D"],
        ids: Float[Tensor, "B 3"],
        keep: Float[Tensor, " B"],
        *conditioning: Tensor,
    ) -> Float[Tensor, "B T Co h w"]:
        """v-prediction; residuals of sample k are multiplied by keep[k].

        Args:
            conditioning: the warped features per level, and the embedded landmarks if any.
        """
        levels = len(self.adapter.config.block_out_channels)
        landmarks = conditioning[levels] if len(conditioning) > levels else None
        no_flow = model_input[:, 1:, :2]  # the encoder copy never looks at it
        known = Conditioning(no_flow, (), conditioning[:levels], landmarks)
        residuals = self.adapter(model_input, timestep, token, ids, known)
        factor = keep.repeat_interleave(model_input.shape[1]).view(-1, 1, 1, 1)
        factor = factor.to(model_input.dtype)
        down = tuple(value * factor for value in residuals.down)
        residuals = Residuals(down, residuals.mid * factor)
        return self.unet(model_input, timestep, token, ids, residuals)


def graphed(core: Core, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Capture forward and backward on a GPU, so that a step costs no launches."""
    samples = tuple(torch.zeros_like(i).requires_grad_(i.requires_grad) for i in inputs)
    return torch.cuda.make_graphed_callables(core, samples, allow_unused_input=True)


def encode_clips(parts: Mapping[str, nn.Module], frames: Tensor, settings: Settings) -> VideoSample:
    """Frames [B, T, 3, H, W] in [0, 1] -> latents, noisy image latents and the image token."""
    vae, first = parts["vae"], frames[:, 0] * 2 - 1
    with torch.no_grad():
        latents = vae.encode(frames.flatten(0, 1).to(vae.dtype) * 2 - 1).latent_dist.mode()
        noisy = first + settings.noise_aug * torch.randn_like(first)
        image_latents = vae.encode(noisy.to(vae.dtype)).latent_dist.mode()
    latents = (latents.float() * vae.config.scaling_factor).unflatten(0, frames.shape[:2])
    encoder = parts["image_encoder"]
    side = encoder.config.image_size
    pixels = resize_antialiased(frames[:, 0], (side, side)).to(encoder.dtype)
    return VideoSample(latents, image_latents, encoder(pixels).image_embeds[:, None], first)


class VideoLoss:
    """The denoising loss of UNet + adapter.

    Args:
        parts: unet, vae, image_encoder.
        free_share: share of samples without any residuals, which keeps the base model able to
            run free; 0 when the base is frozen.
        high_share: share of samples at the noise levels where sampling begins, [5, 80] evenly in
            the logarithm: there the whole frame is to be told from image and motion alone.
    """

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        adapter: nn.Module,
        settings: Settings,
        free_share: float,
        high_share: float = 0.0,
    ):
        self.parts, self.adapter, self.settings = parts, adapter, settings
        self.free_share, self.high_share, self.run = free_share, high_share, None

    def __call__(
        self,
        batch: SceneBatch,
        flow: Float[Tensor, "B steps 2 H W"],
        landmark_images: Float[Tensor, "B T 3 H W"] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of a batch whose adapter is given `flow`."""
        sample = encode_clips(self.parts, batch.frames, self.settings)
        count, device, dtype = len(batch.frames), batch.frames.device, self.parts["unet"].dtype
        sigmas = objective.sigma(objective.stratified_uniform(count, device=device))
        sigmas = sigmas[torch.randperm(count, device=device)]
        high = 5 * 16 ** torch.rand(count, device=device)
        sigmas = high.where(torch.rand(count, device=device) < self.high_share, sigmas)
        noised = objective.add_noise(sample.latents, torch.randn_like(sample.latents), sigmas)
        keep_token, keep_image = objective.condition_dropout(torch.rand(count, device=device))
        image = sample.image_latents.float() * keep_image.view(-1, 1, 1, 1)
        image = image[:, None].expand(-1, sample.latents.shape[1], -1, -1, -1)
        marks = None if landmark_images is None else landmark_images.to(dtype)
        known = self.adapter.conditioning(sample.first.to(dtype), flow, marks)
        inputs = (
            torch.cat([noised.model_input, image], dim=2).to(dtype),
            noised.timestep,
            (sample.embeddings * keep_token.view(-1, 1, 1)).to(dtype),
            torch.tensor(self.settings.time_ids, device=device).expand(count, -1).contiguous(),
            (torch.rand(count, device=device) >= self.free_share).float(),
            *(level.contiguous() for level in known.warped),
            *(() if known.landmarks is None else (known.landmarks,)),
        )
        losses = objective.loss(self._predict(inputs), noised.noisy, sample.latents, sigmas)
        low = (sigmas < sigmas.median()).float()
        return losses.mean(), {"low": (losses * low).sum() / low.sum().clamp(min=1)}

    def _predict(self, inputs: tuple[Tensor, ...]) -> Tensor:
        if self.run is None:
            core = Core(self.adapter, self.parts["unet"])
            self.run = graphed(core, inputs) if inputs[0].is_cuda else core
        return self.run(*inputs).float()


def wake(adapter: nn.Module, scale: float = 0.5) -> None:
    """Give zero-initialised convolutions small values, for training from nothing.

    On a pretrained base zeros are right: the adapter starts by changing nothing. When base and
    adapter start together they only delay the first steps.
    """
    for module in adapter.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            module.weight.data.mul_(scale)


def landmark_controls(
    landmarks: Float[Tensor, "B T 68 2"], size: tuple[int, int]
) -> tuple[Float[Tensor, "B T 3 H W"], Bool[Tensor, "B 1 H W"]]:
    """Drawn landmark images, and the frame-0 pixels whose displacement S2D is given."""
    from mofa_nb.faces.draw import landmark_images

    height, width = size
    images = torch.stack([landmark_images(points, (width, height)) for points in landmarks.cpu()])
    x, y = landmarks[:, 0].long().unbind(-1)
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    hints = torch.zeros(len(landmarks), height * width, dtype=torch.bool, device=landmarks.device)
    hints.scatter_(1, index, True)
    return images.to(landmarks.device), hints.view(-1, 1, height, width)
