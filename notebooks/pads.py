"""Puts pictures of whole pads, as a browser shows them, into saved notebooks.

`python notebooks/pads.py [NAME ...]`, after `build.py`; needs Chromium. A saved page has no kernel,
so its pad is a picture: what is drawn on the photograph, or here all of it, with its buttons.
"""

import argparse
import base64
import io
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

from browser_lab import LabPage, jupyter_lab, launch, write_notebook  # noqa: E402

from notebooks.build import code_cells, write  # noqa: E402

PAD = "MotionPad:"  # how the text of a saved pad begins
BEFORE = r"^from mofa_nb|^MODEL = |^session = Session|^drawn = |^pad = MotionPad|^pad = open_studio"
# Files are named from the project's folder on.
_SHORT = """root => document.querySelectorAll('.mofa-pad input').forEach(
  input => { input.value = input.value.replace(root + '/', ''); })"""


def pad_output(cell: NotebookNode) -> NotebookNode | None:
    """The output of a cell that shows a pad."""
    shown = (out for out in cell.outputs if out.output_type in ("display_data", "execute_result"))
    return next((out for out in shown if out.data.get("text/plain", "").startswith(PAD)), None)


def pad_cells(notebook: NotebookNode) -> list[str]:
    """The sources that a notebook's pad needs, the pad's own last, without the clips before it."""
    cells = code_cells(notebook)[1:]
    last = next(number for number, cell in enumerate(cells) if pad_output(cell))
    sources = [cell.source for cell in cells[: last + 1]]
    speaking = [line for s in sources for line in s.split("\n") if line.startswith("speaking = ")]
    needed = [source for source in sources[:-1] if re.search(BEFORE, source, re.M)]
    return [*needed, *speaking, sources[-1]]


def pad_picture(browser, address: str, name: str) -> Image.Image:
    """The pad of a notebook that is served at an address, as the browser shows it."""
    lab = LabPage(browser, address, f"{name}.ipynb", height=1800)
    lab.run_all()
    lab.page.wait_for_selector("canvas.mofa-stage", timeout=240_000)
    lab.until("pad.wait(60) and pad.screen.preview is not None", 240)
    lab.page.wait_for_timeout(1000)  # what was sent last is drawn
    lab.page.evaluate(_SHORT, str(HERE.parent))
    shot = lab.page.locator(".mofa-pad").first.screenshot()
    lab.context.close()
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    return picture.crop(ImageOps.invert(picture).getbbox())  # without the white below


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all with a pad")
    paths = [HERE / f"{name}.ipynb" for name in parser.parse_args().names]
    pages = {path: nbformat.read(path, 4) for path in paths or sorted(HERE.glob("*.ipynb"))}
    pages = {path: page for path, page in pages.items() if any(map(pad_output, code_cells(page)))}
    with TemporaryDirectory() as folder, launch() as browser:
        for path, page in pages.items():
            write_notebook(Path(folder) / path.name, *pad_cells(page))
        with jupyter_lab(Path(folder)) as address:
            for path, page in pages.items():
                picture, packed = pad_picture(browser, address, path.stem), io.BytesIO()
                picture.save(packed, "jpeg", quality=80)
                output = next(filter(None, map(pad_output, code_cells(page))))
                output.data["image/jpeg"] = base64.b64encode(packed.getvalue()).decode() + "\n"
                write(page, path)


if __name__ == "__main__":
    main()
