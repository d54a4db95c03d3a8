"""Finished clips beneath the pad, their files, and the lines of code that redo them."""

import html
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from ipywidgets import HTML, Image, Layout, ToggleButton, VBox, Video

from mofa_nb.media.sound import clip_bytes
from mofa_nb.media.video import write_clip
from mofa_nb.motion.motion import Motion
from mofa_nb.pad.style import button, field, row, text, title
from mofa_nb.pipeline.outputs import new_folder, write_files
from mofa_nb.show.players import Played, players

_CARD = 318  # width of a clip on the screen, pixels
_ACTIONS = (
    ("show", "", "eye", "Show it on the pad"),
    ("reuse", "Reuse", "pencil", "Load these tracks again"),
    ("save", "", "save", "Write mp4, WebP, flow, motion file and card"),
    ("code", "", "code", "The lines that redo it"),
)


class Gallery:
    """Cards of clips, newest first, and above them those that are compared; `actions` by name are
    what a card's buttons do with its clip."""

    def __init__(self, actions: dict[str, Callable]):
        self._actions, self._compared = actions, []
        self.cards = row(gap="10px", align_items="flex-start")
        hidden = {"width": "100%", "display": "none"}
        self.code, self.players = HTML(layout=Layout(**hidden)), HTML(layout=Layout(**hidden))
        clips = [title("Clips"), self.players, self.cards]
        self._clips = VBox(clips, layout=Layout(display="none"))
        self.widget = VBox([self.code, self._clips])

    def show_code(self, code: str) -> None:
        """The lines, with a button that copies them."""
        copy = '<button class="jupyter-button widget-button" style="width:80px" onclick='
        copy += '"navigator.clipboard.writeText(this.nextElementSibling.textContent);'
        copy += "this.textContent='Copied'\">Copy</button>"
        self.code.value = f'<div class="mofa-code">{copy}<pre>{html.escape(code)}</pre></div>'
        self.code.layout.display = "flex"

    def add(self, clip, number: int) -> None:
        """Show one more clip: an endless picture, or with a sound a video to be started."""
        fps, layout = clip.settings["fps"], Layout(width="100%")
        if clip.sound is None:
            data = clip_bytes(clip.frames, fps, "webp")
            moving = Image(value=data, format="webp", layout=layout)
        else:
            data = clip_bytes(clip.frames, fps, "mp4", clip.sound)
            moving = Video(value=data, format="mp4", autoplay=False, layout=layout)
        caption, words = text(), html.escape(clip_text(clip))
        caption.value = f'<span title="{words}"><b>{number}</b> · {words}</span>'
        played = Played(f"clip {number}", clip.frames, fps, clip.flow, clip.sound)
        about = "Frame by frame, before and after, with the flow; beside others so marked"
        act = partial(self._compare, played)
        compare = field(ToggleButton, "Compare", about, 102, act, icon="columns")
        buttons = [
            button(words, icon, about, partial(self._actions[name], clip), 82 if words else 38)
            for name, words, icon, about in _ACTIONS
        ]
        line = row(compare, *buttons, gap="2px", flex_flow="row nowrap")
        layout = Layout(width=f"{_CARD}px", grid_gap="4px")
        card = VBox([moving, caption, line], layout=layout)
        card.add_class("mofa-card")
        self.cards.children = (card, *self.cards.children)
        self._clips.layout.display = "flex"

    def _compare(self, clip: Played, wanted: bool) -> None:
        self._compared = [c for c in self._compared if c is not clip] + [clip] * wanted
        self.players.layout.display = "flex" if self._compared else "none"
        self.players.value = players(self._compared, clip.frames[0]) if self._compared else ""


def clip_text(clip) -> str:
    """The settings of a clip in a few words."""
    settings = clip.settings
    words = [str(clip.model), f"seed {settings['seed']}", f"{settings['steps']} steps"]
    words.append(f"tracks {settings['trajectory_scale']:g}")
    if "landmark_scale" in settings:
        words.append(f"face {settings['landmark_scale']:g}")
    return " · ".join(words)


def code_text(picture: str, motion: Motion, model: str, settings: dict) -> str:
    """The Python that makes the same clip without the pad."""
    options = "".join(f", {key}={value!r}" for key, value in settings.items())
    return (
        "from mofa_nb.animate import animate\n"
        "from mofa_nb.motion import Motion\n\n"
        f"motion = Motion.from_json({motion.to_json()!r})\n"
        f"clip = animate({picture!r}, motion, model={model!r}{options})"
    )


def save_clip(clip, folder: Path) -> None:
    """clip.mp4 and .webp, filmstrip.png, flow.png and .npy, motion.json, card.json."""
    with new_folder(folder) as partial:
        write_files(clip, partial, called=folder)
        write_clip(partial / "clip.webp", clip.frames, clip.settings["fps"])
        clip.motion.save(partial / "motion.json")
        np.save(partial / "flow.npy", np.asarray(clip.flow, np.float32))
