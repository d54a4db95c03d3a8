"""The studio: the pad behind a form, for people who only want to animate a picture."""

import functools
import html
import io
import sys
import zipfile
from pathlib import Path

from PIL import Image

from mofa_nb.checks import InputError, choice
from mofa_nb.media.images import read_image
from mofa_nb.motion import Expression, Motion
from mofa_nb.pad.app import MotionPad
from mofa_nb.pad.picture import example_motion, kept_upload
from mofa_nb.paths import data_file
from mofa_nb.pipeline.outputs import Clip
from mofa_nb.pipeline.session import Session
from mofa_nb.show.notebook import ProgressBar, data_url
from mofa_nb.study.faces import portrait

UPLOAD, BY_HAND = "upload", "by hand"
MODES = ("draw", "face", "draw and face")
CLOSE_UPS = ("auto", "yes", "no")
PATIENCE = 120  # seconds for a first look at the face


def open_studio(
    picture: str, mode: str, face: str = BY_HAND, *, close_up: str = "auto", frames: int = 0,
    steps: int = 0, seed: int | None = None, model: str = "mini", folder: str | Path = "outputs",
) -> MotionPad:  # fmt: skip
    """The pad with a picture and a first motion, as the form says.

    picture: a shipped example's name, a path, or "upload" (asks for a file, in Colab only). mode:
    "draw", "face" or "draw and face": the example's drawing, a face that follows, both. face: "by
    hand", a shipped sound's name, a path, or "upload". close_up: "yes" shows a square around the
    largest face only, and leaves an example's drawing out; "no" the whole picture; "auto" is yes
    where only a face moves. frames, steps: what the pad's own fields begin with; 0: as long as the
    face's file lasts, else as the model has it. InputError: an unknown word or file, no face."""
    choice(mode, MODES, "the mode")
    choice(close_up, CLOSE_UPS, "close_up")
    near = close_up == "yes" or (close_up == "auto" and mode == "face")
    sent = Path(folder) / "uploads"
    path = chosen_file(picture, sent)
    motion = None if mode == "face" or near else example_motion(str(path))
    if near:
        sent.mkdir(parents=True, exist_ok=True)
        path, photo = sent / f"{path.stem}_close_up.png", portrait(path, side=512)
        Image.fromarray(photo).save(path)
    motion = motion or Motion(read_image(path).shape[1::-1])
    if mode != "draw":
        motion = motion.with_face(Expression() if face == BY_HAND else chosen_file(face, sent))
    pad = MotionPad(path, _session(model), motion, folder=folder)
    if not frames and motion.face is not None and pad.wait(PATIENCE):
        frames = pad.face.length or 0
    for name, value in {"frames": frames or None, "steps": steps or None, "seed": seed}.items():
        if value is not None:
            getattr(pad.settings, name).value = value
    return pad


_session = functools.cache(Session)  # another picture does not load the model again


def chosen_file(name: str, folder: Path) -> Path:
    """The file that a form field names: shipped with the kit, on disk, or sent by the browser, by
    Colab's dialogue for "upload", and kept in the folder. InputError: there is none."""
    if name == UPLOAD:
        if "google.colab" not in sys.modules:
            raise InputError("upload works in Colab: give a path, or use the pad's own button")
        from google.colab import files

        sent = files.upload()
        if not sent:
            raise InputError("no file was sent: run the cell again and choose one")
        return kept_upload(*next(iter(sent.items())), folder)
    for path in (Path(name), data_file(name), data_file(f"{name}.jpg")):
        if path.is_file():
            return path
    raise InputError(f"{name} is neither a file nor one of the shipped examples: check its path")


def newest_clip(pad: MotionPad) -> Clip:
    """The pad's last clip; if there is none yet, one of what is drawn is made now (InputError where
    nothing is)."""
    pad.wait()
    if not pad.clips:
        if pad.motion.is_empty:
            raise InputError("nothing moves yet: draw a track on the pad, or switch the face on")
        bar, session = ProgressBar(), pad.session
        session.set_image(pad.picture.photo, short_side=pad.settings.side.value)
        for step in session.animate_steps(pad.motion, **pad.settings.values):
            bar("denoise", step.index, step.total)
        pad.add(step.clip)
    return pad.clips[-1]


def download_link(folder: str | Path):
    """A link that downloads a folder's files as one zip, in any front end. Bare arrays (.npy) stay
    behind: they are the largest, and made again from the motion file."""
    from IPython.display import HTML

    folder, packed = Path(folder), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(file for file in folder.iterdir() if file.suffix != ".npy"):
            archive.write(file, f"{folder.name}/{file.name}")
    name = html.escape(f"{folder.name}.zip")
    source = data_url(packed.getvalue(), "application/zip")
    return HTML(f'<a download="{name}" href="{source}">⬇ {name}</a>')
