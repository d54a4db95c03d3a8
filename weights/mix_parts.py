"""Average two trainings of the same parts: `python weights/mix_parts.py OLD NEW OUT --share 0.5`.

What is trained a little further keeps more of what it knew when it is averaged with where it began.
"""

import argparse
from pathlib import Path

import torch

from mofa_nb.models import weights

# Blocks below the finest level: 4 bits cost a clip of the mini model nothing that can be measured.
DEEP = (
    "down_blocks.1.", "down_blocks.2.", "down_blocks.3.", "mid_block.", "up_blocks.0.",
    "up_blocks.1.",
)  # fmt: skip


def mixed(part: str, old: Path, new: Path, share: float) -> torch.nn.Module:
    """The part with `share` of the new weights and the rest of the old ones."""
    module, other = (weights.load_part(part, folder / part) for folder in (old, new))
    theirs = other.state_dict()
    module.load_state_dict(
        {
            key: torch.lerp(value, theirs[key], share) if value.is_floating_point() else value
            for key, value in module.state_dict().items()
        }
    )
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    for name in ("old", "new", "out"):
        add(name, type=Path, help="model folder")
    add("--share", type=float, default=0.5, help="of the new weights, 0 to 1")
    add("--parts", nargs="+", default=["unet", "trajectory_adapter", "landmark_adapter"])
    add("--bits", type=int, choices=(4, 8, 16), default=4, help="of a weight; 4: of deep ones")
    given = parser.parse_args()
    if not 0 <= given.share <= 1:
        parser.error(f"--share must lie between 0 and 1, but {given.share:g} came")
    dtype = torch.float16 if given.bits == 16 else torch.int8
    coarse = DEEP if given.bits == 4 else ()
    for part in given.parts:
        module = mixed(part, given.old, given.new, given.share)
        config = weights.read_config(weights.part_folder(given.new, part))
        weights.save_part(part, module, config, given.out / part, dtype, coarse)


if __name__ == "__main__":
    main()
