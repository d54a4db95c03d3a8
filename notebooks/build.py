"""Makes the notebooks from their twins: `python notebooks/build.py [NAME ...]`.

A twin, `src/<name>.py`, is the one source of a notebook (jupytext's percent format: `# %%` begins a
code cell, `# %% [markdown]` a text cell). It holds neither badge nor set-up cell: the badge goes
under the title and the set-up cell, the same in every notebook, after the first text cell.
The tests run exactly `made` and compare with what is saved, so a notebook is never edited by hand.

A twin's first code cell imports by name; the second holds all settings, one `NAME = value` a line.
"""

import argparse
import hashlib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
TWINS = HERE / "src"
LARGEST = 3_000_000  # bytes of a saved notebook
LONGEST = 20  # lines of a cell
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
DOWNLOAD = re.compile(r'<a download="[^"]*" href="data:[^"]*">([^<]*)</a>')
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def names() -> list[str]:
    """Every notebook that has a twin, in order."""
    return sorted(twin.stem for twin in TWINS.glob("*.py"))


def repository() -> str:
    """The repository's address: [project.urls] Repository in pyproject.toml, its only home."""
    text = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]["urls"]["Repository"].rstrip("/")


def setup_source(address: str | None = None) -> str:
    """The set-up cell for a repository at `address` (default: its own)."""
    template = (HERE / "setup_cell.txt").read_text(encoding="utf-8").rstrip()
    return template.replace("REPOSITORY", address or repository())


def badge(name: str) -> str:
    """Markdown of the button that opens a notebook in Colab."""
    place = repository().removeprefix("https://github.com/")
    link = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{name}.ipynb"
    return f"[![Open in Colab]({BADGE})]({link})"


def plain(name: str, settings: Mapping[str, object] | None = None) -> NotebookNode:
    """The notebook without outputs.

    Args:
        settings: values that replace those of the settings cell, by name.
    """
    notebook = jupytext.read(TWINS / f"{name}.py", fmt="py:percent")
    first, *rest = notebook.cells
    title, *others = first.source.split("\n")
    if first.cell_type != "markdown" or not title.startswith("# "):
        raise ValueError(f"{name}: a twin begins with a text cell whose first line is its title")
    first.source = "\n".join([title, "", badge(name), *others])
    setup = nbformat.v4.new_code_cell(setup_source())
    notebook.cells = [first, setup, *rest]
    for key, value in (settings or {}).items():
        set_value(notebook, key, value)
    _name_cells(notebook)
    notebook.metadata = NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """In order: set-up, imports, settings, and what follows."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def set_value(notebook: NotebookNode, key: str, value: object) -> None:
    """Replace the value of one line of the settings cell."""
    cell = code_cells(notebook)[2]
    line = re.compile(rf"^{key} = .*?(?=  #|$)", re.M)
    if not line.search(cell.source):
        raise ValueError(f"the settings cell has no line {key} = ...: {cell.source!r}")
    cell.source = line.sub(lambda _: f"{key} = {value!r}", cell.source)


def _name_cells(notebook: NotebookNode) -> None:
    """Names that follow from the content, so that an edit changes one cell's name only."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:10]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = f"{digest}-{seen[digest]}"
        cell.metadata = NotebookNode()


def run(notebook: NotebookNode, *, folder: Path = HERE, timeout: int = 900) -> NotebookNode:
    """Run all cells in a fresh kernel that stands in `folder`, and tidy what came out.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", resources=place, record_timing=False
    )
    with TemporaryDirectory() as sockets:
        if os.name == "posix":  # no ports, so that nobody else on the machine can listen
            manager = client.create_kernel_manager()
            manager.transport, manager.ip = "ipc", f"{sockets}/kernel"
        tidy(client.execute())
    return notebook


def tidy(notebook: NotebookNode) -> None:
    """Drop what only a live kernel can show, and the files behind links; the pictures stay."""
    notebook.metadata.pop("widgets", None)
    for cell in code_cells(notebook):
        cell.metadata.pop("execution", None)
        for output in cell.outputs:
            data = output.get("data", {})
            data.pop(WIDGET_VIEW, None)
            if "text/html" in data:
                data["text/html"] = DOWNLOAD.sub(r"<p>\1</p>", data["text/html"])
        cell.outputs = _joined(cell.outputs)


def _joined(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Neighbouring pieces of one stream as one output: how they are cut is chance."""
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def made(name: str, settings: Mapping[str, object] | None = None) -> NotebookNode:
    """The notebook with its outputs, run now."""
    return run(plain(name, settings))


def complaints(notebook: NotebookNode) -> list[str]:
    """What is wrong with a notebook that has been run; empty if nothing is."""
    found = []
    for cell in code_cells(notebook):
        first = cell.source.split("\n")[0]
        if len(cell.source.split("\n")) > LONGEST:
            found.append(f"more than {LONGEST} lines: {first}")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{output.ename} ({output.evalue}) in: {first}")
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"stderr ({output.text[:200]}) in: {first}")
            if WIDGET_VIEW in output.get("data", {}):
                found.append(f"a widget without a picture was saved in: {first}")
    if "widgets" in notebook.metadata:
        found.append("widget state was saved")
    size = len(nbformat.writes(notebook).encode())
    if size > LARGEST:
        found.append(f"{size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}")
    return found


def write(notebook: NotebookNode, path: Path) -> None:
    """Save a notebook: complete or not at all."""
    nbformat.validate(notebook)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    os.replace(partial, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make notebooks from their twins, run and saved.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other settings")
    parser.add_argument("--out", type=Path, default=HERE, help="folder (default: this one)")
    given = parser.parse_args()
    settings = dict(pair.split("=", 1) for pair in given.set)
    settings = {k: int(v) if v.isdigit() else v for k, v in settings.items()}
    for name in given.names or names():
        notebook = made(name, settings)
        problems = complaints(notebook)
        if problems:
            raise SystemExit("\n".join([f"{name} was not saved:", *problems]))
        write(notebook, given.out / f"{name}.ipynb")


if __name__ == "__main__":
    main()
