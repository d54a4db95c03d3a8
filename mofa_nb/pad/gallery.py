"""Finished clips beneath the pad, their files, and the lines of code that redo them."""

import html
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from ipywidgets import HTML, Image, Layout, ToggleButton, VBox, Video

from mofa_nb.media.video import clip_bytes, write_clip
from mofa_nb.motion.motion import Motion
from mofa_nb.pad.style import button, row, text, tip, title
from mofa_nb.pipeline.outputs import new_folder, write_files
from mofa_nb.show.players import Played, players

_CARD = 318  # width of a clip on the screen, pixels


class Gallery:
    """Cards of clips, newest first, and above them those that are compared.

    Args:
        actions: "show", "reuse", "save" and "code": what a card's buttons do with its clip.
    """

    def __init__(self, actions: dict[str, Callable]):
        self._actions, self._compared = actions, []
        self.cards = row(gap="10px", align_items="flex-start")
        self.code = HTML(layout=Layout(width="100%", display="none"))
        self.players = HTML(layout=Layout(width="100%", display="none"))
        clips = [title("Clips"), self.players, self.cards]
        self._clips = VBox(clips, layout=Layout(display="none"))
        self.widget = VBox([self.code, self._clips])

    def show_code(self, code: str) -> None:
        """The lines, with a button that copies them."""
        self.code.value, self.code.layout.display = _code_block(code), "flex"

    def add(self, clip, number: int) -> None:
        """Show one more clip."""
        caption, words = text(), html.escape(clip_text(clip))
        caption.value = f'<span title="{words}"><b>{number}</b> · {words}</span>'
        compare = ToggleButton(icon="columns", description="Compare", layout=Layout(width="102px"))
        tip(compare, "Frame by frame, before and after, with the flow; beside others so marked")
        played = Played(f"clip {number}", clip.frames, clip.settings["fps"], clip.flow, clip.sound)
        compare.observe(lambda change: self._compare(played, change["new"]), "value")
        buttons = [
            ("show", "", "eye", "Show it on the pad"),
            ("reuse", "Reuse", "pencil", "Load these tracks again"),
            ("save", "", "save", "Write mp4, WebP, flow, motion file and card"),
            ("code", "", "code", "The lines that redo it"),
        ]
        buttons = [
            button(words, icon, about, partial(self._actions[name], clip), 82 if words else 38)
            for name, words, icon, about in buttons
        ]
        line = row(compare, *buttons, gap="2px", flex_flow="row nowrap")
        card = VBox([_moving(clip), caption, line], layout=Layout(width=f"{_CARD}px"))
        card.layout.grid_gap = "4px"
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


def _code_block(code: str) -> str:
    copy = (
        "navigator.clipboard.writeText(this.nextElementSibling.textContent);"
        "this.textContent='Copied'"
    )
    return (
        f'<div class="mofa-code"><button class="jupyter-button widget-button" style="width:80px"'
        f' onclick="{copy}">Copy</button><pre>{html.escape(code)}</pre></div>'
    )


def _moving(clip) -> Image | Video:
    """An endless picture; a video to be started, where there is a sound."""
    kind, layout = "webp" if clip.sound is None else "mp4", Layout(width="100%")
    data = clip_bytes(clip.frames, clip.settings["fps"], kind, clip.sound)
    if clip.sound is None:
        return Image(value=data, format=kind, layout=layout)
    return Video(value=data, format=kind, autoplay=False, layout=layout)


def save_clip(clip, folder: Path) -> None:
    """clip.mp4 and .webp, filmstrip.png, flow.png and .npy, motion.json, card.json."""
    with new_folder(folder) as partial:
        write_files(clip, partial, called=folder)
        write_clip(partial / "clip.webp", clip.frames, clip.settings["fps"])
        clip.motion.save(partial / "motion.json")
        np.save(partial / "flow.npy", np.asarray(clip.flow, np.float32))
