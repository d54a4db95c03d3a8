# %% [markdown]
# # 02 · Sparse to dense: what does S2D make of the hints?
#
# **mini model · about 1 minute · 1.5 GB of memory · no GPU needed**
# (release model: a CUDA GPU; of its memory a clip takes 3 to 15 GiB, computed and not measured:
# README, *What it needs on your card*; set `MODEL = "release"` below)
#
# The first network of MOFA-Video, S2D (section 3.2 of the paper), gets the photograph and a few
# hints and returns motion for every pixel. This page asks how: what it predicts at one pixel, how
# sure it is, where a hint stops spreading, how large the error is, and where it fails.
#
# *Words:* a **hint** is the displacement of one pixel since frame 0; **dense flow** is a
# displacement for every pixel; **end-point error** (EPE) is the distance between a guessed
# displacement and the true one. A **thin plate** is the smoothest surface through given points.

# %%
# What this page calls; every name is one short function away.
import time

import numpy as np
import torch

from mofa_nb.animate import Motion, Session, default_device
from mofa_nb.flow import dense_flow, grid_features, resize_nearest
from mofa_nb.media import data_file, to_unit
from mofa_nb.show import ProgressBar, Sliders, architecture, curves, distributions, draw_hints
from mofa_nb.show import draw_tracks, flow_sheet, heat_map, machine_note, show, show_source, table
from mofa_nb.study import hints as study

# %%
# All settings. Change one, then choose Run All.
MODEL = "mini"  # or "release", or a model folder
DEVICE = default_device()
PHOTO = data_file("flower.jpg")
MOTION = data_file("flower_sways.json")
# Points of this photograph, in parts of its width and height.
PLACES = {"middle of the flower": (0.48, 0.52), "its rim": (0.30, 0.73), "a leaf": (0.15, 0.75)}
SCENES = 50  # with exact flow, for the error curve
COUNTS = (1, 5, 10, 25, 50, 100)  # hints
SEED = 42
machine_note(MODEL, DEVICE)

# %%
# The lit boxes are this page.
show(architecture(["s2d", "flow"]), "S2D is the paper's CMP network: two encoders and a decoder.")

# %% [markdown]
# ## From hints to dense flow
# The photograph and the motion file of notebook 00. Hints and flow live on a square grid of their
# own (128 pixels for the mini model, 384 for the release) whatever the photograph's shape.

# %%
# Image features are computed here, once; every later question is about hints.
session = Session(MODEL, DEVICE)
image = session.set_image(PHOTO)

# %%
# From here on all is in pixels of what the model sees.
motion = session.fitted(Motion.load(MOTION))
session.set_image(image)
width, height = motion.size

# %%
# One call makes the flow of all frames; `flow[0]` is frame 1's.
flow = session.dense_flow(motion)
print(f"flow {tuple(flow.shape)}: frames, x and y, height, width")

# %%
# Where the pixels of the photograph are by frame 4, and by the last one.
parts = {"drawn": draw_tracks(image, motion), "frame 0 → 4": flow[3]}
parts[f"frame 0 → {len(flow)}"] = flow[-1]
reading = "The tracks' direction fills the flower up to its rim; the pinned leaves stay white."
title = f"{session.name} model: dense flow, pixels"
show(flow_sheet(parts, title=title, height=168, columns=3), reading)

# %% [markdown]
# ## Not a vector but a distribution
# At every pixel S2D scores 99 bins for the displacement along x, and 99 along y. The flow is the
# mean of that distribution, as in the release, or its median, as in the mini model: at a rim the
# mean of two guesses is a motion that nothing has.
#
# **Guess first:** at which of three pixels will it be broadest: the middle of the flower, its rim,
# or a leaf beside it?

# %%
# The network, its view of the photograph, and the hints for the last frame.
s2d, grid = session.models.s2d, (session.models.s2d.config.grid,) * 2
features = grid_features(s2d, to_unit(image).to(session.models.device))
hints = session.hints(motion).outside.to(session.models.device)

# %%
# A probability for every displacement at every pixel, and the flow that is read from it.
with torch.no_grad():
    logits = s2d.logits(features, hints.flow[-1:], hints.mask[-1:])
probability, estimate = s2d.probabilities(logits)[0], s2d.decode(logits)[0]
print(f"probabilities {tuple(probability.shape)}: x and y, bins, half the grid")

# %%
# Three places of the photograph on S2D's grid.
cells = {k: (int(x * grid[1] / 2), int(y * grid[0] / 2)) for k, (x, y) in PLACES.items()}
print(", ".join(f"{name} {cell}" for name, cell in cells.items()))

# %%
# What it says along x at the three, and the flow that is made of it.
centres = s2d.bin_centres(logits).cpu().numpy()
bins, taken = {}, {}
for name, (x, y) in cells.items():
    bins[name] = probability[0, :, y, x].cpu().numpy()
    taken[name] = [float(estimate[0, y, x])]

# %%
# Dashed: the flow.
label = "displacement along x, pixels of the grid"
title = "What S2D believes about three pixels"
chart = distributions(centres, bins, lines=taken, title=title, x_label=label, around=8)
wide = study.flow_spread(s2d, logits)[0, 0].cpu()
reading = ", ".join(f"{name} {wide[y, x]:.1f} px" for name, (x, y) in cells.items())
show(chart, f"Spread (standard deviation): {reading}.")

# %% [markdown]
# **At the rim**: a little of it would rest with the leaves (the bars at 0), the rest goes along
# with the flower but is unsure how far. Here the few votes for rest hardly pull the mean away;
# where they are half of all, it is a motion that nothing has.
#
# ## The network in three calls
# The image goes through one encoder, hints and their mask through another; both are joined, and a
# decoder scores the bins. With *p* the probabilities and *c* the middles of the bins, the mean is
# **flow = Σ p · c**.

# %%
# The three calls, straight from the file.
show_source(s2d.forward, s2d.logits, s2d.decode)

# %% [markdown]
# ## Where is it unsure?
# The standard deviation of the same distribution, at every pixel.

# %%
# Flow and spread side by side.
spread = study.flow_spread(s2d, logits).norm(dim=1, keepdim=True).cpu()
spread = resize_nearest(spread, image.shape[:2])[0, 0].numpy()
parts = {"image": image, f"{s2d.config.estimate}: the flow, px": flow[-1]}
parts |= {"spread, pixels of the grid": heat_map(spread, height=168)}
reading = f"Between {spread.min():.1f} and {spread.max():.1f} pixels; bright where it must guess."
show(flow_sheet(parts, title="The flow and its uncertainty", height=168, columns=3), reading)

# %% [markdown]
# ## Long drags
# The outermost bins stand at the end of the range, so no flow can lie beyond them. And long before
# that, a drag longer than anything in training is not believed.

# %%
# One hint in the middle of the flower, dragged farther and farther to the right.
x, y = (2 * place for place in cells["middle of the flower"])
asked = np.linspace(0, 1.6 * s2d.config.flow_range, 41)[1:]
drag = study.single_hint((x, y), (asked[-1], 0.0), grid, steps=40).to(session.models.device)
with torch.no_grad():
    answer = s2d(features, drag.flow, drag.mask)[:, 0, y, x].cpu().numpy()

# %%
# A lone hint asks, and S2D answers at that very pixel.
lines = {"S2D at the hint": (asked, answer), "what was asked": (asked, asked)}
labels = {"x_label": "asked, pixels of the grid", "y_label": "answered, pixels"}
chart = curves(lines, title="Saturation of a lone hint", dashed=["what was asked"], **labels)
show(chart, f"The last bin is {centres[-1]:.1f} px; the longest answer, {answer.max():.1f} px.")

# %% [markdown]
# ## One hint spreads over an object
# A hint says something about one pixel. How far it carries is what S2D has learnt from looking at
# things that move as one.
#
# **Guess first:** one hint in the middle of the flower, one on a leaf, both a tenth of the width to
# the right, no pins. Which of the two will bleed over the edge?


# %%
# One hint, and how far every pixel follows it.
def carried(name):
    across, down = PLACES[name]
    hint = study.single_hint((across * grid[1], down * grid[0]), (0.1 * grid[1], 0.0), grid)
    speed = dense_flow(s2d, features, hint, image.shape[:2])[0].norm(dim=0).cpu()
    bright = heat_map(speed.numpy(), low=0, high=0.1 * width, height=192)
    return {f"hint: {name}": draw_hints(image, hint), "speed, px": bright}, speed


# %%
# The flower's hint.
parts, flower = carried("middle of the flower")
show(flow_sheet(parts, title="How far one hint carries"), "Bright moves along, dark rests.")

# %%
# The leaf's.
parts, leaf = carried("a leaf")
reading = "Share of the picture that goes along by more than half: {:.0%} and {:.0%}."
shares = [float((speed > 0.05 * width).float().mean()) for speed in (flower, leaf)]
show(flow_sheet(parts, title="How far the other one carries"), reading.format(*shares))

# %% [markdown]
# **Both, and the leaf's farther**: the flower has an edge that stops most of it, a leaf before
# leaves has none, and even the flower is dragged along.
#
# ## How large is the error?
# On scenes whose flow is known exactly (photographs never trained on): hints at 1 to 100 watershed
# points, filled in by S2D, by a thin-plate spline, and by the nearest hint. The last two do not see
# the image.

# %%
# Measures S2D and its rivals on the same hints.
side = grid[0]
bar = ProgressBar()
scenes = study.two_frame_scenes(SCENES, side, progress=bar)
errors = study.hint_errors(s2d, scenes, COUNTS, seed=SEED, progress=bar)

# %%
# Mean over the scenes; shaded: from the lower to the upper quartile.
means = {name: values.mean(axis=0) for name, values in errors.items()}
lines = {name: (COUNTS, mean) for name, mean in means.items()}
bands = {name: np.quantile(errors[name], (0.25, 0.75), axis=0) for name in ("S2D", "thin plate")}
labels = {"x_label": "hints", "y_label": "end-point error, pixels", "dashed": ["no motion"]}
labels["title"] = f"{session.name} S2D against interpolation, {SCENES} held-out scenes"
chart = curves(lines, bands=bands, log_x=True, top=2 * float(means["no motion"][0]), **labels)
show(chart, "Lower is better; the upper ends of two curves are cut off.")

# %%
# The same as numbers.
rows = [(name, *map(float, mean)) for name, mean in means.items()]
table(["mean EPE, px, by number of hints", *map(str, COUNTS)], rows)

# %%
# In how many of the scenes each beats the guess that nothing moves.
rows = []
for name, values in errors.items():
    better = (values < errors["no motion"]).mean(axis=0)
    rows.append((name, *(f"{share:.0%}" for share in better)))
table(["better than no motion, by number of hints", *map(str, COUNTS)], rows[:-1])

# %% [markdown]
# **With one hint none beats the guess that nothing moves; with five or ten S2D is far ahead**,
# since it can see what belongs together. With fifty the hints themselves outline the objects, and
# the soft rims of the mini model's flow cost it more than that: the nearest hint wins.
#
# ## What interpolation cannot know
# Five hints on one scene. Only S2D sees the picture: it comes closest, though its
# outlines are no true ones either.

# %%
# Exact flow, and three ways to fill in.
picture, exact = scenes.frames[2, :1], scenes.flow[2, -1:]
few = study.growing_hints(exact, (5,), SEED)
filled = study.dense_guesses(s2d, picture, few)
del filled["no motion"]

# %%
# One scale for all, the exact flow's; what a thin plate has beyond it is darkened.
hinted = draw_hints((255 * picture[0]).byte().permute(1, 2, 0).numpy(), few)
parts = {"5 hints": hinted, "exact flow": exact[0]}
for name, guess in filled.items():
    parts[f"{name}: EPE {study.epe(guess, exact):.1f} px"] = guess[0]
reading = "A thin plate is smooth where truth jumps; the nearest hint jumps in the wrong places."
longest = float(exact.norm(dim=1).max())
show(flow_sheet(parts, title="5 hints, pixels", columns=3, scale=longest), reading)

# %% [markdown]
# ## Pins and the motion brush
# Two tools to say what a track is about. A *pin* is a hint of zero. A *brush* paints the part that
# the tracks starting on it move; all other tracks and pins govern the rest, and S2D runs once for
# each of the two groups.

# %%
# A brush over the flower.
yy, xx = np.mgrid[:height, :width]
disc = np.hypot(xx - 0.48 * width, yy - 0.54 * height) < 0.34 * height

# %%
# The same tracks: bare, with pins, with a brush, and with a brush and one track outside it.
bare = Motion(motion.size, motion.tracks)
outside = [(0.85 * width, 0.8 * height), (0.85 * width, 0.6 * height)]
variants = {"tracks alone": bare, "with pins": motion, "with a brush": bare.with_brush(disc)}
variants["brush, and a track outside it"] = bare.with_track(outside).with_brush(disc)

# %%
# Above: what is drawn. Below: the flow of the last frame.
parts = {name: draw_tracks(image, each, min_side=256) for name, each in variants.items()}
for name, each in variants.items():
    parts[f"flow: {name}"] = session.dense_flow(each)[-1]
reading = "With pins the flow ends where S2D sees the rim; the brush cuts where it was painted."
show(flow_sheet(parts, title="Who moves with the tracks?", height=140, columns=4), reading)

# %% [markdown]
# ## What a tweak costs
# What S2D's image encoder says of the picture is kept. A changed track costs the hints' encoder
# and the decoder, once for every frame that is looked at: that is why the pad's preview begins
# with one.


# %%
# Milliseconds for the picture, once; for one frame of a changed track; for all of its frames.
def timed(what, function, *inputs, **settings):
    begin = time.process_time()
    function(*inputs, **settings)
    print(f"{what}: {1000 * (time.process_time() - begin):.0f} ms of the processor's time")


timed("the picture, once", session.set_image, image)
timed("a changed track, last frame only", session.dense_flow, motion, num_frames=2)
timed("a changed track, all frames", session.dense_flow, motion)

# %% [markdown]
# ## Move a hint yourself
# Four sliders place one track and drag it; flow and warped picture follow. (They need a running
# kernel; a saved page shows where they start.)


# %%
# The pins of the motion file stay.
def drag_one(start_x, start_y, right, down):
    track = [(start_x, start_y), (start_x + right, start_y + down)]
    drawn = {"track": Motion(motion.size, [track], motion.pins)}
    sheet = {"title": "One track, pixels", "scale": height / 4, "height": 168}
    return study.drag_sheet(session, drawn, **sheet)


# %%
# Lowest, highest and first value of each slider.
places = {"start_x": (1, width - 1, width // 2), "start_y": (1, height - 1, height // 2)}
ways = {"right": (-width // 4, width // 4, width // 10), "down": (-height // 4, height // 4, 0)}
Sliders(drag_one, **places, **ways)

# %% [markdown]
# ## A gallery of failures, and their causes
# **Guess first** what goes wrong in each drawing, then look at the warped picture below it.

# %%
# Two drawings that say too little, or say it at the wrong place.
cx, cy, u = 0.48 * width, 0.52 * height, width / 16
beside = [(0.73 * width, cy), (0.73 * width + 2.5 * u, cy)]
wrong = {"no pins": bare, "beside the flower": Motion(motion.size, [beside], motion.pins)}
reading = "Below: the picture, warped. Dark: holes. See-through: two things land on one pixel."
show(study.drag_sheet(session, wrong, title="Too little, and beside", height=180), reading)

# %%
# Two that ask for what cannot be.
left, right = [(cx - u, cy), (cx - 3 * u, cy)], [(cx + u, cy), (cx + 3 * u, cy)]
far = [(cx - 2.5 * u, cy), (cx + 6.5 * u, cy)]
wrong = {"tracks that disagree": Motion(motion.size, [left, right], motion.pins)}
wrong["too long"] = Motion(motion.size, [far], motion.pins)
show(study.drag_sheet(session, wrong, title="Torn, and too long", height=180), reading)

# %% [markdown]
# **Each drawing gets what it says, and says too little or too much:**
#
# - **No pins.** "This moves right" is all that is said, seven times, so the leaves are carried
#   along. Cure: pins, or the brush.
# - **Beside the flower.** The hint starts on a leaf: a patch of the leaf moves, and pieces of
#   the flower's rim are dragged out with it. Cure: start well inside what is meant.
# - **Disagreement.** Two tracks pull one object apart; no rigid answer exists, so it is torn: a
#   hole opens between the halves, and each lands on leaves. Cure: tracks that agree.
# - **Too long.** Longer than anything in training, so it is not believed. Cure: a shorter drag, or
#   more tracks that say the same.
#
# **What to take along:** S2D returns a distribution per pixel of which the flow is made; it knows
# edges that interpolation does not. Next: `03_adapter_conditioning` uses this flow to steer a
# frozen video model.
