"""A folder of clips: photographs and videos, decoded into tensors for training.

A folder holds photographs and videos, in subfolders or not; where there is one named `photos/`,
photographs are looked for there alone. `python -m mofa_nb.clips FOLDER` finds the shots and the
lively passages of the videos once and writes `index.json`; `load_bank(FOLDER)` reads it, or does
the same on the fly.
"""

from mofa_nb.clips.footage.bank import Bank, load_bank, open_bank, random_clips, save_bank
from mofa_nb.clips.footage.index import Search, Window, find_windows, write_index

__all__ = [
    "Bank",
    "Search",
    "Window",
    "find_windows",
    "load_bank",
    "open_bank",
    "random_clips",
    "save_bank",
    "write_index",
]
