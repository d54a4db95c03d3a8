"""A folder of clips: photographs and videos, in subfolders or not, decoded for training.

Where there is a folder `photos/`, photographs are looked for there alone. `python -m mofa_nb.clips
FOLDER` finds the lively passages of the videos once; `footage.bank.load_bank` where need be.
"""
