# %% [markdown]
# # MOFA studio: animate a photograph
#
# **mini model · about 1 minute · 2 GB of memory · no GPU needed**
# (release model: a CUDA GPU; of its memory a clip takes 3 to 15 GiB, computed and not measured:
# README, *What it needs on your card*; choose `release` as `MODEL` below)
#
# Three steps: get ready, choose a picture and what moves it, take the clip home. Nothing has to be
# read or programmed; how it works is told in the notebooks `00` to `06`.
#
# *Mini* is a toy that shows the method at 160 pixels, on any computer; a face is worth a larger
# *Size*. For MOFA-Video's quality you need the *release* model and a GPU.

# %%
# @title 1 · Get ready { display-mode: "form" }
from pathlib import Path

from mofa_nb.check import check
from mofa_nb.pad.studio import download_link, newest_clip, open_studio
from mofa_nb.show import show_clip, table

# %% [markdown]
# Choose, then run the cell: the pad opens beneath it.
#
# - **PICTURE**: a photograph of the `data` folder, the path of another, or `upload` (in Colab;
#   elsewhere the pad has a button for it).
# - **MODE**: `draw` moves what you draw on; `face` moves a face; `draw and face` does both.
# - **FACE**: `by hand` gives you sliders; a voice (`.wav`, `.mp3`) makes the portrait speak; a film
#   (`.mp4`) makes it mimic.
# - **CLOSE_UP** crops the picture to its face, which then gets more of the model's pixels: `auto`
#   does so where only a face moves.
# - **FRAMES**: 0 is as long as the voice or film, else the model's own length. **STEPS**: 0 is as
#   many denoising steps as the model likes. **SEED**: another one makes another clip. **MODEL**:
#   `mini`, `release`, or a folder.

# %%
# @title 2 · Choose a picture and what moves it { display-mode: "form" }
PICTURE = "grace_hopper"  # @param ["grace_hopper", "flower", "upload"] {allow-input: true}
MODE = "face"  # @param ["draw", "face", "draw and face"]
FACE = "speech.wav"  # @param ["by hand", "speech.wav", "upload"] {allow-input: true}
CLOSE_UP = "auto"  # @param ["auto", "yes", "no"]
FRAMES = 0  # @param {type: "integer"}
STEPS = 0  # @param {type: "integer"}
SEED = 42  # @param {type: "integer"}
MODEL = "mini"  # @param ["mini", "release"] {allow-input: true}
settings = {"close_up": CLOSE_UP, "frames": FRAMES, "steps": STEPS, "seed": SEED, "model": MODEL}
pad = open_studio(PICTURE, MODE, FACE, **settings)
pad

# %% [markdown]
# **On the pad:** drag to draw a track; *Pin* holds a point; *Brush* limits what may move; *Face*
# opens the sliders. The preview follows at once, *Animate* makes the clip, and *Save* under a clip
# keeps it. Without a press on *Animate*, the next cell makes the clip of what is drawn.

# %%
# @title 3 · The clip, and its files { display-mode: "form" }
clip = newest_clip(pad)
fps = clip.settings["fps"]
show_clip(clip.frames, fps=fps, title=clip.title, sound=clip.sound)
download_link(pad.save(clip))

# %% [markdown]
# The zip holds the clip as mp4 (with its sound) and WebP, a strip of its frames, its flow, the
# motion file and a card with every setting: all that is needed to make it again, also from the
# command line (`python -m mofa_nb animate`).

# %%
# @title If something is wrong: what works here, to attach to a question { display-mode: "form" }
found = check(pad.session.models, None, Path("outputs/check"), lambda line: None, short=True)
rows = [(name, value) for name, value in found.items() if isinstance(value, str)]
table(["tried", "what came of it"], rows)
