# %% [markdown]
# # 03 · Adapter conditioning: how do warped features steer a frozen video model?
#
# **mini model · about 2 minutes · 1.5 GB of memory · no GPU needed**
# (release model: a CUDA GPU with 12 GB or more; set `MODEL = "release"` below)
#
# The second network, the MOFA-Adapter (section 3.1 of the paper), takes the first frame and the
# dense flow of notebook 02. It encodes the frame at four scales, moves these features along the
# flow, and lets a copy of the video model's encoder turn them into *residuals* that are added
# inside the video model. In the paper that model is never touched; the mini model's, which has no
# large one to start from, was trained together with its adapter. The clips of this page are
# painted by these two networks alone, without the photograph's help that the other pages have
# (notebook 04): they show how the method works, and what 15 million weights can do.

# %%
# What this page calls; every name is one short function away.
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
STEPS = 3  # denoising steps of every clip on this page (release: 25)
SCALES = (0.0, 0.5, 1.0, 1.5)  # control scales to compare
SCENES = 2  # of the ablation, and the hints each of them gets
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
fps, title = session.defaults["fps"], f"{session.name} model, no control, {STEPS} steps"
show_clip(
    to_uint8(free),
    fps=fps,
    title=title,
    reading="Mini stays where it is and decays a little. The real one moves, but as it pleases.",
)

# %% [markdown]
# ## What the adapter is given
# The first frame, and the dense flow that S2D made of the drawn tracks.

# %%
# As in notebook 02.
motion = session.fitted(Motion.load(MOTION))
session.set_image(image)  # from here on all is in pixels of what the model sees
flow = session.dense_flow(motion)
last = len(flow)
parts = {"drawn": draw_tracks(image, motion), "frame 0 → 6": flow[5], f"frame 0 → {last}": flow[-1]}
reading = "White stays, red moves right."
show(flow_sheet(parts, title="Dense flow, pixels", height=168, columns=3), reading)

# %% [markdown]
# ## First-frame features at four scales
# `conditioning` computes once per video what depends on image and flow alone. Its features stand
# on grids that shrink by two each time, the finest one on the grid of the latents. Colours are the
# three directions in which the channels vary most.

# %%
# One picture per level; a cell is a square.
known = study.condition(models, first, flow)
adapter = models.adapter("trajectory")
colours = [FeatureColours.of(level) for level in known.features]
parts = {"first frame": image}
for stride, level, colour in zip(adapter.config.strides, known.features, colours, strict=True):
    _, channels, height, width = level.shape
    name = f"1/{stride}: {channels} channels, {width}x{height}"
    parts[name] = enlarged(colour(level[0]), 192)
reading = "Edges and parts at the finest scale; at the coarsest, a few cells for the whole picture."
show(flow_sheet(parts, title="First-frame features", columns=3), reading)

# %% [markdown]
# ## The flow on the same four grids
# Every level needs the flow in its own cells: every 4th, 8th, ... vector, divided by the stride.

# %%
# Colours are relative to the level's cell, so all four show the same motion.
levels = [flow[-1, :, ::s, ::s] / s for s in adapter.config.strides]
longest = float(flow.norm(dim=1).max())
parts = {}
for stride, level in zip(adapter.config.strides, levels, strict=True):
    name = f"1/{stride}: up to {float(level.norm(dim=0).max()):.1f} cells"
    parts[name] = enlarged(flow_to_rgb(level, longest / stride), 128)
show(
    flow_sheet(parts, title="Flow pyramid, last frame", height=128), "Coarse levels lose outlines."
)

# %% [markdown]
# ## Features on the move
# The heart of the method: each first-frame feature is *splatted* forward to where the flow takes
# it. Where nothing lands there is a hole, exactly zero; the networks after it have to fill it.
#
# **Guess first:** on which side of the flower will the hole open?

# %%
# The finest level, at four moments, in the same colours as above; dark: holes.
moved = known.warped[0][0]  # T C h w
shown = colours[0](moved)
parts = {f"frame {t}": enlarged(shown[t], 128) for t in (0, 4, 8, last)}
cell = adapter.config.strides[0]
fine = flow[..., ::cell, ::cell] / cell
empty = (splat_plan(fine[None]).coverage()[0] < 0.25).float().mean(dim=(1, 2, 3))
reading = (
    f"Holes in frames 4, 8, {last}: {empty[3]:.1%}, {empty[7]:.1%}, {empty[-1]:.1%} of the cells."
)
show(flow_sheet(parts, title="Warped features, finest level", height=128), reading)

# %% [markdown]
# **On the left**, where the flower was. S2D's flow falls off over a few pixels at the rim, so
# behind the flower some features are stretched across the hole, and before it several land on one
# cell and are averaged.
#
# ## Steering
# The encoder copy reads these features together with the noisy latents, in every denoising step,
# and its residuals enter the frozen model's skip connections. A `trace` passes inner tensors to a
# function of ours; here it keeps the strength of each residual.

# %%
# The same noise as the free clip, now with the adapter.
strength, steered_steps = [], []


def keep(name, value):
    if name == "residuals":
        strength.append(study.residual_strength(value))


steered = study.sample_clip(models, first, known, **how, watch=steered_steps.append, trace=keep)
title = f"{session.name} model, control scale 1, {STEPS} steps"
show_clip(
    to_uint8(steered),
    fps=fps,
    title=title,
    reading="Carried to the right; torn on its left, and the colours drift.",
)

# %% [markdown]
# ## The loop, written out
# What the call above does, for whoever wants to see it whole: scale the noisy latents, lay the
# image's latents beside them, ask the adapter for residuals, let the frozen UNet predict, step.

# %%
# Latents of noise and image, the image's token, ids, and the stock scheduler.
latents, beside, token, ids, scheduler = study.sampling_start(models, first, **how)
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
first_mean, last_mean = np.mean(strength[0]), np.mean(strength[-1])
reading = f"On average {first_mean:.2f} in the first step and {last_mean:.2f} in the last."
show(chart, reading)

# %% [markdown]
# **In the first, but by little**: the adapter speaks about as loudly in every step.
#
# ## Up to four times
# The released UNet adds the whole list of residuals again after every down block, to all features
# made so far, so early ones count up to four times. It looks like an accident, but the published
# weights were trained with it, and so is the mini model.

# %%
# How often each residual enters, and the clip if each entered once.
print(dict(zip(rows, [*residual_counts(models.unet.down_blocks), 1], strict=True)))
once = study.EachOnce(adapter, models.unet)
single = study.sample_clip(models, first, known, **how, adapter=once)
parts = {"as trained": to_uint8(steered[-1]), "each once": to_uint8(single[-1])}
parts["no control"] = to_uint8(free[-1])
reading = "Last frames. Each once is weaker control, and no error message would tell."
show(flow_sheet(parts, title="Residual multiplicity", height=160), reading)

# %% [markdown]
# ## When is the motion decided?
# After every step the model has an opinion about the clean clip (x0). Here is its last frame:
# early, midway and at the end, without and with the adapter.

# %%
# Above without control, below with it.
parts = {}
for name, taken, end in (("free", free_steps, free), ("steered", steered_steps, steered)):
    guesses = {k + 1: study.clean_frames(models, taken[k]) for k in (0, STEPS // 2)}
    guesses[STEPS] = end
    parts |= {f"{name}, step {k}": to_uint8(clean[-1]) for k, clean in guesses.items()}
reading = "Where things stand is decided in the first step; the later ones hardly change it."
show(flow_sheet(parts, title="Predicted last frame (x0)", height=150, columns=3), reading)

# %% [markdown]
# ## How much control?
# The residuals are multiplied by the control scale. The demo of the release advises 0.6.

# %%
# One clip per scale, all from the same noise.
clips = {0.0: free, 1.0: steered}
for scale in with_progress([s for s in SCALES if s not in clips], "scales"):
    clips[scale] = study.sample_clip(models, first, known, **how, scale=scale)
seen = flow[:, :1] * 0 == 0
share = {s: study.followed(clips[s], flow, seen) for s in SCALES}
parts = {f"{s}: EPE {share[s]:.0%}": to_uint8(clips[s][-1]) for s in SCALES}
reading = "Last frames; EPE: re-tracked end-point error as a share of a still clip's."
show(
    flow_sheet(parts, title=f"{session.name} model: control scale", height=128, columns=4), reading
)

# %% [markdown]
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
settings = {"hints": HINTS, "steps": 2, "seed": SEED, "progress": ProgressBar()}
found = study.ablation(models, scenes, **settings)

# %%
# Means over the scenes, and each scene by itself.
rows = []
for name, each in found.items():
    epe, db = np.array(each).T
    apart = ", ".join(f"{value:.0%}" for value in epe)
    rows.append((name, f"{epe.mean():.0%}", apart, float(db.mean())))
head = [f"{session.name} model, scenes: {SCENES}", "EPE of a still clip's", "scene by scene"]
table([*head, "PSNR, dB"], rows)

# %% [markdown]
# **Without either the clip hardly moves**: both are needed. The last two rows are not models: the
# photograph held still, and the photograph splatted along S2D's flow with its holes inpainted. On
# this toy **plain splatting is better**: its networks paint worse than the photograph's own pixels
# look. What MOFA-Video paints, its authors show.
#
# ## A gallery of failures, and their causes
# **Guess first** what goes wrong in each.

# %%
# Two motions that ask for trouble, and a scale that is too strong.
width, height = motion.size
x, y, u = 0.48 * width, 0.52 * height, width / 16
far = Motion(motion.size, [[(x, y), (x + 0.4 * width, y)]], motion.pins)
apart = Motion(
    motion.size, [[(x - u, y), (x - 3 * u, y)], [(x + u, y), (x + 3 * u, y)]], motion.pins
)
drawn = {"too far": far, "apart": apart}
results = {}
for name, each in with_progress(drawn.items(), "failures", len(drawn)):
    dense = session.dense_flow(each)
    made = study.condition(models, first, dense)
    results[name] = dense, study.sample_clip(models, first, made, **how)

# %%
# What was drawn, its flow, and the last frame.
parts = {}
for name, (dense, clip) in results.items():
    parts[f"drawn: {name}"] = draw_tracks(image, drawn[name], min_side=256)
    parts[f"flow: {name}"] = dense[-1]
    parts[f"last frame: {name}"] = to_uint8(clip[-1])
reading = "The flow column shows what the model was asked for; causes below."
show(flow_sheet(parts, title="Failures", height=150, columns=3), reading)

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
