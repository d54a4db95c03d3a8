"""The set-up cell does in a live kernel what it will do in Colab, on a clone of this repository.

Nothing is downloaded: the address is a folder with what is needed of this repository, and pip
neither looks for dependencies nor for a newer setuptools. All else is the cell of every notebook.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("notebooks_build", ROOT / "notebooks" / "build.py")
build = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build)
PRETEND_COLAB = "import sys, types; sys.modules['google.colab'] = types.ModuleType('colab')"
FACTS = """
import json, os, mofa_nb
from mofa_nb.paths import data_file, weights_folder
facts = {"package": mofa_nb.__file__, "here": os.getcwd(), "data": str(data_file("flower.jpg"))}
print(json.dumps(facts | {"weights": str(weights_folder("mini"))}))
"""


@pytest.fixture
def fresh_kernel(tmp_path, monkeypatch):
    """A kernel "fresh" in a new environment that sees this one's packages, but not mofa_nb."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.check_output([python, "-c", ask], text=True).strip()
    # A plain path: an editable install's own .pth file in that folder is not followed.
    (Path(own) / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib"))
    kernel = tmp_path / "share" / "kernels" / "fresh"
    kernel.mkdir(parents=True)
    start = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": [*start, "--log-level=ERROR"], "display_name": "fresh", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    for variable in ("PYTHONPATH", "MOFA_NB_ROOT", "VIRTUAL_ENV"):
        monkeypatch.delenv(variable, raising=False)
    return "fresh"


def ran(kernel, folder, *sources):
    """Run cells in a kernel that stands in `folder`; returns what each of them printed."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, kernel_name=kernel, resources=place, timeout=180).execute()
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]


NEEDED = ("pyproject.toml", "README.md", "mofa_nb", "data/flower.jpg", "weights/mini/settings.json",
          "notebooks/setup_cell.txt")  # fmt: skip


@pytest.fixture
def local_setup(tmp_path):
    """The set-up cell for a small repository, installing the package alone, with what is here."""
    origin, git = tmp_path / "origin", ["git", "-c", "user.name=a", "-c", "user.email=a@localhost"]
    for name in NEEDED:
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, origin / name)
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=origin, check=True)
    packages = '".[speech]" "ipycanvas==0.13.3"'
    source = build.setup_source(origin.as_uri())
    assert packages in source
    return source.replace(packages, "--no-deps --no-build-isolation .")


@pytest.mark.skipif(os.name != "posix", reason="Colab runs Linux")
def test_in_colab_the_cell_clones_installs_and_moves_into_the_notebooks(
    fresh_kernel, local_setup, tmp_path
):
    content = tmp_path / "content"
    content.mkdir()
    cells = [PRETEND_COLAB, local_setup, FACTS, local_setup, FACTS]
    *_, facts, again, repeated = ran(fresh_kernel, content, *cells)
    found, clone = json.loads(facts), content / "mofa_nb"
    assert Path(found["here"]) == clone / "notebooks"
    assert Path(found["package"]).is_relative_to(tmp_path / "environment"), "a plain install"
    assert Path(found["data"]) == clone / "data" / "flower.jpg" and Path(found["data"]).exists()
    assert Path(found["weights"]) == clone / "weights" / "mini"
    assert again == "" and repeated == facts, "running the cell twice changes nothing"


def test_elsewhere_the_cell_does_nothing(tmp_path):
    where = "import os; print(os.getcwd())"
    before, printed, after = ran("python3", tmp_path, where, build.setup_source(), where)
    assert printed == "" and before == after
    assert list(tmp_path.iterdir()) == []


def test_the_address_stands_in_one_place_only():
    address = build.repository()
    assert address.startswith("https://")
    template = (ROOT / "notebooks" / "setup_cell.txt").read_text()
    assert address not in template and "REPOSITORY" in template
    for path in [*(ROOT / "notebooks" / "src").glob("*.py"), ROOT / "notebooks" / "build.py"]:
        assert address not in path.read_text(), path
