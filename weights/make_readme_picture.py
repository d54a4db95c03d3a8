"""The README's two pictures: one result of each mode, moving, and one thing selected by a click.

python weights/make_readme_picture.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

from mofa_nb.animate import Session
from mofa_nb.media.images import read_image
from mofa_nb.motion.face import Expression
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.motion.select import brush_thing
from mofa_nb.paths import data_file
from mofa_nb.show import draw_tracks, flow_to_rgb, grid, to_height
from mofa_nb.study.faces import portrait, with_landmarks

HEIGHT, REST, PAUSE = 190, 5, 110  # pixels; frames that it stands still; ms of a frame
SELECT_HEIGHT = 240
FOLDER = Path(__file__).parent / "mini"
MODES, SELECT = FOLDER / "readme.webp", FOLDER / "select.jpg"


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


def cells(session: Session, photo: np.ndarray, motion: Motion) -> list[list[np.ndarray]]:
    """What is asked for, its flow, and the clip, for every frame of it."""
    side = session.defaults["short_side" if motion.face is None else "face_short_side"]
    image = session.set_image(photo, side)
    clip = [step.clip for step in session.animate_steps(motion)][-1]
    asked = (
        image if clip.landmarks is None else with_landmarks(image, clip.landmarks[-1], height=384)
    )
    still = [draw_tracks(asked, motion, min_side=384), flow_to_rgb(clip.flow[-1])]
    return [[to_height(cell, HEIGHT) for cell in (*still, frame)] for frame in clip.frames]


def selected(session: Session) -> Image.Image:
    """The same track on a thing and on the whole view: asked for, flow, last frame."""
    photo = read_image(data_file("china.jpg"))
    alone = Motion(photo.shape[1::-1], [Track(((200, 200), (276, 200)))])
    asked = {"a track alone": alone}
    asked["on the pagoda, selected by a click"] = brush_thing(alone, photo, [(210, 200)])
    rows, captions = [], []
    for name, motion in asked.items():
        session.set_image(photo)
        clip = [step.clip for step in session.animate_steps(motion)][-1]
        drawn = draw_tracks(photo, motion)
        row = [drawn, flow_to_rgb(clip.flow[-1]), clip.frames[-1]]
        rows.append([to_height(cell, SELECT_HEIGHT) for cell in row])
        captions.append([name, "dense flow", f"last frame, {session.name} model"])
    return Image.fromarray(grid(rows, captions))


def saved(picture: Image.Image, target: Path, **how) -> None:
    partial = target.with_suffix(f".partial{target.suffix}")
    picture.save(partial, **how)
    partial.replace(target)


def main() -> None:
    session = Session("mini")
    saved(selected(session), SELECT, quality=88)
    modes = {}
    for name, (photo, motion) in motions(portrait(data_file("grace_hopper.jpg"))).items():
        modes[name] = cells(session, photo, motion)
    captions = [[""] * len(modes), [""] * len(modes), list(modes)]
    title = "mini model: each mode on a photograph that it was not trained on"
    labels = {"title": title, "row_labels": ["asked for", "dense flow", "clip"]}
    sheets = [
        Image.fromarray(grid(list(zip(*columns, strict=True)), captions, **labels))
        for columns in zip(*modes.values(), strict=True)
    ]
    rest, way = [sheets[0]] * REST, sheets[1:]
    played = [*rest, *way, *[sheets[-1]] * REST, *way[-2::-1]]
    how = {"save_all": True, "append_images": played[1:], "loop": 0, "duration": PAUSE}
    saved(played[0], MODES, quality=72, method=6, **how)


if __name__ == "__main__":
    main()
