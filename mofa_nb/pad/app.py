"""`MotionPad`: state, screen, panels and engine wired together."""

import asyncio
import html
import math
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path

from ipywidgets import HTML, Layout, VBox

from mofa_nb.checks import InputError
from mofa_nb.media.video import VIDEOS
from mofa_nb.motion.formats import TRACK_FILES, motion_from_bytes, read_motion
from mofa_nb.motion.motion import Motion
from mofa_nb.pad import picture as pictures
from mofa_nb.pad import widgets
from mofa_nb.pad.engine import Engine, Preview, SeenFace, Wanted
from mofa_nb.pad.face_panel import FacePanel
from mofa_nb.pad.state import TOOLS, PadState
from mofa_nb.pad.strokes import Number
from mofa_nb.pad.style import CSS, column, row, watch
from mofa_nb.pad.view import Screen, StageView
from mofa_nb.pipeline.outputs import free_folder
from mofa_nb.show.drawing import draw_followed
from mofa_nb.show.sliders import bundle

_SHORTCUTS = {
    "ctrl+z": PadState.undo, "ctrl+shift+z": PadState.redo, "ctrl+y": PadState.redo,
    **dict.fromkeys(("delete", "backspace"), PadState.delete_selected),
    "enter": PadState.finish, "escape": PadState.cancel,
    "[": partial(PadState.grow_brush, sign=-1), "]": partial(PadState.grow_brush, sign=1),
    **{tool[0]: partial(PadState.use, tool=tool) for tool in TOOLS},
}  # fmt: skip


class MotionPad:
    """Draw motion on a picture, see what it would do, animate it. Show it as a cell's last line.

    image: a path, or anything `read_image` takes; None: the first example, with its motion. model:
    a model's name or folder, or a session (see `mofa_nb.animate.Session`). motion: a `Motion`, or
    the path of a motion file; rescaled to the picture. folder: where clips and motion files are
    saved. select: what a click selects a thing with, see `mofa_nb.motion.select.select_thing`.

    Attributes: `state`, `session`, `picture` (what is drawn, with undo and redo; the model; the
    photograph), `clips` (oldest first), and its parts `header`, `toolbar`, `screen`, `face`,
    `tracks`, `settings`, `gallery`, whose widgets are named for what they say.
    """

    def __init__(
        self, image=None, model="mini", motion=None, *, folder="outputs", select="grabcut"
    ):
        self._model = str(model) if isinstance(model, (str, Path)) else model.name
        if isinstance(model, (str, Path)):
            from mofa_nb.animate import Session

            model = Session(model)
        if image is None:
            image = pictures.first_example()
            motion = motion or pictures.example_motion(image)
        self.session, self.folder, self.clips, self._select = model, Path(folder), [], select
        self._engine = Engine(model, self)
        self._loop, self._showing = None, False
        self._lock = threading.RLock()  # JupyterLab hears widgets in one thread, draws in another
        self._build()
        self._open(image, motion=motion)

    # ---- for code ----

    @property
    def motion(self) -> Motion:
        return self.state.motion

    def animate(self) -> None:
        """Start sampling in a thread; the pad stays usable. The clip joins `clips`."""
        with self._lock:
            self.edit(lambda state: state.use(state.tool))  # finishes what is in progress
            if self.busy:
                self._say("A clip is being made already: stop it first.", warn=True)
            elif self.motion.is_empty:
                self._say("Draw a track or a pin first.", warn=True)
            else:
                self._show_busy(True)
                self._say("")
                side, values = self.settings.side.value, self.settings.values
                self._engine.animate(self.picture, side, self.motion, values)

    def stop(self) -> None:
        self._engine.stop()

    def wait(self, timeout: Number | None = None) -> bool:
        """Block until previews and sampling are done; False after `timeout` seconds."""
        return self._engine.wait(timeout)

    @property
    def busy(self) -> bool:
        return self._engine.busy

    def add(self, clip) -> None:
        """Take a clip that was made elsewhere into the gallery."""
        self.on_end(clip)

    def code(self, clip=None) -> str:
        """The lines that redo a clip without the pad; without one, what is drawn now."""
        settings, motion, preview = self.settings.values, self.motion, self.screen.preview
        frame = None if preview is None or preview.frames is None else preview.frames[0]
        if clip is not None:
            motion, frame = clip.motion, clip.image
            settings = {key: clip.settings[key] for key in settings if key in clip.settings}
        if frame is not None and min(frame.shape[:2]) != self.session.defaults["short_side"]:
            settings["size"] = frame.shape[1::-1]
        source = self.picture.path or self.picture.name
        return widgets.code_text(source, motion, self._model, settings)

    def save(self, clip=None) -> Path:
        """Write a clip's files, or what is drawn as motion.json, into a new folder."""
        stem = re.sub(r"[^\w-]+", "-", Path(self.picture.name).stem) or "clip"
        target = free_folder(self.folder / stem, first="-1")
        if clip is None:
            target.mkdir(parents=True, exist_ok=True)
            self.motion.save(target / "motion.json")
        else:
            widgets.save_clip(clip, target)
        self._say(f"Saved in {target}")
        return target

    def open(self, source, motion=None) -> None:
        """Take another picture (with its motion); or for this one a motion file, or the tracks of
        a film, which is followed beside the kernel's main thread, as `header.film` says."""
        if str(source).lower().endswith(TRACK_FILES):
            self.edit(lambda state: state.load(*read_motion(source, state.motion.size)))
        elif str(source).lower().endswith(VIDEOS):
            self._say("The film is being followed …")
            self._engine.follow(source, widgets.FILMS[self.header.film.value], self._on_film)
        else:
            self._open(source, motion=motion)

    def open_upload(self, value) -> None:
        """Take what the browser sent, a `FileUpload`'s value; pictures and films are kept."""
        (name, data), folder = pictures.uploaded(value), self.folder / "uploads"
        if name.lower().endswith(TRACK_FILES):
            self.edit(lambda state: state.load(*motion_from_bytes(data, name, state.motion.size)))
        elif name.lower().endswith(VIDEOS):
            self.open(pictures.kept_upload(name, data, folder))
        else:
            self._open(partial(pictures.sent_picture, name, data, folder))
        sent = self.header.upload  # which may send the same file again
        sent.set_trait("value", type(sent.value)())

    def edit(self, change: Callable[[PadState], None], moving: bool = False) -> None:
        """Apply a function of the state and show what came of it; while the mouse is `moving`, only
        what is drawn by hand, at most 30 times a second."""
        with self._lock:
            with suppress(RuntimeError):  # there is none outside Jupyter
                self._loop = self._loop or asyncio.get_running_loop()
            state = self.state
            if self._showing:  # a widget has taken its value from the state
                return
            change(state)
            if moving:
                if state.stroke or state.clicks or state.tool in ("brush", "erase"):
                    self.screen.draw(state, at_once=False)
                return
            self.screen.draw(state)
            self._showing = True
            try:
                for panel in (self.toolbar, self.face, self.settings, self.tracks):
                    panel.show(state)
            finally:
                self._showing = False
            if not state.stroke:
                if state.notice or state.motion is not self._said:
                    self._said = state.motion
                    self._say(state.notice, warn=True)
                self._request()

    def close(self) -> None:
        """Stop all work and take the widgets off the page."""
        self._engine.close()
        self.widget.close()

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        if "google.colab" in sys.modules:
            from google.colab import output

            output.enable_custom_widget_manager()
        words = f"MotionPad: {self.state.summary()}"
        return bundle(self.widget, words, self.picture.still(self.motion), "jpeg")

    # ---- building ----

    def _build(self) -> None:
        session, shown, edit = self.session, self._shown, self._shown(self.edit)
        frames, defaults = session.num_frames, session.defaults
        self.screen = Screen(StageView(edit, shown(self._key)), frames, defaults["fps"])
        self.face = FacePanel(edit, self.folder / "faces", _face_obstacle(session))
        self.toolbar, self.tracks = widgets.Toolbar(edit, self.face.toggle), widgets.TrackList(edit)
        acts = {
            "animate": self.animate, "stop": self.stop, "save": self.save,
            "code": lambda clip=None: self.gallery.show_code(self.code(clip)),
            "show": self._show_clip, "compare": lambda *clips: self.gallery.compare(*clips),
            "reuse": lambda clip: self.edit(lambda state: state.load(clip.motion)),
        }  # fmt: skip
        acts = {name: shown(act) for name, act in acts.items()}
        self.settings = widgets.SettingsPanel(edit, defaults, frames, acts)
        self.header, self.gallery = widgets.Header(pictures.examples()), widgets.Gallery(acts)
        self._connect()
        left, right = self.screen.widgets
        left = column(*left, self.face.widget, *self.tracks.widgets)
        right = column(*right, *self.settings.widgets)
        both = row(left, right, gap="10px 16px", align_items="flex-start")
        style = HTML(CSS, layout=Layout(display="none"))
        parts = [style, self.header.widget, self.toolbar.widget, both, self.gallery.widget]
        self.widget = VBox(parts, layout=Layout(grid_gap="8px", padding="2px"))
        self.widget.add_class("mofa-pad")

    def _connect(self) -> None:
        header, settings, screen = self.header, self.settings, self.screen
        anew = partial(screen.draw, anew=True)
        screen.stage.canvas.on_client_ready(self._shown(lambda: anew(self.state)))
        for widget, act in (
            (screen.slider, lambda _: screen.refresh()),
            (screen.slider, lambda _: screen.draw(self.state)),
            (screen.opacity, lambda _: screen.refresh()),
            (settings.frames, screen.set_length),
            *((w, lambda _: self._request()) for w in (screen.flow, settings.frames)),
            *((w, lambda _: self._request()) for w in (settings.seed, settings.side)),
            (header.examples, lambda p: p and self._open(p, motion=pictures.example_motion(p))),
            (header.path, lambda path: path.strip() and self.open(path.strip())),
            (header.upload, lambda value: value and self.open_upload(value)),
        ):
            watch(widget, self._shown(act))
        whole = self._shown(lambda _: setattr(settings.frames, "value", self.face.length))
        self.face.whole.on_click(whole)

    # ---- events, one at a time, in the kernel's thread for widgets ----

    def _key(self, key: str) -> None:
        if change := {"f": self.face.switch, **_SHORTCUTS}.get(key):
            self.edit(change)
        if key == "escape":
            self.stop()
        elif key == "ctrl+enter":
            self.animate()

    def _open(self, source, motion=None) -> None:
        with self._lock:
            if self.busy:
                raise InputError("a clip is being made: stop it before you change the picture")
            picture = source() if callable(source) else pictures.open_picture(source)
            motion = Motion.load(motion) if isinstance(motion, (str, Path)) else motion
            motion = (motion or Motion(picture.size)).resized(picture.size)
            pick, native = picture.picker(self._select), self.session.num_frames
            self.state = PadState(motion, picture.unit, native, pick)
            self.picture, self._asked, self._said, self._filmed = picture, None, None, None
            height, width = picture.photo.shape[:2]
            scale = f"{width} × {height}, shown at {picture.screen[0] / width:.0%}"
            for widget in (self.header.examples, self.header.path):  # to be chosen again later
                widget.value = widget.value if widget.value == picture.path else ""
            self.header.scale.value = html.escape(f"{picture.name} · {scale}")
            self.screen.open(picture)
            self.edit(lambda state: None)

    def _show_busy(self, busy: bool) -> None:
        for widget in self.header.widgets:
            widget.disabled = busy
        self.settings.show_busy(busy)

    def _show_clip(self, clip) -> None:
        self.screen.show(clip.frames, f"Clip: {widgets.clip_text(clip)}")

    def _request(self) -> None:
        """Ask for the preview of what is drawn, unless it is there or on its way."""
        settings, motion = self.settings, self.motion
        seed = settings.seed.value if motion.face is not None and motion.face.speaks else None
        length, flow = settings.frames.value, self.screen.flow.value
        wanted = Wanted(self.picture, settings.side.value, motion, length, flow, seed)
        if wanted != self._asked:
            self._asked = wanted
            self._engine.request(wanted)

    # ---- what the engine tells, from any thread: values of widgets, never the canvas ----

    def on_preview(self, preview: Preview) -> None:
        with self._lock:
            if preview.picture is not self.picture:
                return
            (left, top, right, bottom), (width, height) = preview.box, self.picture.size
            # Places have two decimals: the box begins at the first ones that lie inside.
            left, top = (math.ceil(100 * edge) / 100 for edge in (left * width, top * height))
            self.state.box = left, top, right * width, bottom * height
            self.screen.take(preview)
            if not self.busy and self.motion is not self._filmed:
                self.screen.show_preview()

    def _on_film(self, frames, motion: Motion, notes: tuple[str, ...]) -> None:
        def take() -> None:
            self.edit(lambda state: state.load_film(motion, notes))
            self._filmed = self.motion  # the film is seen until something is drawn
            self.screen.show(draw_followed(frames, motion), "The film, and what was followed in it")

        self._later(take)

    def on_face(self, seen: SeenFace) -> None:
        with self._lock:
            if seen.picture is not self.picture:
                return
            self.state.landmarks, self.state.proposed = seen.landmarks, seen.mask
            self.face.say(seen.length, seen.notes)
        self._later(lambda: self.screen.draw(self.state))

    def on_step(self, step, left: float) -> None:
        self.settings.progress.value = round(1000 * step.index / step.total)
        self.settings.left.value = f"{left:.0f} s left" if left >= 1 else "nearly done"
        if step.preview is not None:
            self.screen.show(step.preview, f"Step {step.index} of {step.total}")

    def on_end(self, clip, error: Exception | None = None) -> None:
        def show() -> None:
            self._show_busy(self.busy)
            if clip is not None:
                self.gallery.add(clip, len(self.clips))
                self._show_clip(clip)
                return
            self.screen.show_preview()
            self._say("Stopped.") if error is None else self._fail(error)

        if clip is not None:
            self.clips.append(clip)
        self._later(show)

    def on_error(self, error: Exception, wanted: Wanted | None) -> None:
        """Beside the main thread; the failure of a preview that is over is not shown."""
        if wanted is None or (wanted.motion is self.motion and wanted.picture is self.picture):
            self._fail(error)

    def _later(self, act: Callable[[], None]) -> None:
        """Run in the kernel's main thread, or without one at once."""
        act = self._shown(act)
        if self._loop is None or self._loop.is_closed():
            act()
        else:
            self._loop.call_soon_threadsafe(act)

    def _say(self, words: str, warn: bool = False) -> None:
        notice = f' · <span class="{"warn" * warn}">{html.escape(words)}</span>' if words else ""
        self.screen.status.value = f"{self.state.summary()}{notice}"

    def _fail(self, error: Exception) -> None:
        expected = isinstance(error, InputError)
        self._say(str(error) if expected else f"{type(error).__name__}: {error}", warn=True)

    def _shown(self, act: Callable) -> Callable:
        """The same callback, one at a time, its failures shown: ipywidgets would swallow them."""

        @wraps(act)
        def guarded(*args, **kwargs):
            try:
                with self._lock:
                    return act(*args, **kwargs)
            except Exception as error:  # whatever fails is shown, and the pad lives on
                self._fail(error)

        return guarded


def _face_obstacle(session) -> str:
    """Why a session's model cannot drive a face, or ""."""
    try:
        session.models.adapter("landmark")
        return ""
    except InputError as error:
        return str(error)
