"""What importing costs, and who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mofa_nb"
HEAVY = ("diffusers", "transformers", "accelerate", "ipywidgets", "ipycanvas", "IPython")
# Modules that build networks need diffusers; everything else must do without.
NETWORKS = {
    "adapter", "animate", "checkpoints", "controls", "denoise", "fitted", "models", "release",
    "session", "unet", "weights",
}  # fmt: skip
TOPS = {"pad", "study", "train", "__main__", "notebook", "sliders"}  # nothing below knows them
WIDGETS = {"pad", "sliders"}


def module_name(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(name, top_only=False):
    """Modules of the package that a module imports, at its top or anywhere."""
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    nodes = tree.body if top_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {module for module in found if module in FILES and module != name}


def family(name):
    """The part of the package a module belongs to: `mofa_nb.pad.app` -> `pad`."""
    return name.split(".")[1] if "." in name else ""


def light():
    """Modules that must be importable without the heavy packages."""
    heavy = NETWORKS | TOPS
    return [n for n in FILES if family(n) not in heavy and not n.endswith("__main__")]


def test_light_modules_import_neither_diffusers_nor_transformers_nor_widgets(tmp_path):
    lines = [
        "import sys, importlib",
        f"for name in {light()!r}:",
        "    importlib.import_module(name)",
        f"    found = [h for h in {HEAVY!r} if h in sys.modules]",
        "    assert not found, f'{name} imports {found}'",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr.splitlines()[-1]
    assert done.stdout == done.stderr == "" and not list(tmp_path.iterdir())


def test_the_light_modules_are_most_of_them():
    assert {"mofa_nb", "mofa_nb.motion", "mofa_nb.splat", "mofa_nb.s2d"} <= set(light())
    assert len(light()) > 40


def test_only_the_pad_knows_the_pad():
    knowing = [n for n in FILES if family(n) != "pad" for i in imports(n) if family(i) == "pad"]
    assert knowing == []


def test_nothing_below_knows_the_tops():
    known = {
        (name, other)
        for name in FILES
        if family(name) not in TOPS
        for other in imports(name)
        if family(other) in TOPS
    }
    assert known == set()


def test_config_and_checks_know_nothing():
    assert imports("mofa_nb.checks") == set()
    assert imports("mofa_nb.config") <= {"mofa_nb.checks"}


def test_imports_make_no_circles():
    order, waiting = [], {name: imports(name, top_only=True) for name in FILES}
    for name in FILES:
        waiting[name] -= {parent for parent in waiting[name] if name.startswith(parent + ".")}
    while waiting:
        ready = [name for name, needs in waiting.items() if needs <= set(order)]
        assert ready, f"circle among {sorted(waiting)}"
        order += ready
        for name in ready:
            del waiting[name]


def test_widgets_are_imported_by_the_pad_and_the_sliders_alone():
    for name, file in FILES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            widgets = {m.split(".")[0] for m in modules} & {"ipywidgets", "ipycanvas"}
            assert not widgets or family(name) in WIDGETS, name


@pytest.mark.parametrize("name", [n for n in FILES if FILES[n].name == "__init__.py"])
def test_a_package_file_does_nothing_but_name_what_is_inside(name):
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.FunctionDef)
    assert isinstance(tree.body[0], ast.Expr), f"{name} has no docstring"
    assert all(isinstance(node, allowed) for node in tree.body[1:])
    if name == "mofa_nb":
        assert len(tree.body) == 1


def test_nothing_is_printed_or_shown_in_the_package():
    for name, file in FILES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "plt.show"), f"{name}, line {node.lineno}"


def test_no_module_is_longer_than_its_idea():
    lengths = {n: len(f.read_text(encoding="utf-8").splitlines()) for n, f in FILES.items()}
    assert {name: count for name, count in lengths.items() if count > 450} == {}
