"""The model card's curves, from `mini/curves/*.json`: `python weights/make_curves_picture.py`."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from mofa_nb.show import side_by_side
from mofa_nb.show.charts import curves

FOLDER = Path(__file__).parent / "mini"
FLOW = {
    "s2d": "first, on a GPU",
    "s2d_fine": "end-point error in the loss",
    "s2d_wide": "all of it, more clips",
    "s2d_larger": "160 pixels",
    "s2d_varied": "varied photographs",
    "landmark_s2d": "faces",
}
VIDEO = {
    "video": "UNet and adapter",
    "landmark": "landmark adapter",
    "landmark_parts": "on parts of the latents",
    "joint": "both adapters and UNet",
}


def line(name: str, value: str, over: str | None = None) -> tuple[list[float], list[float]]:
    """Share of a run, and a logged value, over another one if so asked."""
    log = json.loads((FOLDER / "curves" / f"{name}.json").read_text())
    values = [entry[value] / (entry[over] if over else 1) for entry in log]
    return list(np.linspace(0, 1, len(log))), values


def main() -> None:
    flow = curves(
        {label: line(name, "epe", "still") for name, label in FLOW.items()},
        title="S2D: end-point error over that of no motion",
        x_label="share of the run",
        y_label="EPE / still",
        size=(6.2, 3.4),
    )
    video = curves(
        {label: line(name, "loss") for name, label in VIDEO.items()},
        title="Video: denoising loss",
        x_label="share of the run",
        y_label="loss",
        top=0.3,
        size=(6.2, 3.4),
    )
    Image.fromarray(side_by_side([flow, video], ["", ""])).quantize(64).save(FOLDER / "curves.png")


if __name__ == "__main__":
    main()
