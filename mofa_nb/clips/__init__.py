"""A folder of clips: photographs and videos, in subfolders or not, decoded for training.

Where there is a folder `photos/`, photographs are looked for there alone. `python -m mofa_nb.clips
FOLDER` finds the lively passages of the videos once; `load_bank(FOLDER)` does it where need be.
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
