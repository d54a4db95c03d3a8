# %% [markdown]
# # 00 · Quickstart: draw where things go, get a clip
#
# **mini model · about 1 minute · 1.5 GB of memory · no GPU needed**
# (release model: a CUDA GPU; of its memory a clip takes 3 to 15 GiB, computed and not measured:
# README, *What it needs on your card*; set `MODEL = "release"` below)
#
# MOFA-Video animates one photograph by tracks that you draw on it. This page walks through its
# whole chain in five pictures: photograph → tracks → sparse hints → dense flow → clip. The
# notebooks after this one open each arrow.
#
# *Words:* a **track** is the path of one point, a **pin** a point that rests; a **hint** is the
# displacement of one pixel since frame 0; **flow** is a displacement for every pixel (*sparse*:
# known at a few, *dense*: at all). **Splatting** carries pixels to where a flow takes them.
#
# *Mini* is a toy that was trained for this kit: it shows the method on any CPU at 160 pixels, not
# MOFA-Video's quality.

# %%
# What this page calls; every name is one short function away.
from pathlib import Path
from tempfile import TemporaryDirectory

from mofa_nb.animate import Motion, Session, animate, default_device
from mofa_nb.check import check
from mofa_nb.media import data_file
from mofa_nb.show import ProgressBar, architecture, draw_hints, draw_tracks, flow_sheet
from mofa_nb.show import machine_note, show, show_clip, table, to_height

# %%
# All settings. Change one, then choose Run All.
MODEL = "mini"  # or "release", or a model folder
DEVICE = default_device()
PHOTO = data_file("flower.jpg")
MOTION = data_file("flower_sways.json")
STEPS = None  # denoising steps; None takes the model's own
SEED = 42
machine_note(MODEL, DEVICE)

# %% [markdown]
# ## The whole chain
# The paper's boxes, with the file that holds each. The next pages light them one by one.

# %%
# Left: what you give. Right: what you get.
show(architecture(), "Boxes are networks or plain functions; arrows are tensors.")

# %% [markdown]
# ## A photograph
# It is scaled and cropped to the model's grid, and a session keeps model and picture ready.

# %%
# The mini model works on pictures whose shorter side is 160 pixels.
session = Session(MODEL, DEVICE)
image = session.set_image(PHOTO)
show(
    to_height(image, 256),
    f"The {session.name} model sees {image.shape[1]}x{image.shape[0]} pixels.",
)

# %% [markdown]
# ## What should move
# A motion file holds tracks (a path per point, start to end) and pins (points that stay).

# %%
# Seven tracks swing the flower to the right; nine pins hold the leaves.
motion = Motion.load(MOTION)
drawn = session.fitted(motion)  # scaled and cropped as the picture was
show(draw_tracks(image, drawn), "Numbered paths move, white rings stay.")

# %% [markdown]
# ## Sparse hints
# The network is told the displacement from the first frame at a handful of pixels, and nothing
# about all the others. They lie on a square grid of its own, whatever the photograph's shape.

# %%
# Each track becomes one arrow per frame; the last one is straight, as it joins both ends.
hints = session.hints(motion).outside
known = int(hints.mask[-1].sum())
reading = f"{known} of {hints.mask[-1].numel():,} pixels of the hint grid are known."
show(draw_hints(image, hints), reading)

# %% [markdown]
# ## Dense flow
# S2D (sparse to dense) looks at the photograph and guesses how every other pixel moves.

# %%
# Colour is direction, strength is distance: the wheel is the legend. `flow[0]` is frame 1's.
flow = session.dense_flow(motion)
parts = {"frame 0 → 4": flow[3], f"frame 0 → {len(flow)}": flow[-1]}
reading = "White rests; colour moves, farther in later frames."
show(flow_sheet(parts, title="Dense flow, pixels", columns=2), reading)

# %% [markdown]
# ## The clip
# The frozen video model denoises 14 frames from noise, while the MOFA-Adapter adds to its features
# what the first frame looks like when it is moved along the flow. What that uncovers was never
# photographed and has to be invented.
#
# MOFA-Video takes 25 denoising steps for that; the mini model was taught to do it in one.

# %%
# One call does all of the above again, and then samples: the clip, and some of its frames.
bar = ProgressBar()
clip = animate(PHOTO, motion, model=session, progress=bar, steps=STEPS, seed=SEED)
show_clip(clip.frames, fps=session.defaults["fps"], title=clip.title)

# %% [markdown]
# ## Does everything work here?
# The short self-check takes one step of a tiny clip in every memory way. `python -m mofa_nb check`
# goes on to whole clips, and writes a page that can be attached to a question.

# %%
# In levels of 255: the memory ways are meant to give the same clip.
with TemporaryDirectory() as folder:
    found = check(session.models, DEVICE, Path(folder), lambda line: None, short=True)
rows = [(name, value) for name, value in found.items() if isinstance(value, str)]
table(["tried", "what came of it"], rows)

# %% [markdown]
# ## Where to go from here
# - `01_sparse_motion_sampling`: which few vectors stand for a moving scene?
# - `02_sparse_to_dense_flow`: what does S2D make of the hints?
# - `03_adapter_conditioning`: how do warped features steer a frozen video model?
#
# Try another picture: set `PHOTO` and `MOTION` above to `chelsea.jpg` with `chelsea_turns.json`,
# `coffee.jpg` with `coffee_stirs.json`, or `rocket.jpg` with `rocket_rises.json`.
