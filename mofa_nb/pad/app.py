"""`MotionPad`: the stage, the panels and the engine wired together."""

import asyncio
import base64
import html
import random
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path

from ipywidgets import HTML, FloatSlider, HBox, Layout, VBox

from mofa_nb.checks import InputError
from mofa_nb.motion import Motion
from mofa_nb.pad import examples, gallery, panels
from mofa_nb.pad.engine import Engine, Preview
from mofa_nb.pad.picture import jpeg, open_picture, still_png, tinted
from mofa_nb.pad.state import TOOLS, PadState
from mofa_nb.pad.view import Stage

_BUTTONS = {
    "undo": PadState.undo,
    "redo": PadState.redo,
    "delete": PadState.delete_selected,
    "clear": PadState.clear,
    "finish": PadState.finish,
}
_SHORTCUTS = {
    "ctrl+z": PadState.undo,
    "ctrl+shift+z": PadState.redo,
    "ctrl+y": PadState.redo,
    "delete": PadState.delete_selected,
    "backspace": PadState.delete_selected,
    "enter": PadState.finish,
    "escape": PadState.cancel,
    "[": lambda state: state.grow_brush(-1),
    "]": lambda state: state.grow_brush(1),
    **{tool[0]: lambda state, tool=tool: state.use(tool) for tool in TOOLS},
}


class MotionPad:
    """Draw motion on a picture, see what it would do, animate it. Show it as a cell's last line.

    Args:
        image: a path, or anything `read_image` takes; None: the first example.
        model: a model's name or folder, or a session (see `mofa_nb.animate.Session`).
        motion: a `Motion`, or the path of a motion file; rescaled to the picture.
        folder: where clips and motion files are saved.
    Raises:
        InputError: the image or the motion cannot be used.

    Attributes:
        state: what is drawn, with undo and redo.
        session: the engine.
        clips: finished clips, oldest first.
    """

    def __init__(self, image=None, model="mini", motion=None, *, folder="outputs"):
        if isinstance(model, str):
            from mofa_nb.animate import Session

            model = Session(model)
        shipped = examples.examples()
        if image is None and not shipped:
            raise InputError("no example pictures were found: give the path of a photograph")
        self.session, self.folder, self.clips = model, Path(folder), []
        self._engine = Engine(model, self._on_preview, self._fail)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._build(shipped)
        self._open(shipped[0][1] if image is None else image, motion=motion)

    # ---- for code ----

    @property
    def motion(self) -> Motion:
        """What is drawn now."""
        return self.state.motion

    @property
    def settings(self) -> dict:
        """What the sliders say, as keyword arguments of `animate`."""
        knobs = self._settings
        return {
            "num_frames": knobs.frames.value,
            "steps": knobs.steps.value,
            "seed": knobs.seed.value,
            "control_scale": knobs.scale.value,
        }

    def animate(self) -> None:
        """Start sampling in a thread; the pad stays usable. The clip joins `clips`."""
        self.state.use(self.state.tool)  # finishes what is in progress
        if self._engine.busy or self.motion.is_empty:
            busy = "A clip is being made already: stop it first."
            self._say(busy if self._engine.busy else "Draw a track or a pin first.", warn=True)
            return
        self._loop = _running_loop()
        self._runner.start()
        self._lock_picture(True)
        self._say("")
        picture, side = self._picture, self._settings.side.value
        calls = self._on_step, self._on_end
        self._engine.animate(picture, side, self.motion, self.settings, *calls)

    def stop(self) -> None:
        """End sampling after the present step."""
        self._engine.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until previews and sampling are done; False after `timeout` seconds."""
        return self._engine.wait(timeout)

    def code(self, clip=None) -> str:
        """The lines that redo a clip without the pad; without one, what is drawn now."""
        motion = self.motion if clip is None else clip.motion
        settings = {k: v if clip is None else clip.settings[k] for k, v in self.settings.items()}
        path = self._picture.path or self._picture.name
        return gallery.code_text(path, motion, self.session.name, settings)

    def save(self, clip=None) -> Path:
        """Write a clip's files, or what is drawn as motion.json, into a new folder."""
        target = gallery.free_folder(self.folder, Path(self._picture.name).stem)
        if clip is None:
            target.mkdir(parents=True)
            self.motion.save(target / "motion.json")
        else:
            gallery.save_clip(clip, target)
        self._say(f"Saved in {target}")
        return target

    def open(self, source, motion=None) -> None:
        """Take another picture (with its motion), or the motion file of this one."""
        if str(source).endswith(".json"):
            loaded = Motion.load(source)
            self._handle(lambda state: state.load(loaded))
        else:
            self._open(source, motion=motion)

    def close(self) -> None:
        """Stop all work and take the widgets off the page."""
        self._engine.close()
        self.widget.close()

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        if "google.colab" in sys.modules:
            from google.colab import output

            output.enable_custom_widget_manager()
        still = still_png(self._picture, self.motion)
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return {
            "text/plain": f"MotionPad: {self.state.summary()}",
            "image/png": base64.b64encode(still).decode("ascii"),
            "application/vnd.jupyter.widget-view+json": view,
        }

    # ---- building ----

    def _build(self, shipped: list[tuple[str, str]]) -> None:
        session, guard = self.session, self._guard
        buttons = {name: guard(partial(self._handle, edit)) for name, edit in _BUTTONS.items()}
        self._stage = Stage(guard(self._handle), guard(self._key))
        self._stage.canvas.on_client_ready(guard(self._renew))
        self._toolbar = panels.Toolbar(guard(self._use), buttons)
        self._tracks = panels.TrackList(guard(self._handle))
        files = {"roll": self._roll, "code": self._show_code, "save": self.save}
        files = {name: guard(act) for name, act in files.items()}
        self._settings = panels.Settings(session.defaults, session.num_frames, files)
        self._player = panels.Player(session.num_frames, session.defaults.get("fps", 8))
        self._header = panels.Header(shipped)
        self._runner = panels.Runner(guard(self.animate), guard(self.stop))
        cards = (self._show_clip, self._reuse, self.save, self._show_code)
        self._gallery = gallery.Gallery(gallery.Actions(*map(guard, cards)))
        self._status, self._code = panels.text("100%"), gallery.code_widget()
        self._opacity = panels.slider(
            FloatSlider,
            "Flow",
            "How strongly the dense flow is shown",
            220,
            min=0,
            max=1,
            step=0.05,
            value=0.5,
        )
        self._legend = panels.text("150px", height="32px")
        self._connect()
        self.widget = self._laid_out()

    def _connect(self) -> None:
        def watch(widget, act: Callable) -> None:
            widget.observe(self._guard(lambda change: act(change["new"])), "value")

        watch(self._toolbar.radius, lambda r: self._handle(lambda s: s.resize_brush(r * s.unit)))
        watch(self._player.slider, lambda frame: self._scrub())
        watch(self._opacity, lambda value: self._tint())
        watch(self._settings.frames, self._set_length)
        watch(self._settings.side, lambda side: self._request())
        watch(self._header.examples, lambda path: path and self._open_example(path))
        watch(self._header.path, lambda path: path and self.open(path.strip()))
        watch(self._header.upload, lambda value: value and self._open_upload(value))

    def _laid_out(self) -> VBox:
        flow = HBox([self._opacity, self._legend], layout=Layout(height="32px", grid_gap="10px"))
        player, column = self._player, panels.column
        camera = panels.camera_row(self._guard(self._add_camera))
        left = column(self._stage.widget, self._status, flow)
        right = column(player.view, player.caption, player.controls)
        below = (
            column(camera, self._tracks.widget),
            column(self._runner.widget, self._settings.widget),
        )
        top = {"align_items": "flex-start", "gap": 16}
        style = HTML(panels.CSS, layout=Layout(display="none"))
        parts = [style, self._header.widget, self._toolbar.widget]
        parts += [panels.row(left, right, **top), panels.row(*below, **top)]
        parts += [self._code, self._gallery.widget]
        box = VBox(parts, layout=Layout(grid_gap="8px", padding="2px"))
        box.add_class("mofa-pad")
        return box

    # ---- events, in the kernel's main thread ----

    def _handle(self, edit: Callable[[PadState], None], moving: bool = False) -> None:
        """Apply one event to the state and show what came of it."""
        state = self.state
        edit(state)
        if moving:
            if state.stroke or state.clicks or state.tool in ("brush", "erase"):
                self._draw(at_once=False)
            return
        self._draw()
        self._toolbar.show(state)
        if not state.stroke:
            self._tracks.show(state)
            self._say(state.notice, warn=True)
            self._request()

    def _use(self, tool: str) -> None:
        self._handle(lambda state: state.use(tool))

    def _key(self, key: str) -> None:
        if key in _SHORTCUTS:
            self._handle(_SHORTCUTS[key])
        if key == "escape":
            self.stop()
        if key == "ctrl+enter":
            self.animate()

    def _lock_picture(self, locked: bool) -> None:
        """While a clip is being made, its picture and size stay."""
        for widget in (*self._header.widgets, self._settings.side):
            widget.disabled = locked

    def _open(self, source, name: str = "picture", motion=None) -> None:
        if self._engine.busy:
            raise InputError("a clip is being made: stop it before you change the picture")
        picture = open_picture(source, name)
        motion = Motion.load(motion) if isinstance(motion, (str, Path)) else motion
        motion = motion or Motion(picture.size)
        self.state = PadState(motion.resized(picture.size), picture.unit)
        self._picture, self._preview, self._asked = picture, None, None
        self._stage.fit(picture.size, picture.screen)
        self._player.fit(picture.screen)
        self._header.scale.value = html.escape(f"{picture.name} · {picture.scale_text}")
        self._set_frames(picture.fine[None], "")
        self._tint()
        self._handle(lambda state: None)

    def _open_example(self, path: str) -> None:
        self._open(path, motion=examples.example_motion(path))

    def _open_upload(self, value) -> None:
        name, data = examples.uploaded(value)
        if name.endswith(".json"):
            motion = examples.motion_from_bytes(data, name)
            self._handle(lambda state: state.load(motion))
        else:
            self._open(data, name)

    def _renew(self) -> None:
        self._stage.renew()
        self._draw()

    def _scrub(self) -> None:
        self._show_frame()
        self._tint()
        self._draw()

    def _draw(self, at_once: bool = True) -> None:
        frame, frames = self._player.slider.value, self._settings.frames.value
        self._stage.draw(self.state, frame, frames, at_once=at_once)

    def _add_camera(self, name: str, strength: float) -> None:
        self._handle(lambda state: state.add_camera(name, strength))

    def _roll(self) -> None:
        self._settings.seed.value = random.randrange(10_000)

    def _set_length(self, frames: int) -> None:
        self._player.set_length(frames)
        self._request()

    def _show_clip(self, clip) -> None:
        self._set_frames(clip.frames, f"Clip: {gallery.clip_text(clip)}")

    def _reuse(self, clip) -> None:
        self._handle(lambda state: state.load(clip.motion))

    def _show_code(self, clip=None) -> None:
        self._code.value = gallery.code_block(self.code(clip))
        self._code.layout.display = "flex"

    def _request(self) -> None:
        """Ask for the preview of what is drawn, unless it is there or on its way."""
        wanted = self._settings.side.value, self.motion, self._settings.frames.value
        if wanted != self._asked:
            self._asked = wanted
            self._engine.request(self._picture, *wanted)

    # ---- what may come from any thread: values of widgets, never the canvas ----

    def _on_preview(self, preview: Preview) -> None:
        if preview.picture is not self._picture:
            return
        width, height = self._picture.size
        self.state.box = tuple(
            f * side for f, side in zip(preview.box, (width, height) * 2, strict=True)
        )
        self._preview = preview
        self._player.place(preview.box)
        self._legend.value = panels.legend(preview.scale)
        self._tint()
        if not self._engine.busy:
            self._show_preview()

    def _show_preview(self) -> None:
        preview = self._preview
        height, width = preview.frames.shape[1:3]
        warped = "What the model sees" if preview.colours is None else "Warped preview"
        self._set_frames(preview.frames, f"{warped} · {width} × {height}")

    def _on_step(self, step, left: float) -> None:
        self._runner.progress.value = round(1000 * step.index / step.total)
        self._runner.left.value = f"{left:.0f} s left" if left >= 1 else "nearly done"
        if step.preview is not None:
            self._set_frames(step.preview, f"Step {step.index} of {step.total}")

    def _on_end(self, clip, error: Exception | None) -> None:
        if clip is not None:
            self.clips.append(clip)
        self._later(partial(self._show_end, clip, error))

    def _show_end(self, clip, error: Exception | None) -> None:
        self._runner.rest()
        self._lock_picture(False)
        if clip is not None:
            self._gallery.add(clip, len(self.clips))
            self._show_clip(clip)
            return
        if error is None:
            self._say("Stopped.")
        else:
            self._fail(error)
        if self._preview is not None:
            self._show_preview()

    def _later(self, act: Callable[[], None]) -> None:
        """In the kernel's main thread as soon as it is free; at once where there is no loop."""
        act = self._guard(act)
        if self._loop is None or self._loop.is_closed():
            act()
        else:
            self._loop.call_soon_threadsafe(act)

    def _set_frames(self, frames, caption: str) -> None:
        self._frames, self._player.caption.value = frames, html.escape(caption)
        self._show_frame()

    def _show_frame(self) -> None:
        frame, last = self._player.slider.value, len(self._frames) - 1
        self._player.image.value = jpeg(self._frames[min(frame, last)])
        self._player.count.value = f"{frame + 1} of {self._settings.frames.value}"

    def _tint(self) -> None:
        """The picture on the stage, with the flow of the present frame laid over it."""
        preview, frame, strength = self._preview, self._player.slider.value, self._opacity.value
        fine = self._picture.fine
        if preview is None:
            self._stage.picture.value = jpeg(fine)
            return
        colours = alpha = None
        if preview.colours is not None and frame > 0 and strength > 0:
            at = min(frame, len(preview.colours)) - 1
            colours, alpha = preview.colours[at], preview.alpha[at] * strength
        self._stage.picture.value = jpeg(tinted(fine, preview.box, colours, alpha))

    def _say(self, words: str, warn: bool = False) -> None:
        """The status line: what is drawn, then a word about what just happened."""
        tone = "warn" if warn else "said"
        notice = f' · <span class="{tone}">{html.escape(words)}</span>' if words else ""
        self._status.value = f"{self.state.summary()}{notice}"

    def _fail(self, error: Exception) -> None:
        known = isinstance(error, InputError)
        self._say(str(error) if known else f"{type(error).__name__}: {error}", warn=True)

    def _guard(self, act: Callable) -> Callable:
        """The same callback, its failures shown: ipywidgets would swallow them."""

        @wraps(act)
        def guarded(*args, **kwargs):
            try:
                return act(*args, **kwargs)
            except Exception as error:  # whatever fails is shown, and the pad lives on
                self._fail(error)

        return guarded


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
