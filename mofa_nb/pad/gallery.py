"""Finished clips beneath the pad, their files, and the lines of code that redo them."""

import html
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ipywidgets import HTML, HBox, Image, Layout, VBox

from mofa_nb.motion import Motion
from mofa_nb.outputs import new_folder, write_files
from mofa_nb.pad.panels import button, row, text, title
from mofa_nb.video import write_clip

_CARD = 304  # width of a clip on the screen, pixels


@dataclass(frozen=True)
class Actions:
    """What a card's buttons do; each takes the clip."""

    show: Callable
    load: Callable
    save: Callable
    code: Callable


class Gallery:
    """Cards of clips, newest first."""

    def __init__(self, actions: Actions):
        self._actions = actions
        self._title = title("Clips")
        self._cards = HBox(layout=Layout(flex_flow="row wrap", grid_gap="10px"))
        self.widget = VBox([self._title, self._cards], layout=Layout(display="none"))

    def add(self, clip, number: int) -> None:
        """Show one more clip."""
        moving = Image(value=_webp(clip), format="webp", layout=Layout(width="100%"))
        caption = text("100%")
        caption.value = f"<b>{number}</b> · {html.escape(clip_text(clip))}"
        act = self._actions
        buttons = row(
            button("Show", "eye", "Show it frame by frame", lambda: act.show(clip), 78),
            button("Reuse", "pencil", "Load these tracks again", lambda: act.load(clip), 82),
            button("Save", "save", "mp4, GIF, flow, motion, card", lambda: act.save(clip), 76),
            button("", "code", "The lines that redo it", lambda: act.code(clip), 40),
            gap=4,
        )
        card = VBox([moving, caption, buttons], layout=Layout(width=f"{_CARD}px"))
        card.layout.grid_gap = "4px"
        card.add_class("mofa-card")
        self._cards.children = (card, *self._cards.children)
        self.widget.layout.display = "flex"


def clip_text(clip) -> str:
    """The settings of a clip in a few words."""
    settings = clip.settings
    words = [f"seed {settings['seed']}", f"{settings['steps']} steps"]
    return " · ".join([*words, f"control {settings['control_scale']:g}", str(clip.model)])


def code_text(picture: str, motion: Motion, model: str, settings: dict) -> str:
    """The Python that makes the same clip without the pad."""
    options = "".join(f", {key}={value!r}" for key, value in settings.items())
    return (
        "from mofa_nb.animate import animate\n"
        "from mofa_nb.motion import Motion\n\n"
        f"motion = Motion.from_json({_python(motion.to_json())})\n"
        f"clip = animate({picture!r}, motion, model={model!r}{options})"
    )


def code_block(code: str) -> str:
    """HTML with the code and a button that copies it."""
    copy = (
        "navigator.clipboard.writeText(this.nextElementSibling.textContent);"
        "this.textContent='Copied'"
    )
    return (
        f'<div class="mofa-code"><button class="jupyter-button widget-button" style="width:80px"'
        f' onclick="{copy}">Copy</button><pre>{html.escape(code)}</pre></div>'
    )


def _webp(clip) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.webp"
        write_clip(path, clip.frames, clip.settings["fps"])
        return path.read_bytes()


def save_clip(clip, folder: Path) -> None:
    """clip.mp4 and .webp, filmstrip.png, flow.png and .npy, motion.json, card.json."""
    with new_folder(folder) as partial:
        write_files(clip, partial, called=folder)
        write_clip(partial / "clip.webp", clip.frames, clip.settings["fps"])
        clip.motion.save(partial / "motion.json")
        np.save(partial / "flow.npy", np.asarray(clip.flow, np.float32))


def free_folder(parent: Path, stem: str) -> Path:
    """The first of stem-1, stem-2, ... that does not exist in `parent`."""
    stem = re.sub(r"[^\w-]+", "-", stem) or "clip"
    number = 1
    while (parent / f"{stem}-{number}").exists():
        number += 1
    return parent / f"{stem}-{number}"


def code_widget() -> HTML:
    """Where the code appears when asked for."""
    return HTML(layout=Layout(width="100%", display="none"))


def _python(data: dict) -> str:
    """JSON as Python source."""
    swaps = {"true": "True", "false": "False", "null": "None"}
    return re.sub(r"\b(true|false|null)\b(?=[,}\]])", lambda m: swaps[m[1]], json.dumps(data))
