"""What importing costs, and who may import whom."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mofa_nb"
HEAVY = ("diffusers", "transformers", "accelerate", "ipywidgets", "ipycanvas", "IPython")
# The house, from the ground up: a room knows only rooms of the floors below its own.
FLOORS = (
    ("checks",),
    ("paths",),
    ("config", "media"),  # media: pictures, videos and sounds
    ("motion",),  # what the user wants
    ("flow",),  # sparse hints, S2D, splatting, optical flow
    ("adapter", "faces"),
    ("models", "clips", "show"),  # clips: what is trained on; show: pictures for people
    ("sampling",),
    ("pipeline",),  # the chain
    ("animate",),
    ("sweep", "batch"),
    ("train",),
    ("study",),
    ("check",),
    ("pad",),
    ("commands",),
    ("__main__",),
)
LIGHT = {"", *"checks paths config media motion flow faces clips show commands".split()}
WIDGETS = ("mofa_nb.pad", "mofa_nb.show.sliders")


def module_name(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}


def nodes(*kinds):
    """Syntax of these kinds in the package, each with its module's name."""
    for name, tree in TREES.items():
        yield from ((name, node) for node in ast.walk(tree) if isinstance(node, kinds))


def imported(node):
    """The modules that an import statement may name."""
    names = {alias.name for alias in node.names}
    if isinstance(node, ast.Import):
        return names
    return {f"{node.module}.{name}" for name in names} | {node.module or ""}


IMPORTS = {name: set() for name in FILES}  # modules of the package that each imports anywhere
for name, node in nodes(ast.Import, ast.ImportFrom):
    IMPORTS[name] |= (imported(node) & FILES.keys()) - {name}


def family(name):
    """The part of the package a module belongs to: `mofa_nb.pad.app` -> `pad`."""
    return name.split(".")[1] if "." in name else ""


def light():
    """Modules that must be importable without the heavy packages."""
    heavy = ("__main__", "show.notebook", "show.sliders")
    return [name for name in FILES if family(name) in LIGHT and not name.endswith(heavy)]


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
    assert {"mofa_nb", "mofa_nb.motion", "mofa_nb.flow.splat", "mofa_nb.flow.s2d"} <= set(light())
    assert len(light()) > 40


def test_nothing_is_imported_relatively():
    assert [name for name, node in nodes(ast.ImportFrom) if node.level] == []


def test_every_room_knows_only_what_lies_below_it():
    floor = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
    assert {family(name) for name in FILES} - {""} == set(floor)
    upward = {
        (name, other)
        for name in FILES
        for other in IMPORTS[name]
        if family(name) != family(other) != "" and floor[family(other)] >= floor[family(name)]
    }
    assert upward == set()


def test_imports_make_no_circles():
    needs = {
        name: {other for other in others if not name.startswith(other + ".")}
        for name, others in IMPORTS.items()
    }
    TopologicalSorter(needs).prepare()  # raises an error that names the circle


def test_widgets_are_imported_by_the_pad_and_the_sliders_alone():
    for name, node in nodes(ast.Import, ast.ImportFrom):
        widgets = {module.split(".")[0] for module in imported(node)} & {"ipywidgets", "ipycanvas"}
        assert not widgets or name.startswith(WIDGETS), name


@pytest.mark.parametrize("name", [n for n in FILES if FILES[n].name == "__init__.py"])
def test_a_package_file_does_nothing_but_name_what_is_inside(name):
    tree = TREES[name]
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.FunctionDef)
    assert isinstance(tree.body[0], ast.Expr), f"{name} has no docstring"
    assert all(isinstance(node, allowed) for node in tree.body[1:])
    if name == "mofa_nb":
        assert len(tree.body) == 1


def test_nothing_is_printed_or_shown_in_the_package():
    for name, node in nodes(ast.Call):
        called = ast.unparse(node.func)
        assert called not in ("print", "plt.show"), f"{name}, line {node.lineno}"


def test_no_module_is_longer_than_its_idea():
    lengths = {n: len(f.read_text(encoding="utf-8").splitlines()) for n, f in FILES.items()}
    assert {name: count for name, count in lengths.items() if count > 450} == {}
