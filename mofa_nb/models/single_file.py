"""Stable Video Diffusion as one file, whose names of tensors diffusers does not know. Each of our
names is turned into the file's, so that a strict load tells what a file lacks."""

import re
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor

from mofa_nb.models import weights

NAMES = ("svd_xt_1_1.safetensors", "svd_xt.safetensors")
# Configs of SVD-XT 1.0 and 1.1, which the file does not hold; else the classes' own defaults.
SIZES: dict[str, dict[str, Any]] = {
    "unet": {"sample_size": 96},
    "vae": dict(
        block_out_channels=[128, 256, 512, 512], down_block_types=["DownEncoderBlock2D"] * 4,
        layers_per_block=2, sample_size=768,
    ),
    "image_encoder": dict(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
        patch_size=14, projection_dim=1024, hidden_act="gelu",
    ),
}  # fmt: skip
SCHEDULER = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
    prediction_type="v_prediction", use_karras_sigmas=True, sigma_min=0.002, sigma_max=700.0,
    timestep_type="continuous", timestep_spacing="leading",
)  # fmt: skip

_UNET, _DECODER = "model.diffusion_model.", "first_stage_model."
_CLIP = "conditioner.embedders.0.open_clip.model.visual."
# SVD encodes the photograph by a copy of its own, which kept the last convolution.
_ENCODERS = ("conditioner.embedders.3.encoder.", "first_stage_model.")
# Pairs of our text and the file's ("-": none), replaced one after the other.
_MIXED = "spatial_res_block. - temporal_res_block. time_stack."
_LAYERS = "norm1. in_layers.0. conv1. in_layers.2. norm2. out_layers.0. conv2. out_layers.3."
_PAIRS = {
    "unet": """
        time_embedding.linear_1 time_embed.0 time_embedding.linear_2 time_embed.2
        add_embedding.linear_1 label_emb.0.0 add_embedding.linear_2 label_emb.0.2
        conv_in input_blocks.0.0 conv_norm_out out.0 conv_out out.2 .op.conv .op
        temporal_transformer_blocks time_stack time_pos_embed.linear_1 time_pos_embed.0
        time_pos_embed.linear_2 time_pos_embed.2 time_emb_proj emb_layers.1
        conv_shortcut skip_connection""",
    "vae": """
        mid_block.attentions.0. mid.attn_1. group_norm norm to_out.0 proj_out attn_1.to_ attn_1.
        mid_block.resnets.0 mid.block_1 mid_block.resnets.1 mid.block_2 resnets block
        down_blocks down up_blocks.0 up.3 up_blocks.1 up.2 up_blocks.2 up.1 up_blocks.3 up.0
        downsamplers.0 downsample upsamplers.0 upsample conv_norm_out norm_out time_mixer. -
        time_conv_out conv_out.time_mix_conv conv_shortcut nin_shortcut""",
    "image_encoder": """
        visual_projection.weight proj vision_model.embeddings. - vision_model.encoder. -
        vision_model. - patch_embedding conv1 position_embedding.weight positional_embedding
        pre_layrnorm ln_pre post_layernorm ln_post layers. transformer.resblocks. layer_norm ln_
        mlp.fc1 mlp.c_fc mlp.fc2 mlp.c_proj q_proj. in_proj_ k_proj. in_proj_ v_proj. in_proj_
        self_attn attn""",
}
_BLOCK = r"^(down_blocks|mid_block|up_blocks)\.(?:(\d)\.)?(resnets|attentions|\w+samplers)\.(\d)"


def part_state(part: str, state: weights.State, config: weights.Sizes) -> dict[str, Tensor]:
    """The tensors of "unet", "vae" or "image_encoder" in a file, by our names. A UNet's tensors
    that already have our names, and those that nothing here knows, keep theirs."""
    if part == "unet" and not any(key.startswith(_UNET) for key in state):
        return dict(state)
    with init_empty_weights():
        wanted = weights.build(part, config).state_dict()
    names = {key: next((n for n in _names(part, key) if n in state), None) for key in wanted}
    tensors = {key: _fitted(key, state[n], wanted[key].shape) for key, n in names.items() if n}
    if part == "vae" and names["encoder.conv_out.bias"] and not names["quant_conv.bias"]:
        tensors["quant_conv.bias"] = torch.zeros(wanted["quant_conv.bias"].shape)
        tensors["quant_conv.weight"] = torch.eye(len(tensors["quant_conv.bias"]))[..., None, None]
    unknown = state.keys() - set(names.values()) if part == "unet" else ()
    return tensors | {name: state[name] for name in unknown if name.startswith(_UNET)}


def _names(part: str, key: str) -> list[str]:
    """What a tensor of ours may be called in the file, best first."""
    pairs = _PAIRS[part].split()
    if (part == "unet" and ".resnets." in key) or "temporal_res_block" in key:
        pairs = [*_LAYERS.split(), *pairs]
    name = re.sub(_BLOCK, _place, key) if part == "unet" else key
    pairs = [*_MIXED.split(), *pairs]
    for ours, theirs in zip(pairs[::2], pairs[1::2], strict=True):
        name = name.replace(ours, theirs.strip("-"))
    encoders = _ENCODERS if not key.startswith("decoder") else (_DECODER,)
    prefixes = {"unet": (_UNET,), "vae": encoders, "image_encoder": (_CLIP,)}[part]
    return [prefix + name for prefix in prefixes]


def _place(match: re.Match) -> str:
    """Where a layer lies in the file's flat lists of blocks."""
    side, block, kind, layer = match[1], int(match[2] or 0), match[3], int(match[4])
    if side == "mid_block":
        return f"middle_block.{1 if kind == 'attentions' else 2 * layer}"
    if kind == "downsamplers":
        return f"input_blocks.{3 * block + 3}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{3 * block + 2}.{2 if block else 1}"
    down = side == "down_blocks"  # its list begins with the first convolution
    place = f"{'input' if down else 'output'}_blocks.{3 * block + layer + down}"
    return f"{place}.{int(kind == 'attentions')}"


def _fitted(key: str, value: Tensor, shape: torch.Size) -> Tensor:
    """In our shape: queries, keys and values lie in one tensor, the projection transposed."""
    if third := re.search(r"self_attn\.([qkv])_proj", key):
        return value.chunk(3)["qkv".index(third[1])]
    if key == "visual_projection.weight":
        return value.T.contiguous()
    return value.reshape(shape) if value.numel() == shape.numel() else value
