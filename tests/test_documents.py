"""What the documents point at is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "weights/README.md")
# NAME in capitals stands for any.
FILE = r"\b(?:mofa_nb|tests|weights|notebooks|data)/[a-z0-9_./-]+\.[a-z0-9]+"
MODULE = r"python -m ((?:mofa_nb|tests)[\w.]*)"


@pytest.mark.parametrize("name", PAGES)
def test_every_file_and_module_that_a_page_names_exists(name):
    text = (ROOT / name).read_text()
    modules = [ROOT / module.rstrip(".").replace(".", "/") for module in re.findall(MODULE, text)]
    missing = [path for path in set(re.findall(FILE, text)) if not (ROOT / path).exists()]
    missing += [str(m) for m in modules if not (m.is_dir() or m.with_suffix(".py").exists())]
    assert not missing
