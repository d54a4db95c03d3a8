"""Dependencies live in requirements.txt alone; this hands them to the package."""

from pathlib import Path

from setuptools import setup

lines = Path(__file__).with_name("requirements.txt").read_text().splitlines()
setup(install_requires=[line for line in lines if line[:1].isalpha()])
