"""The video UNet beyond its recorded numbers (parity_core): batches, and its blocks."""

import copy
from contextlib import nullcontext

import pytest
import tiny
import torch
from diffusers import AutoencoderKLTemporalDecoder
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from tiny import random

from mofa_nb.adapter.blocks import OneTokenAttention, ResBlock
from mofa_nb.adapter.unet import (
    Residuals,
    VideoUNet,
    residual_counts,
)
from tests.benchmarks.card_clip import stock_blocks
from tests.benchmarks.work import Work


@torch.no_grad()
def test_each_video_of_a_batch_has_its_own_timestep_and_does_not_see_the_other():
    unet, ids = tiny.part("unet"), torch.tensor([[6.0, 128.0, 0.02], [7.0, 100.0, 0.1]])
    given = random(2, 3, 8, 8, 16), torch.tensor([0.4, 1.6]), random(2, 1, 48, seed=1), ids
    for k, made in enumerate(unet(*given)):
        sample, time, token, own = (value[k : k + 1] for value in given)
        alone = unet(sample, time[0], token, own)[0]
        torch.testing.assert_close(made, alone, rtol=1e-4, atol=1e-5)


def test_too_few_residuals_are_refused():
    residuals = Residuals((random(3, 32, 8, 8),), random(3, 128, 1, 1))
    with pytest.raises(ValueError, match="shorter"):
        tiny.part("unet")(
            random(1, 3, 8, 8, 8), torch.ones(()), random(1, 1, 48), torch.ones(1, 3), residuals
        )


def test_a_feature_made_earlier_gets_its_residual_more_often():
    assert residual_counts(tiny.part("unet").down_blocks) == [4, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1]
    config = tiny.manifest("tiny_unet")["meta"]["config"] | {"layers_per_block": 1}
    with torch.device("meta"):
        shallow = VideoUNet(**config)
    assert residual_counts(shallow.down_blocks) == [4, 4, 4, 3, 3, 2, 2, 1]


@torch.no_grad()
def test_blocks_make_what_the_librarys_make_with_less_to_read_and_to_write():
    models = tiny.models()
    token, ids = random(2, 1, 48, seed=1), torch.tensor([[6.0, 128.0, 0.02]] * 2)
    given, made, works = (random(2, 3, 8, 16, 16), torch.tensor(0.4), token, ids), [], []
    for blocks in (stock_blocks(models), nullcontext()):
        with blocks, Work() as work:
            made.append(models.unet(*given))
        works.append(work)
    torch.testing.assert_close(*made, rtol=1e-4, atol=1e-5)
    assert works[1].bytes < 0.9 * works[0].bytes and works[1].flops < works[0].flops


@torch.no_grad()
def test_a_vaes_blocks_make_what_the_librarys_make():
    kit = tiny.part("vae")
    stock = AutoencoderKLTemporalDecoder.from_config(kit.config).eval()
    stock.load_state_dict(kit.state_dict())
    assert any(isinstance(module, ResBlock) for module in kit.modules())
    latents = random(3, 4, 8, 8)
    made = (net.decode(latents, num_frames=3).sample for net in (stock, kit))
    torch.testing.assert_close(*made, rtol=1e-4, atol=1e-4)


def test_blocks_take_mixed_formats_as_the_librarys_do_and_pass_gradients_on():
    unet = copy.deepcopy(tiny.part("unet")).requires_grad_()
    given = torch.ones(()), random(1, 1, 48), torch.ones(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        made = unet(random(1, 3, 8, 8, 8), *given)
    made.float().square().sum().backward()
    idle = {name for name, value in unet.named_parameters() if value.grad is None}
    assert {name.split(".")[-2] for name in idle} == {"norm2", "to_q", "to_k"}
    assert all("attn2" in name or "norm2" in name for name in idle)


@torch.no_grad()
@pytest.mark.parametrize(("queries", "tokens"), [(1, 6), (7, 6), (64, 6), (64, 1)])
def test_attention_to_one_token_equals_the_stock_processor(queries, tokens):
    attention = Attention(32, cross_attention_dim=48, heads=2, dim_head=16)
    attention.set_processor(AttnProcessor2_0())
    hidden, token = random(6, queries, 32), random(tokens, 1, 48, seed=1).expand(6, -1, -1)
    wanted = attention(hidden, encoder_hidden_states=token)
    attention.set_processor(OneTokenAttention())
    with Work() as work:
        ours = attention(hidden, encoder_hidden_states=token)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)
    assert ours.shape == hidden.shape
    assert work.flops == 2 * tokens * 32 * (48 + 32)  # what is alike is computed once


@torch.no_grad()
def test_only_cross_attention_is_replaced_and_needs_neither_queries_nor_keys():
    unet, touched = copy.deepcopy(tiny.part("unet")), []
    for name, processor in unet.attn_processors.items():
        assert isinstance(processor, OneTokenAttention) == (".attn2." in name), name
    for name, module in unet.named_modules():
        if name.endswith(("attn2.to_q", "attn2.to_k")):
            module.register_forward_hook(lambda *call: touched.append(call))
    unet(random(1, 3, 8, 8, 8), torch.ones(()), random(1, 1, 48), torch.ones(1, 3))
    assert not touched and ".attn2." in "".join(unet.attn_processors)


def test_gradients_pass_through_one_token_attention_and_other_numbers_are_refused():
    attention = Attention(32, cross_attention_dim=48, heads=2, dim_head=16)
    attention.set_processor(OneTokenAttention())
    token = random(2, 1, 48).requires_grad_()
    attention(random(2, 5, 32), encoder_hidden_states=token).square().sum().backward()
    assert token.grad.abs().max() > 0 and attention.to_v.weight.grad.abs().max() > 0
    for context in (None, torch.zeros(2, 3, 48)):
        with pytest.raises(ValueError, match="exactly one token"):
            attention(random(2, 5, 32), encoder_hidden_states=context)
