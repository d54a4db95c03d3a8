"""The method as one picture, with the paper's words; the part that a page is about is lit."""

from collections.abc import Sequence

from jaxtyping import UInt8
from numpy import ndarray

from mofa_nb.show.charts import rendered

# (x, y) of the middle in columns and rows, the words, the file that holds it.
BOXES = {
    "motion": (0, 0, "tracks, landmarks", "motion/"),
    "image": (0, 1, "photograph", "media/"),
    "noise": (0, 2, "noise", "sampling/"),
    "hints": (1, 0, "sparse hints", "flow/sparse.py"),
    "s2d": (2, 0, "S2D (CMP)", "flow/s2d.py"),
    "flow": (3, 0, "dense flow", "flow/dense.py"),
    "reference": (2, 1, "reference encoder\nfour scales", "adapter/adapter.py"),
    "warp": (3, 1, "warping per scale\n(splatting)", "flow/splat.py"),
    "fusion": (4, 1, "fusion encoder\nzero convolutions", "adapter/adapter.py"),
    "svd": (4, 2, "frozen SVD UNet\ns + k · residual", "adapter/unet.py"),
    "clip": (5, 2, "clip", "pipeline/"),
}
ARROWS = (
    *(("motion", "hints"), ("hints", "s2d"), ("image", "s2d"), ("s2d", "flow")),
    *(("image", "reference"), ("reference", "warp"), ("flow", "warp"), ("warp", "fusion")),
    *(("fusion", "svd"), ("noise", "svd"), ("svd", "clip")),
)
WIDE, HIGH = 0.8, 0.62  # of a box, in columns and rows
LIT, DARK, PALE, INK = "#fff1cc", "#d99000", "#f4f5f7", "#20222b"
FAINT = "#7c8190"


def architecture(lit: Sequence[str] = ()) -> UInt8[ndarray, "H W 3"]:
    """Boxes and arrows of the chain.

    Args:
        lit: names out of `BOXES`.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    figure = Figure(figsize=(10.4, 3.5), dpi=100, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.5, 5.5), ylim=(2.55, -0.4))
    axes.axis("off")
    for begin, end in ARROWS:
        (x0, y0), (x1, y1) = BOXES[begin][:2], BOXES[end][:2]
        tail = (x0, y0 + HIGH / 2) if x0 == x1 else (x0 + WIDE / 2, y0)
        head = (x1 - WIDE / 2, y1)
        if y0 != y1:  # from above or from below
            head = (x1 if x0 == x1 else x1 - WIDE / 4, y1 - HIGH / 2 if y0 < y1 else y1 + HIGH / 2)
        axes.annotate("", head, tail, arrowprops={"arrowstyle": "->", "color": FAINT})
    for name, (x, y, words, file) in BOXES.items():
        on = name in lit
        corner = (x - WIDE / 2, y - HIGH / 2)
        axes.add_patch(
            FancyBboxPatch(
                corner, WIDE, HIGH, boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=LIT if on else PALE, edgecolor=DARK if on else "#c9ccd4",
                linewidth=1.8 if on else 1.0,
            )
        )  # fmt: skip
        axes.text(x, y - 0.07, words, ha="center", va="center", fontsize=8.5, color=INK)
        axes.text(x, y + 0.19, file, ha="center", va="center", fontsize=6.5, color=FAINT)
    return rendered(figure)
