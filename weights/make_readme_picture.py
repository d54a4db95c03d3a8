"""The README's picture, one result of each mode: `python weights/make_readme_picture.py`."""

from pathlib import Path

import numpy as np
from PIL import Image

from mofa_nb.animate import Session
from mofa_nb.media.images import read_image
from mofa_nb.motion.face import Expression
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.paths import data_file
from mofa_nb.show import draw_tracks, flow_to_rgb, grid, to_height
from mofa_nb.study.faces import marked, portrait

HEIGHT, FRAMES = 150, (0, 5, 9, 13)
TARGET = Path(__file__).parent / "mini" / "readme.jpg"


def motions(face: np.ndarray) -> dict[str, tuple[np.ndarray, Motion]]:
    """Picture and motion of each mode."""
    flower = read_image(data_file("flower.jpg"))
    flag = [Track(((62, y), (24, y + 4)), speed="ease") for y in (90, 190, 270)]
    pins = [(375, 60), (375, 230), (200, 385), (200, 60), (200, 200), (200, 300)]
    hybrid = Motion((400, 400), flag, pins).with_face(Expression(mouth=1, brows=0.6, yaw=12))
    alone = Motion((400, 400)).with_face(Expression(mouth=0.9, brows=0.8, yaw=-16, roll=8))
    return {
        "tracks": (flower, Motion.load(data_file("flower_sways.json"))),
        "a face": (face, alone),
        "both": (face, hybrid),
    }


def row(session: Session, photo: np.ndarray, motion: Motion) -> list[np.ndarray]:
    """What is asked for, its flow, and frames of the clip."""
    side = session.defaults["short_side" if motion.face is None else "face_short_side"]
    image = session.set_image(photo, side)
    clip = [step.clip for step in session.animate_steps(motion)][-1]
    asked = image if clip.landmarks is None else marked(image, clip.landmarks[-1], height=384)
    cells = [draw_tracks(asked, motion, min_side=384), flow_to_rgb(clip.flow[-1])]
    return [to_height(cell, HEIGHT) for cell in (*cells, *(clip.frames[t] for t in FRAMES))]


def main() -> None:
    session, rows = Session("mini"), {}
    for name, (photo, motion) in motions(portrait(data_file("grace_hopper.jpg"))).items():
        rows[name] = row(session, photo, motion)
    captions = ["asked for", "dense flow", *(f"frame {t}" for t in FRAMES)]
    texts = [[""] * len(captions) for _ in rows]
    texts[-1] = captions
    title = "mini model: each mode on a photograph that it was not trained on"
    sheet = grid(list(rows.values()), texts, title=title, row_labels=list(rows))
    Image.fromarray(sheet).save(TARGET, quality=88, subsampling=0)


if __name__ == "__main__":
    main()
