"""The video UNet is the stock one, with residuals added to what its decoder receives."""

import copy

import pytest
import tiny
import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from mofa_nb.adapter.unet import (
    OneTokenAttention,
    Residuals,
    VideoUNet,
    residual_counts,
    use_one_token_attention,
)


@pytest.fixture(scope="module")
def stock():
    """The stock UNet of diffusers with the weights of the tiny one."""
    meta = tiny.manifest("tiny_unet")["meta"]
    unet = UNetSpatioTemporalConditionModel(**meta["config"])
    unet.load_state_dict(tiny.part("unet").state_dict())
    return unet.eval()


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def given():
    """Sample, timestep, token and ids for two videos of three frames."""
    ids = torch.tensor([[6.0, 128.0, 0.02], [7.0, 100.0, 0.1]])
    return random(2, 3, 8, 8, 16), torch.tensor(0.4), random(2, 1, 48, seed=1), ids


@pytest.fixture(scope="module")
def residuals(given):
    """Random residuals of the right shapes."""
    channels = [32, 32, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128]
    halvings = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    shapes = [(6, c, 8 >> k, 16 >> k) for c, k in zip(channels, halvings, strict=True)]
    down = tuple(random(*shape, seed=k) for k, shape in enumerate(shapes))
    return Residuals(down, random(6, 128, 1, 2, seed=99))


def stock_forward(stock, given):
    sample, time, token, ids = given
    return stock(sample, time, token, ids, return_dict=False)[0]


@pytest.fixture(scope="module")
def slow():
    """Our UNet with the stock attention: queries, keys and a softmax over one token."""
    unet = VideoUNet(**tiny.manifest("tiny_unet")["meta"]["config"])
    unet.load_state_dict(tiny.part("unet").state_dict())
    return unet.eval()


def assert_same(ours, wanted):
    """Equal but for the rounding of matrix products of other sizes."""
    assert (ours - wanted).abs().max() < 1e-5 * wanted.abs().max()


@torch.no_grad()
def test_without_residuals_or_with_zeros_it_is_the_stock_unet(stock, slow, given, residuals):
    wanted, unet = stock_forward(stock, given), tiny.part("unet")
    plain = unet(*given)
    assert torch.equal(slow(*given), wanted)
    assert_same(plain, wanted)
    zeros = Residuals(tuple(torch.zeros_like(r) for r in residuals.down), 0 * residuals.mid)
    assert torch.equal(unet(*given, zeros), plain)
    with pytest.raises(ValueError, match="shorter"):
        unet(*given, Residuals(residuals.down[:-1], residuals.mid))


@torch.no_grad()
def test_residuals_enter_the_stock_unets_skips_as_often_as_in_the_release(stock, given, residuals):
    counts = (4, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1)
    waiting = [k * r for k, r in zip(counts, residuals.down, strict=True)]

    def add_to_skips(block, args, kwargs):
        skips = kwargs["res_hidden_states_tuple"]
        mine = [waiting.pop() for _ in skips][::-1]
        added = tuple(s + m for s, m in zip(skips, mine, strict=True))
        return args, kwargs | {"res_hidden_states_tuple": added}

    hooks = [b.register_forward_pre_hook(add_to_skips, with_kwargs=True) for b in stock.up_blocks]
    hooks.append(stock.mid_block.register_forward_hook(lambda *call: call[-1] + residuals.mid))
    hooked = stock_forward(stock, given)
    for hook in hooks:
        hook.remove()
    ours = tiny.part("unet")(*given, residuals)
    assert_same(ours, hooked)
    assert (ours - stock_forward(stock, given)).abs().max() > 0.1


def test_a_feature_made_earlier_gets_its_residual_more_often():
    assert residual_counts(tiny.part("unet").down_blocks) == [4, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1]
    config = tiny.manifest("tiny_unet")["meta"]["config"] | {"layers_per_block": 1}
    with torch.device("meta"):
        shallow = VideoUNet(**config)
    assert residual_counts(shallow.down_blocks) == [4, 4, 4, 3, 3, 2, 2, 1]


@torch.no_grad()
def test_one_timestep_serves_all_videos(given):
    unet, (sample, time, token, ids) = tiny.part("unet"), given
    assert torch.equal(unet(*given), unet(sample, time.expand(2).clone(), token, ids))
    later = unet(sample, torch.tensor([0.4, 1.6]), token, ids)
    torch.testing.assert_close(later[0], unet(*given)[0])
    assert (later[1] - unet(*given)[1]).abs().max() > 1e-3


@torch.no_grad()
def test_videos_of_a_batch_do_not_see_each_other(given):
    unet, both = tiny.part("unet"), tiny.part("unet")(*given)
    for k in range(2):
        sample, time, token, ids = given
        alone = unet(sample[k : k + 1], time, token[k : k + 1], ids[k : k + 1])
        torch.testing.assert_close(both[k : k + 1], alone, rtol=1e-4, atol=1e-5)


# One-token attention


@torch.no_grad()
@pytest.mark.parametrize("queries", [1, 7, 64])
def test_attention_to_one_token_equals_the_stock_processor(queries):
    attention = Attention(32, cross_attention_dim=48, heads=2, dim_head=16)
    attention.set_processor(AttnProcessor2_0())
    hidden, token = random(6, queries, 32), random(6, 1, 48, seed=1)
    wanted = attention(hidden, encoder_hidden_states=token)
    attention.set_processor(OneTokenAttention())
    ours = attention(hidden, encoder_hidden_states=token)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)
    assert ours.shape == hidden.shape


@torch.no_grad()
def test_with_residuals_too_the_stock_attention_gives_the_same(slow, given, residuals):
    processors = {type(p) for p in tiny.part("unet").attn_processors.values()}
    assert OneTokenAttention in processors and len(processors) == 2
    assert_same(tiny.part("unet")(*given, residuals), slow(*given, residuals))


def test_only_cross_attention_is_replaced_and_needs_neither_queries_nor_keys(stock, given):
    unet, touched = copy.deepcopy(stock), []
    use_one_token_attention(unet)
    kinds = {name: type(p) for name, p in unet.attn_processors.items()}
    for name, kind in kinds.items():
        assert (kind is OneTokenAttention) == (".attn2." in name), name
    assert OneTokenAttention in kinds.values()
    for name, module in unet.named_modules():
        if name.endswith(("attn2.to_q", "attn2.to_k")):
            module.register_forward_hook(lambda *call: touched.append(call))
    with torch.no_grad():
        stock_forward(unet, given)
    assert not touched


def test_gradients_pass_through_one_token_attention_and_other_numbers_are_refused():
    attention = Attention(32, cross_attention_dim=48, heads=2, dim_head=16)
    attention.set_processor(OneTokenAttention())
    token = random(2, 1, 48).requires_grad_()
    attention(random(2, 5, 32), encoder_hidden_states=token).square().sum().backward()
    assert token.grad.abs().max() > 0 and attention.to_v.weight.grad.abs().max() > 0
    for context in (None, torch.zeros(2, 3, 48)):
        with pytest.raises(ValueError, match="exactly one token"):
            attention(random(2, 5, 32), encoder_hidden_states=context)
