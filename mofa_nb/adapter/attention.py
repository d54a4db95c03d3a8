"""Cross-attention to a single token, computed as what it is: one vector added everywhere.

SVD attends to one image token. The softmax over one key is 1, so the result is
`to_out(to_v(token))` for every query: exact, and without queries, keys or scores.
"""

from torch import Tensor, nn


class OneTokenAttention:
    """Attention processor for the cross-attention of SVD's blocks."""

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """[B, S, C] queries and a [B, 1, D] context -> [B, S, C] (a broadcast view)."""
        if encoder_hidden_states is None or encoder_hidden_states.shape[1] != 1:
            raise ValueError("one-token attention needs a context of exactly one token")
        token = attn.to_out[0](attn.to_v(encoder_hidden_states))
        return token.expand(hidden_states.shape[0], hidden_states.shape[1], -1)


def use_one_token_attention(model: nn.Module) -> None:
    """Set the processor on every cross-attention (`attn2`) inside `model`."""
    for name, module in model.named_modules():
        if name.endswith("attn2"):
            module.set_processor(OneTokenAttention())
