"""Dependencies live in requirements.txt alone; this hands them to the package, but for JupyterLab:
a notebook's package runs in whatever Jupyter there is, and Colab has one of its own."""

from pathlib import Path

from setuptools import setup

lines = Path(__file__).with_name("requirements.txt").read_text().splitlines()
setup(install_requires=[x for x in lines if x[:1].isalpha() and not x.startswith("jupyterlab")])
