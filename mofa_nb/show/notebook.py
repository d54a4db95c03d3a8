"""What a notebook needs of Jupyter: pictures and tables on the page, progress, advice on machines.
No widget, no front end: saved pages show the same."""

import base64
import inspect
import io
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageFile

from mofa_nb.media.sound import clip_bytes
from mofa_nb.media.video import ready_mediapy
from mofa_nb.show.layout import Frames, filmstrip

BAR_WIDTH = 24  # characters
LIGHT = 50_000  # bytes: a PNG up to this size is kept, since its text is crisper
STRIP = 900  # pixels: a page is hardly wider
REFRESH = 0.2  # seconds between two updates of a bar
COLAB_STEPS = "Runtime → Change runtime type → T4 GPU → Save, then Runtime → Run all"


def show(picture: UInt8[np.ndarray, "H W 3"], reading: str = "") -> None:
    """Put an RGB picture on the page, and beneath it one line that says how to read it."""
    from IPython.display import Image as Shown
    from IPython.display import Markdown, display

    data, kind = picture_file(picture)
    display(Shown(data, format=kind, metadata={"alt": reading} if reading else None))
    if reading:
        display(Markdown(f"*{reading}*"))


def show_source(*functions: Callable) -> None:
    """Put functions on the page as they stand in the package, so that a page cannot drift."""
    from IPython.display import Code, display

    for function in functions:
        display(Code(textwrap.dedent(inspect.getsource(function)), language="python"))


def picture_file(picture: UInt8[np.ndarray, "H W 3"]) -> tuple[bytes, str]:
    """The picture as a file, and its kind: a light PNG, or a JPEG where that is far lighter."""
    png = image_bytes(picture, "PNG", optimize=True)
    ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, picture.size)  # or large noisy ones do not fit
    jpeg = image_bytes(picture, "JPEG", quality=84, subsampling=0, optimize=True, progressive=True)
    is_light = len(png) <= LIGHT or len(png) < 1.5 * len(jpeg)
    return (png, "png") if is_light else (jpeg, "jpeg")


def image_bytes(image: UInt8[np.ndarray, "H W C"], kind: str = "PNG", **how) -> bytes:
    """A picture as a file's bytes; `how` as Pillow takes it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **how)
    return buffer.getvalue()


def data_url(data: bytes, kind: str) -> str:
    """A file of a MIME type, written out for HTML."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]):
    """A table for the page, first column left, numbers right; floats get two decimals."""
    from IPython.display import Markdown

    lines = [list(header), [":--", *["--:"] * (len(header) - 1)]]
    lines += [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines))


class Line(str):
    __slots__ = ()
    __repr__ = str.__str__


class ProgressBar:
    """A line of text that grows in place: `animate(..., progress=ProgressBar())`; silent outside
    Jupyter. A finished bar leaves its label and count on the page."""

    def __init__(self):
        self._handle, self._stage, self._next = None, "", 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """So many steps of a stage are over, `denoise ███░░░ 7/14`; a new one takes the line."""
        now = time.monotonic()
        if stage == self._stage and done < total and now < self._next:
            return
        self._stage, self._next = stage, now + REFRESH
        full = BAR_WIDTH * done // max(total, 1)
        text = Line(f"{stage} {'█' * full}{'░' * (BAR_WIDTH - full)} {done}/{total}")
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if self._handle is not None:
            self._handle.update(text)
        elif hasattr(shell, "kernel"):
            from IPython.display import display

            self._handle = display(text, display_id=True)


def with_progress(items: Iterable[Any], stage: str, total: int | None = None) -> Iterator[Any]:
    """Pass the items on and show how many are through."""
    bar, total = ProgressBar(), len(items) if total is None else total
    bar(stage, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        bar(stage, done, total)


def machine_note(model: str, device: str) -> Line:
    """One sentence: whether this machine suits the model, and if not, what to click."""
    if str(device).startswith("cuda"):
        name, free = torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)[0] / 2**30
        return Line(f"The {model} model runs on the GPU ({name}, {free:.1f} GiB free).")
    if model == "release":
        lack = "The release model needs a CUDA GPU, and there is none here. In Colab"
        return Line(f"{lack}: {COLAB_STEPS}. Or set MODEL = 'mini', which runs on any CPU.")
    plain = f"The {model} model runs on this machine's CPU; no GPU is needed"
    return Line(f"{plain}. (For one in Colab: {COLAB_STEPS}.)")


def show_clip(
    frames: Frames, *, fps: float | int, title: str, reading: str = "", sound: Path | None = None
) -> None:
    """Play a clip (mediapy), and show some of its frames in a row, under its title, for pages that
    play nothing. With a sound, the clip waits to be started."""
    from IPython.display import HTML, display

    height, shape = 256, frames.shape[2] / frames.shape[1]
    if sound is None:
        width = round(height * shape)
        ready_mediapy().show_video(frames, fps=fps, height=height, width=width, qp=22)
    else:
        source = data_url(clip_bytes(frames, fps, sound=sound), "video/mp4")
        display(HTML(f'<video controls playsinline height="{height}" src="{source}"></video>'))
    count = 5 if shape > 1.2 else 7
    row = min(160, round(STRIP / count / shape))
    show(filmstrip(frames, title=title, count=count, height=row), reading)
