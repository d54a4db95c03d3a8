# %% [markdown]
# # 03 · Adapter conditioning: how do warped features steer a frozen video model?
#
# **mini model · about 3 minutes · 2 GB of memory · no GPU needed**
# (release model: a CUDA GPU; of its memory a clip takes 3 to 15 GiB, computed and not measured:
# README, *What it needs on your card*; set `MODEL = "release"` below)
#
# The second network, the MOFA-Adapter (section 3.1 of the paper), takes the first frame and the
# dense flow of notebook 02. It encodes the frame at four scales, moves these features along the
# flow, and lets a copy of the video model's encoder turn them into *residuals* that are added
# inside the video model. In the paper that model is never touched; the mini model's, which has no
# large one to start from, was trained together with its adapter: 14 million weights, to show how
# the method works.
#
# *Words:* **latents** are the VAE's small, many-channelled form of a frame, on which the video
# model works; a **residual** is what the adapter adds to a feature of it; a **skip connection**
# hands features from the UNet's way down to its way up; a **zero convolution** is a 1x1 convolution
# that began at zero; **PSNR** is closeness to the true clip in decibels, **EPE** a motion's error.

# %%
# What this page calls; every name is one short function away.
from dataclasses import replace

import numpy as np
import torch

from mofa_nb.adapter import residual_counts
from mofa_nb.animate import Motion, Session, default_device
from mofa_nb.flow import splat_plan
from mofa_nb.media import data_file, to_uint8, to_unit
from mofa_nb.show import FeatureColours, ProgressBar, architecture, draw_tracks, enlarged
from mofa_nb.show import flow_sheet, flow_to_rgb, machine_note, matrix, show, show_clip
from mofa_nb.show import show_source, table, with_progress
from mofa_nb.study import control as study

# %%
# All settings. Change one, then choose Run All.
MODEL = "mini"  # or "release", or a model folder
DEVICE = default_device()
PHOTO = data_file("flower.jpg")
MOTION = data_file("flower_sways.json")
STEPS = 3  # denoising steps of every clip on this page (mini's own: 1, release: 25)
SCALES = (0.0, 0.5, 1.0, 1.5)  # control scales to compare
SCENES = 4  # of the ablation, and the hints each of them gets
HINTS = 25
SEED = 42
machine_note(MODEL, DEVICE)

# %%
# The lit boxes are this page.
lit = ["reference", "warp", "fusion", "svd"]
show(architecture(lit), "The paper's names; residuals are the only way in for motion.")

# %% [markdown]
# ## The frozen base, left alone
# Stable Video Diffusion turns one image into a short clip. It starts from noise for all frames at
# once and removes it step by step; the image enters twice, as a token that every layer attends to
# (what is in the picture) and as latents beside every frame's noise (where it is). Nothing tells
# it *how* things should move: it was trained to continue a frame plausibly, and the noise decides.
# Training MOFA-Video leaves all of these weights as they are.
#
# **Guess first:** what will the frozen model do with a flower, if nobody says anything?

# %%
# The same noise is used for every clip on this page.
session = Session(MODEL, DEVICE)
image = session.set_image(PHOTO)
models, first = session.models, to_unit(image)
how = {"num_frames": session.num_frames, "steps": STEPS, "seed": SEED}
free_steps = []
free = study.sample_clip(models, first, None, **how, watch=free_steps.append)

# %%
# What it makes of the flower.
fps, title = session.defaults["fps"], f"{session.name} model, no control, {STEPS} steps"
show_clip(to_uint8(free), fps=fps, title=title, reading="Left alone: no track, no flow.")

# %% [markdown]
# **Mini's stays where it is**: told nothing, it was taught to stand still. The real one moves, but
# as it pleases.
#
# ## What the adapter is given
# The first frame, and the dense flow that S2D made of the drawn tracks.

# %%
# As in notebook 02.
motion = session.fitted(Motion.load(MOTION))
session.set_image(image)  # from here on all is in pixels of what the model sees
flow = session.dense_flow(motion)
last = len(flow)

# %%
# All motion that the networks will hear of.
parts = {"drawn": draw_tracks(image, motion), "frame 0 → 6": flow[5], f"frame 0 → {last}": flow[-1]}
reading = "White stays, red moves right."
show(flow_sheet(parts, title="Dense flow, pixels", height=168, columns=3), reading)

# %% [markdown]
# ## First-frame features at four scales
# `conditioning` computes once per video what depends on image and flow alone. Its features stand
# on grids that shrink by two each time, the finest one on the grid of the latents. Colours are the
# three directions in which the channels vary most.

# %%
# Channels and cells of each level.
known = study.condition(models, first, flow)
adapter = models.adapter("trajectory")
strides = adapter.config.strides
for stride, level in zip(strides, known.features, strict=True):
    _, channels, height, width = level.shape
    print(f"1/{stride}: {channels} channels, {width}x{height} cells")

# %%
# A cell is a square.
parts = {"first frame": image}
for stride, level in zip(strides, known.features, strict=True):
    parts[f"1/{stride}"] = enlarged(FeatureColours.of(level)(level[0]), 192)
reading = "Edges and parts at the finest scale; at the coarsest, a few cells for the whole picture."
show(flow_sheet(parts, title="First-frame features", columns=3), reading)

# %% [markdown]
# ## The flow on the same four grids
# Every level needs the flow in its own cells: every 4th, 8th, ... vector, divided by the stride.

# %%
# Colours are relative to the level's cell, so all four show the same motion.
longest = float(flow.norm(dim=1).max())
parts = {}
for stride in strides:
    level = flow[-1, :, ::stride, ::stride] / stride
    name = f"1/{stride}: up to {level.norm(dim=0).max():.1f} cells"
    parts[name] = enlarged(flow_to_rgb(level, longest / stride), 128)
show(flow_sheet(parts, title="Flow pyramid, last frame", height=128), "Outlines get lost.")

# %% [markdown]
# ## Features on the move
# The heart of the method: each first-frame feature is *splatted* forward to where the flow takes
# it. Where nothing lands there is a hole, exactly zero; the networks after it have to fill it.
#
# **Guess first:** on which side of the flower will the hole open?

# %%
# Cells of the finest level where next to nothing lands.
fine = flow[..., :: strides[0], :: strides[0]] / strides[0]
empty = splat_plan(fine[None]).coverage()[0, :, 0] < 0.25  # frames, height, width
share = empty.float().mean(dim=(1, 2))
print(f"holes in frames 4, 8, {last}: {share[3]:.1%}, {share[7]:.1%}, {share[-1]:.1%} of the cells")

# %%
# The paper's warp, in the same adapter.
usual = adapter.config
adapter.config = replace(usual, warp="features")
splatted = study.condition(models, first, flow)
adapter.config = usual

# %%
# The finest level at four moments; dark: holes.
colours = FeatureColours.of(known.features[0])
frames = (0, 4, 8, last)
parts = {f"frame {t}": enlarged(colours(splatted.warped[0][0])[t], 128) for t in frames}
sheet = flow_sheet(parts, title="Splatted features, finest level", height=128)
show(sheet, "The flower's features wander to the right.")

# %% [markdown]
# **On the left**, where the flower was. S2D's flow falls off over a few pixels at the rim, so
# behind the flower some features are stretched across the hole, and before it several land on one
# cell and are averaged.
#
# A cell of the mini model is four pixels wide: of motion between two cells a splatted feature keeps
# only a blur. So its adapter moves *the first frame itself*, pixel by pixel, what moves farther in
# front, fills the holes from around them, and makes the features of that (`warp="picture"`).

# %%
# The same level, made of the moved first frame.
parts = {f"frame {t}": enlarged(colours(known.warped[0][0])[t], 128) for t in frames}
sheet = flow_sheet(parts, title="Features of the moved frame, finest level", height=128)
show(sheet, "Petals keep their edges; the hole is filled.")

# %% [markdown]
# ## Steering
# The encoder copy reads these features together with the noisy latents, in every denoising step,
# and its residuals enter the frozen model's skip connections. A `trace` passes inner tensors to a
# function of ours; here it keeps the strength of each residual.

# %%
# Called with every inner tensor that has a name.
strength = []


def keep(name, value):
    if name == "residuals":
        strength.append(study.residual_strength(value))


# %%
# The same noise as the free clip, now with the adapter.
steered_steps = []
watched = {"watch": steered_steps.append, "trace": keep}
steered = study.sample_clip(models, first, known, **how, **watched)

# %%
# What it makes of the flower now.
title = f"{session.name} model, control scale 1, {STEPS} steps"
reading = "Carried to the right, petals and all; three steps leave some grain."
show_clip(to_uint8(steered), fps=fps, title=title, reading=reading)


# %%
# Is the flow followed? The clip's points are tracked again; 100 % is a clip that stands still
# (grain can mislead the tracker into a little more).
def missed(clip):
    everywhere = torch.ones_like(flow[:, :1], dtype=torch.bool)
    return study.relative_epe(clip, flow, everywhere)


rows = [(name, f"{missed(clip):.0%}") for name, clip in (("free", free), ("steered", steered))]
table(["clip", "EPE of a still clip's"], rows)

# %% [markdown]
# ## The loop, written out
# What the call above does, for whoever wants to see it whole: scale the noisy latents, lay the
# image's latents beside them, ask the adapter for residuals, let the frozen UNet predict, step.

# %%
# Latents of noise and image, the image's token, ids, and the stock scheduler.
latents, beside, token, ids, scheduler = study.sampling_start(models, first, **how)
print(f"noise {tuple(latents.shape)}: clips, frames, channels, height, width; then the image's")

# %%
# Every step, from noise to a clip.
with torch.no_grad():
    for time in scheduler.timesteps:
        noisy = scheduler.scale_model_input(latents, time).to(beside.dtype)
        inputs = torch.cat([noisy, beside], dim=2), time, token, ids
        velocity = models.unet(*inputs, adapter(*inputs, known)).float()
        latents = scheduler.step(velocity, time, latents).prev_sample
print("the same clip, bit for bit:", torch.equal(latents, steered_steps[-1].latents))

# %%
# And the two functions that it calls, from their files: the adapter, and the skip connections.
show_source(type(adapter).forward, type(models.unet).forward)

# %% [markdown]
# ## How strong are the residuals, where and when?
# **Guess first:** are they strongest in the first steps, when all is noise, or in the last?

# %%
# Root mean square per residual and step.
rows = study.residual_names(models.unet)
columns = [f"{step.sigma:.3g}" for step in steered_steps]
labels = {"x_label": "noise level at the start of the step", "bar_label": "root mean square"}
chart = matrix(np.array(strength).T, rows, columns, title="Residuals", size=(7.2, 4.2), **labels)
begin, end = np.mean(strength[0]), np.mean(strength[-1])
reading = f"Mean: {begin:.2f} in the first step, {end:.2f} in the last. Shrunk: downsampled."
show(chart, reading)

# %% [markdown]
# **In the last, but by little**: the adapter speaks about as loudly in every step.
#
# ## Up to four times
# The released UNet adds the whole list of residuals again after every down block, to all features
# made so far, so early ones count up to four times. It looks like an accident, but the published
# weights were trained with it, and so is the mini model.

# %%
# How often each residual enters.
times = [*residual_counts(models.unet.down_blocks), 1]
table(["residual", "enters"], zip(rows, times, strict=True))

# %%
# The last frame if each entered once.
once = study.EachOnce(adapter, models.unet)
single = study.sample_clip(models, first, known, **how, adapter=once)
parts = {}
for name, clip in {"as trained": steered, "each once": single, "no control": free}.items():
    parts[f"{name}: EPE {missed(clip):.0%}"] = to_uint8(clip[-1])
reading = "EPE: of a still clip's. Each once leaves both flowers, and no error message tells."
show(flow_sheet(parts, title="Residual multiplicity", height=160), reading)

# %% [markdown]
# ## When is the motion decided?
# After every step the model has an opinion about the clean clip (x0). Here is its last frame:
# early, midway and at the end, without and with the adapter.

# %%
# Above without control, below with it.
parts = {}
for name, taken in {"free": free_steps, "steered": steered_steps}.items():
    for k in (0, STEPS // 2, STEPS - 1):
        clean = study.clean_frames(models, taken[k])
        parts[f"{name}, step {k + 1}"] = to_uint8(clean[-1])
reading = "Where things stand is decided in the first step; the later ones hardly change it."
show(flow_sheet(parts, title="Predicted last frame (x0)", height=150, columns=3), reading)

# %% [markdown]
# ## How much control?
# The residuals are multiplied by the control scale. The demo of the release advises 0.6. From here
# on clips take the model's own number of steps.

# %%
# One clip per scale, all from the same noise.
how["steps"], clips = session.defaults["steps"], {}
for scale in with_progress(SCALES, "scales"):
    clips[scale] = study.sample_clip(models, first, known, **how, scale=scale)

# %%
# Their last frames.
parts = {}
for scale in SCALES:
    parts[f"{scale}: EPE {missed(clips[scale]):.0%}"] = to_uint8(clips[scale][-1])
title = f"{session.name} model: control scale"
show(flow_sheet(parts, title=title, height=128), "Last frames; EPE: of a still clip's.")

# %% [markdown]
# At 0.5 the flower is moved, but a ghost of the one that stays is left, which EPE does not see.
#
# ## Where to warp?
# The paper's warp and mini's, with the same weights, which were trained for the second.
#
# **Guess first:** what does the clip lose when features are splatted?

# %%
# Same flow and noise; only what is warped differs.
featured = study.sample_clip(models, first, splatted, **how)
own = clips[1.0]
print(f"EPE: features {missed(featured):.0%}, picture {missed(own):.0%} of a still clip's")

# %%
# The last frames.
parts = {"features warped": featured, "picture warped": own}
parts = {name: to_uint8(clip[-1]) for name, clip in parts.items()}
reading = "Splatted features leave a motley flower."
show(flow_sheet(parts, title="Features or picture", height=160), reading)

# %% [markdown]
# **Its sharpness, and some of its motion**: a part of the flower stays behind as grey crumbs. At
# the release's size a cell is eight pixels of a picture four times as large, and its networks were
# trained to paint from such features.
#
# ## What each part is good for
# The paper takes parts out (and retrains each variant). Here they are taken out of the trained mini
# model, so the figures below are **about this toy and no evidence about MOFA-Video**. *No warping*:
# every frame gets the first frame's own features. *No S2D*: the hints go straight into the warp.
#
# **Guess first:** which of the two hurts the motion more?

# %%
# The same hints and noise for every variant, on held-out scenes with exact motion.
side = session.defaults["short_side"]
scenes = study.evaluation_scenes(SCENES, session.num_frames, (side, side))
settings = {"hints": HINTS, "steps": how["steps"], "seed": SEED, "progress": ProgressBar()}
found = study.ablation(models, scenes, **settings)

# %%
# Means over the scenes, and each scene by itself.
rows = []
for name, each in found.items():
    epe, db = np.array(each).T
    apart = ", ".join(f"{value:.0%}" for value in epe)
    rows.append((name, f"{epe.mean():.0%}", apart, float(db.mean())))
head = [f"{session.name} model", "EPE of a still clip's", "scene by scene", "PSNR, dB"]
table(head, rows)

# %% [markdown]
# **Neither more than the other: without either the clip does not follow**, so both are needed. The
# last two rows are not models: the photograph held still, and the photograph splatted along S2D's
# flow with its holes inpainted. The networks are ahead of that in the mean, by little.
#
# ## A gallery of failures, and their causes
# **Guess first** what goes wrong in each.

# %%
# Two motions that ask for trouble.
width, height = motion.size
x, y, u = 0.48 * width, 0.52 * height, width / 16
far = [(x, y), (x + 0.4 * width, y)]
left, right = [(x - u, y), (x - 3 * u, y)], [(x + u, y), (x + 3 * u, y)]
drawn = {"too far": Motion(motion.size, [far], motion.pins)}
drawn["apart"] = Motion(motion.size, [left, right], motion.pins)

# %%
# What was drawn, its flow, and the last frame.
parts = {}
for name, each in with_progress(drawn.items(), "failures", len(drawn)):
    dense = session.dense_flow(each)
    clip = study.sample_clip(models, first, study.condition(models, first, dense), **how)
    parts |= {f"drawn: {name}": draw_tracks(image, each, min_side=256), f"flow: {name}": dense[-1]}
    parts[f"last frame: {name}"] = to_uint8(clip[-1])
show(flow_sheet(parts, title="Failures", height=150, columns=3), "Causes below.")

# %% [markdown]
# - **Too far.** S2D does not believe so long a drag (notebook 02), so the flower stops early; and
#   what it uncovers was never photographed, so it has to be invented.
# - **Apart.** The flow itself is torn, and the adapter follows it faithfully: the cause is drawn.
# - **Scale 1.5** (above). Residuals stronger than in training: hardly more motion than at 1, since
#   the frozen model is pushed out of the range it knows.
#
# **What to take along:** the frozen model supplies the picture, the warped features the place, the
# residuals are the only link from motion to picture. Next: `04_trajectory_animation` puts a
# drawing pad in front of all this.
