"""What the pad shows: the picture with its flow, frames beside it, and a status line. All but
`draw` only sets values of widgets, so any thread may call it."""

import html

import cv2
import numpy as np
from ipywidgets import Box, Dropdown, FloatSlider, Image, IntSlider, Layout, Play, jslink
from jaxtyping import UInt8

from mofa_nb.pad.engine import FLOWS, Preview
from mofa_nb.pad.picture import PadPicture, encoded
from mofa_nb.pad.state import PadState
from mofa_nb.pad.strokes import Bounds, Number
from mofa_nb.pad.style import field, row, text
from mofa_nb.pad.view import Stage
from mofa_nb.show.colours import flow_to_rgb, wheel_picture
from mofa_nb.show.notebook import data_url


class Screen:
    """The stage on the left, the player on the right; `slider` counts frames from 0."""

    def __init__(self, stage: Stage, num_frames: int, fps: Number):
        self.stage, self.preview, self._frames = stage, None, None
        self.status, self.caption, self.count = text(), text(), text("90px")
        self._legend = text("140px", "32px")
        about = "How strongly the dense flow is shown"
        self.opacity = field(FloatSlider, "Flow", about, 220, min=0, max=1, step=0.05, value=0.5)
        about = "Whose flow is shown: blended by the face mask, or one alone"
        self.flow = field(Dropdown, "", about, 88, options=list(FLOWS))
        self.image = Image(format="jpeg", layout=Layout(object_fit="fill"))
        self._view = Box([self.image], layout=Layout(overflow="hidden", max_width="100%"))
        self._view.add_class("mofa-view")
        ends = {"value": num_frames - 1, "min": 0, "max": num_frames - 1}
        self._play = Play(interval=round(1000 / fps), **ends)
        for name in ("repeat", "_repeat"):
            if self._play.has_trait(name):
                setattr(self._play, name, True)
        layout = Layout(width="auto", flex="1 1 auto", height="28px")
        self.slider = IntSlider(readout=False, layout=layout, **ends)
        jslink((self._play, "value"), (self.slider, "value"))
        line = {"gap": "10px", "height": "32px", "flex_flow": "row"}
        player = row(self._play, self.slider, self.count, **line)
        player.add_class("mofa-player")
        flow = row(self.opacity, self.flow, self._legend, **line)
        self.widgets = (stage.widget, self.status, flow), (self._view, self.caption, player)

    def open(self, picture: PadPicture) -> None:
        """Another picture, of which the model has seen nothing yet."""
        self._picture, self.preview = picture, None
        self.stage.fit(picture.size, picture.screen)
        self._view.layout.width, self._view.layout.height = (f"{s}px" for s in picture.screen)
        self._place((0, 0, 1, 1))
        self.show(picture.fine[None], "The model is looking at the picture …")
        self.refresh()

    def take(self, preview: Preview) -> None:
        """A new preview: its flow goes over the picture."""
        self.preview = preview
        self._place(preview.box)
        self._legend.value = _legend(preview.scale)
        self.refresh()

    def show_preview(self) -> None:
        """The picture warped along the flow, frame by frame."""
        if self.preview is not None and self.preview.frames is not None:
            height, width = self.preview.frames.shape[1:3]
            what = "What the model sees" if self.preview.flow is None else "Warped preview"
            self.show(self.preview.frames, f"{what} · {width} × {height}")

    def show(self, frames: UInt8[np.ndarray, "T H W 3"], caption: str) -> None:
        """Frames to look through."""
        self._frames, self.caption.value = frames, html.escape(caption)
        self._show_frame()

    def set_length(self, num_frames: int) -> None:
        """Clips of another length; a slider at the end stays at the end."""
        at_end = self.slider.value == self.slider.max
        self._play.max = self.slider.max = num_frames - 1
        if at_end:
            self._play.value = self.slider.value = num_frames - 1

    def refresh(self) -> None:
        """Everything that depends on the frame or the opacity."""
        self._show_frame()
        self.stage.picture.value = encoded(self._tinted(), "JPEG", quality=88)

    def draw(self, state: PadState, *, at_once: bool = True) -> None:
        """Paths, pins, brush; one thread at a time."""
        self.flow.layout.visibility = "hidden" if state.motion.face is None else "visible"
        self.stage.draw(state, self.slider.value, self.slider.max + 1, at_once=at_once)

    def renew(self, state: PadState) -> None:
        """Draw everything for a page that has just connected."""
        self.stage.renew()
        self.draw(state)

    def say(self, state: PadState, words: str, *, warn: bool = False) -> None:
        """The status line: what is drawn, then a word about what just happened."""
        notice = f' · <span class="{"warn" * warn}">{html.escape(words)}</span>' if words else ""
        self.status.value = f"{state.summary()}{notice}"

    def _show_frame(self) -> None:
        frame, last = self.slider.value, len(self._frames) - 1
        self.image.value = encoded(self._frames[min(frame, last)], "JPEG", quality=88)
        self.count.value = f"{frame + 1} of {self.slider.max + 1}"

    def _tinted(self) -> UInt8[np.ndarray, "h w 3"]:
        """What the model does not see of the picture darkened, the flow's colours laid over."""
        fine, preview, frame = self._picture.fine, self.preview, self.slider.value
        if preview is None:
            return fine
        sides = 2 * fine.shape[1::-1]
        left, top, right, bottom = (round(e * s) for e, s in zip(preview.box, sides, strict=True))
        view = fine[top:bottom, left:right].astype(np.float32)
        if preview.flow is not None and frame > 0 < self.opacity.value:
            flow = preview.flow[min(frame, len(preview.flow)) - 1]
            size = right - left, bottom - top
            weight = self.opacity.value * np.sqrt(np.hypot(*flow) / preview.scale)
            weight = cv2.resize(weight.astype(np.float32), size)[..., None]
            view += weight * (cv2.resize(flow_to_rgb(flow, preview.scale), size) - view)
        result = fine // 3
        result[top:bottom, left:right] = view.astype(np.uint8)
        return result

    def _place(self, box: Bounds) -> None:
        """Frames lie on the right as their part of the picture lies on the left."""
        (width, height), (left, top, right, bottom) = self._picture.screen, box
        self.image.layout.margin = f"{top * height:.0f}px 0 0 {left * width:.0f}px"
        self.image.layout.width = f"{(right - left) * width:.0f}px"
        self.image.layout.height = f"{(bottom - top) * height:.0f}px"


def _legend(scale: float) -> str:
    """HTML: the colour wheel of the flow and what its rim stands for, or nothing for no flow."""
    if not scale:
        return ""
    axis = np.linspace(-1, 1, 56)
    disc = (np.hypot(*np.meshgrid(axis, axis)) <= 1) * np.uint8(255)
    wheel = data_url(encoded(np.dstack([wheel_picture(56), disc])), "image/png")
    about = "direction is hue, length is saturation; pixels of the clip"
    return f'<img src="{wheel}" width="28" title="{about}"> up to {scale:.3g} px'
