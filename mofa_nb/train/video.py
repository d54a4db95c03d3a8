"""Train the base video model and the adapters on clips with flow (paper section 3.4)."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from accelerate import PartialState
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mofa_nb.adapter.adapter import Adapter, Conditioning, moved_pictures
from mofa_nb.adapter.unet import Residuals
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.config import Settings
from mofa_nb.flow.warp import disoccluded
from mofa_nb.sampling.denoise import image_token
from mofa_nb.train import objective
from mofa_nb.train.job import Job
from mofa_nb.train.objective import Clips
from mofa_nb.train.sources import Stored, in_bytes

Flow = Float[Tensor, "B steps 2 H W"]  # pixels, frame 0 -> frame t
Films, Seen = Float[Tensor, "B T 3 H W"], Bool[Tensor, "B steps 1 H W"]
Masks, Places = Float[Tensor, "B steps 1 h w"], Int[Tensor, "B 2"]  # of any resolution; cells
Parts = Mapping[str, nn.Module]
LEAST_HIGH, MOST_HIGH = 20.0, 80.0  # noise levels where sampling begins
RELEASED_IDS, RELEASED_NOISE = (6.0, 0.02, 127.0), 0.02  # of the original's training (SPEC 6.2)
MASK_WEIGHT = 0.1  # of the occlusion masks' cross-entropy beside the denoising loss


class Core(nn.Module):
    """Adapter and UNet as one function of tensors, which can be captured as a CUDA graph."""

    def __init__(self, adapter: nn.Module, unet: nn.Module):
        super().__init__()
        self.adapter, self.unet = adapter, unet

    def forward(
        self, latents: Float[Tensor, "B T C h w"], timestep: Float[Tensor, " B"],
        token: Float[Tensor, "B 1 D"], ids: Float[Tensor, "B 3"], keep: Float[Tensor, " B"],
        *conditioning: Tensor,
    ) -> Float[Tensor, "B T Co h w"]:  # fmt: skip
        """v-prediction; residuals of sample k are multiplied by keep[k], and `conditioning` are the
        warped features per level and the embedded landmarks, if any."""
        levels, inputs = len(self.adapter.config.strides), (latents, timestep, token, ids)
        landmarks = conditioning[levels] if len(conditioning) > levels else None
        no_flow = latents[:, 1:, :2]  # the encoder copy never looks at it
        condition = Conditioning(no_flow, (), conditioning[:levels], landmarks)
        residuals = self.adapter(*inputs, condition)
        factor = keep.repeat_interleave(latents.shape[1]).view(-1, 1, 1, 1).to(latents)
        down = tuple(value * factor for value in residuals.down)
        return self.unet(*inputs, Residuals(down, residuals.mid * factor))


def as_seen(pixels: Tensor, as_released: bool) -> Tensor:
    """Pixels in [0, 1] as networks are given them: in [-1, 1], or `as_released` as they are."""
    return pixels if as_released else pixels * 2 - 1


@torch.no_grad()
def encode_clips(vae: nn.Module, frames: Films, settings: Settings, as_released=False) -> Stored:
    """What the frozen VAE makes of frames in [0, 1], `as_seen`, in float16: scaled `latents`
    [B, T, C, h, w], and (not `as_released`, whose first frame is noisy as the clip is)
    `image_latents` [B, C, h, w] of the slightly noisy first frame, unscaled."""
    frames, image = as_seen(frames, as_released), {}
    if not as_released:
        noisy = frames[:, 0] + settings.noise_aug * torch.randn_like(frames[:, 0])
        image["image_latents"] = vae.encode(noisy.to(vae.dtype)).latent_dist.mode().half()
    clips = [vae.encode(clip.to(vae.dtype)).latent_dist.mode() for clip in frames]
    return image | {"latents": (torch.stack(clips).float() * vae.config.scaling_factor).half()}


def prepare_clips(
    parts: Parts, batch: SceneBatch, given: Flow, settings: Settings, as_released: bool = False
) -> Stored:
    """Clips as `VideoLoss` takes them: what frozen parts make of them is made once."""
    first = {"first": in_bytes(batch.frames[:, 0]), "given": given.half()}
    return encode_clips(parts["vae"], batch.frames, settings, as_released) | first


@torch.no_grad()
def moved_clips(batch: SceneBatch, given: Flow) -> Films:
    """First frames in [0, 1] as the given flow moves them, their holes filled."""
    steps = range(1, given.shape[1] + 1)
    return ((moved_pictures(batch.frames[:, 0] * 2 - 1, given.float(), steps) + 1) / 2).clamp(0, 1)


def foreseeable(batch: SceneBatch, given: Flow, moved: Films) -> Films:
    """Clips that follow from the first frame and the given flow: the film where that is its own,
    what it uncovers included, else the moved first frame."""
    own = (given.float() - batch.flow).abs().amax((1, 2, 3, 4)) < 0.05  # flow kept in half floats
    shown = torch.where(own.view(-1, 1, 1, 1, 1), batch.frames[:, 1:], moved)
    return torch.cat([batch.frames[:, :1], shown], dim=1)


@torch.no_grad()
def uncovered_share(flow: Flow, visible: Seen, cells: int) -> Masks:
    """How much of each square of `cells` pixels shows what the first frame did not."""
    fresh = torch.cat([disoccluded(*clip) for clip in zip(flow, visible, strict=True)])
    return F.avg_pool2d(fresh.float(), cells).unflatten(0, flow.shape[:2])


class VideoLoss:
    """The denoising loss of UNet + adapter, for a `free_share` of samples without residuals, which
    keeps the base able to run free."""

    def __init__(self, job: Job, parts: Parts, adapter: Adapter, settings: Settings, free: float):
        self.job, self.parts, self.adapter, self.settings = job, parts, adapter, settings
        self.free_share, self.run = free, None

    def __call__(self, clips: Stored) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of prepared clips; for an adapter that moves pictures with these (`moved`,
        bytes), for a landmark adapter with the landmark `images` (bytes) and what is `uncovered`,
        which teaches its occlusion masks; CLIP's `token` is made here where it is not given."""
        first, dtype = clips["first"].float() / 255, self.parts["unet"].dtype
        if (token := clips.get("token")) is None:
            token = image_token(self.parts["image_encoder"], first)
        marks = clips["images"].to(dtype) / 255 if "images" in clips else None
        seen = lambda pixels: as_seen(pixels, self.job.as_released).to(dtype)  # noqa: E731
        pictures = (lambda _: seen(clips["moved"] / 255)) if "moved" in clips else None
        reference = self.adapter.reference(seen(first), clips["given"].float(), marks, pictures)
        part = self._part(clips)
        conditioning = self.adapter.window(reference, range(clips["latents"].shape[1]), part)
        latents = part(clips["latents"].float())
        maps = conditioning.warped
        if conditioning.landmarks is not None:
            maps = (*maps, conditioning.landmarks)
        count, device = len(latents), latents.device
        sigmas = self._noise_levels(count, device)
        noise, ids = torch.randn_like(latents), self.settings.time_ids
        if self.job.as_released:
            image = latents[:, 0] + RELEASED_NOISE * noise[:, 0]
            image, ids = image / self.parts["vae"].config.scaling_factor, RELEASED_IDS
        else:
            image = part(clips["image_latents"].float())
        noisy, scaled, timestep = objective.add_noise(latents, noise, sigmas)
        uniform = torch.rand(count, device=device)
        keep_token, keep_image = objective.condition_dropout(uniform, self.job.drop_rate)
        image = (image * keep_image.view(-1, 1, 1, 1))[:, None]
        image = image.expand(-1, latents.shape[1], -1, -1, -1)
        inputs = (
            torch.cat([scaled, image], dim=2).to(dtype),
            timestep,
            (token * keep_token.view(-1, 1, 1)).to(dtype),
            torch.tensor(ids, device=device).expand(count, -1).contiguous(),
            (torch.rand(count, device=device) >= self.free_share).float(),
            *(level.contiguous() for level in maps),
        )
        losses = objective.loss(self._predict(inputs), noisy, latents, sigmas)
        high = (sigmas >= LEAST_HIGH).float()
        extras = {"high": (losses * high).sum() / high.sum().clamp(min=1)}
        if "uncovered" not in clips:
            return losses.mean(), extras
        masks = mask_loss(conditioning.occlusion, part(clips["uncovered"].float()))
        return losses.mean() + MASK_WEIGHT * masks, extras | {"masks": masks}

    def _part(self, clips: Stored) -> Callable[[Tensor], Tensor]:
        """What cuts the part of each clip, out of a map at any level, that is trained on now."""
        if not (cells := self.job.cells):
            return lambda whole: whole
        latents, strides = clips["latents"].float(), self.adapter.config.strides
        places = busy_places(latents, cells, strides[-1] // strides[0], clips.get("uncovered"))
        return lambda whole: cut(whole, places, cells, latents.shape[-1])

    def _noise_levels(self, count: int, device: torch.device) -> Tensor:
        """The release's, or SVD_Xtend's; for a share of samples even in the logarithm of where
        sampling begins: there the whole frame is to be told from image and motion alone."""
        if self.job.log_normal:
            return torch.exp(0.7 + 1.6 * torch.randn(count, device=device))
        sigmas = objective.sigma(objective.spread(torch.rand(count, device=device)))
        sigmas = sigmas[torch.randperm(count, device=device)]
        high = LEAST_HIGH * (MOST_HIGH / LEAST_HIGH) ** torch.rand(count, device=device)
        return high.where(torch.rand(count, device=device) < self.job.high_share, sigmas)

    def _predict(self, inputs: tuple[Tensor, ...]) -> Tensor:
        on_card = inputs[0].is_cuda
        if self.run is None:
            self.run = Core(self.adapter, self.parts["unet"])
            if on_card and PartialState().num_processes == 1 and not torch.is_autocast_enabled():
                # Forward and backward are captured once, so that a step costs no launches.
                like = tuple(torch.zeros_like(v).requires_grad_(v.requires_grad) for v in inputs)
                graphed = torch.cuda.make_graphed_callables
                self.run = graphed(self.run, like, allow_unused_input=True)
        if on_card:
            return self.run(*inputs).float()
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernel's gradient takes longer on a CPU
            return self.run(*inputs).float()


def busy_places(latents: Clips, cells: int, unit: int, uncovered: Masks | None = None) -> Places:
    """Row and column of a square part of each clip, `cells` wide on the latent grid, drawn where
    frames differ most from the first, and as often where they show what that did not; in multiples
    of `unit`, so that the part is whole at every level."""
    busy = 0
    for change in ((latents[:, 1:] - latents[:, :1]).square(), uncovered):
        if change is not None:
            sums = F.avg_pool2d(change.mean((1, 2))[:, None].float(), cells, unit)
            busy = busy + sums / sums.sum((2, 3), keepdim=True).clamp(min=1e-9)
    index = torch.multinomial(busy.flatten(1) + 1e-6, 1)[:, 0]
    columns = busy.shape[-1]
    return torch.stack([index // columns, index % columns], 1) * unit


def cut(
    whole: Float[Tensor, "B *any h w"], places: Places, cells: int, grid: int
) -> Float[Tensor, "B *any c c"]:
    """The part of each clip's map, of any resolution; `grid` cells of its width are counted on."""
    parts = []
    for clip, place in zip(whole, places.tolist(), strict=True):
        top, left, side = (n * clip.shape[-1] // grid for n in (*place, cells))
        parts.append(clip[..., top : top + side, left : left + side])
    return torch.stack(parts)


def mask_loss(masks: Sequence[Masks], uncovered: Masks) -> Float[Tensor, ""]:
    """Cross-entropy of occlusion masks, 1 where the warp is kept, against what is uncovered."""
    covered, losses = 1 - uncovered.flatten(0, 1), []
    for mask in masks:
        wanted = F.adaptive_avg_pool2d(covered, mask.shape[-2:])
        given = mask.flatten(0, 1).float().clamp(1e-4, 1 - 1e-4)
        losses.append(F.binary_cross_entropy(given, wanted))
    return torch.stack(losses).mean()


def stir_zero_convolutions(adapter: nn.Module, scale: float = 0.5) -> None:
    """Give zero-initialised convolutions small values. On a pretrained base zeros are right: the
    adapter starts by changing nothing. From nothing they only delay the first steps."""
    for module in adapter.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            module.weight.data.mul_(scale)


@torch.no_grad()
def start_as(landmark: Adapter, trajectory: Adapter) -> None:
    """Let a fresh landmark adapter begin as the trajectory adapter of the same base. The 1x1
    convolutions behind the pyramid move behind the warp, where they do the same; occlusion masks
    begin nearly open; the landmark images begin without a say."""
    landmark.load_state_dict(trajectory.state_dict(), strict=False)
    finest, *coarser = map(str, landmark.config.strides)
    nn.init.dirac_(landmark.zero_outs[finest].weight)
    for stride, conv in zip(coarser, trajectory.flow_encoder.zeroconvs, strict=True):
        landmark.zero_outs[stride].load_state_dict(conv.state_dict())
    for net in landmark.occlusions.values():
        nn.init.constant_(net.matting_mask.bias, 3.0)
        net.matting_mask.weight.mul_(0.1)
        net.matting.weight.mul_(0.1)


@torch.no_grad()
def start_as_unet(adapter: Adapter, unet: nn.Module) -> None:
    """Begin as the original does: a copy of the UNet's encoder behind zero convolutions, but for
    the MLP of the added ids (SPEC 6.4)."""
    for name in ("conv_in", "time_embedding", "down_blocks", "mid_block"):
        getattr(adapter, name).load_state_dict(getattr(unet, name).state_dict())
