"""Parts of a model under training: opened from their weights, stored again."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from mofa_nb.checks import InputError
from mofa_nb.models import weights
from mofa_nb.train.job import Names


def open_parts(
    folder: Path, names: Sequence[str], device="cpu", from_scratch: Names = (), fresh: Names = ()
) -> dict[str, nn.Module]:
    """Each part from `folder/<part>`, loaded strictly; InputError where one has no weights, but for
    those `from_scratch` ("all" names all), which are initialised then, and `fresh` ones always."""
    parts = {}
    for name in names:
        place = weights.part_folder(folder, name)
        if weights.has_weights(place) and name not in fresh:
            part = weights.load_part(name, place)
        elif {name, "all"} & {*from_scratch, *fresh}:
            described = name not in weights.OWN or (place / "config.json").is_file()
            part = weights.build(name, weights.read_config(place) if described else {})
        else:
            remedy = f"put them there, or say --from-scratch {name} to begin with random ones"
            raise InputError(f"{place} has no weights: {remedy}")
        parts[name] = part.to(device).requires_grad_(False).eval()
    return parts


def save_memory(part: nn.Module) -> None:
    """Recompute a part's blocks in the backward pass instead of keeping what is inside them."""

    def contexts() -> tuple:
        """The attention kernel of the forward pass (see `VideoLoss`) for the second one, too."""
        on_cpu = next(part.parameters()).device.type == "cpu"
        return nullcontext(), sdpa_kernel(SDPBackend.MATH) if on_cpu else nullcontext()

    again = partial(checkpoint, use_reentrant=False, context_fn=contexts)
    for module in part.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = True
            module._gradient_checkpointing_func = again
