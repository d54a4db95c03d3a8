# %% [markdown]
# # 04 · Trajectory animation: draw it, watch it, tweak it
#
# **mini model · about 3 minutes · 2 GB of memory · no GPU needed**
# (release model: a CUDA GPU; of its memory a clip takes 3 to 15 GiB, computed and not measured:
# README, *What it needs on your card*; set `MODEL = "release"` below)
#
# One question: *how do I make the picture do what I have in mind?* The motion pad answers with the
# mouse, the rest of the page with typed points. Both edit the same thing, a `Motion`, and both end
# in the same call.
#
# *Words:* a **track** is the path of one point, a **pin** a point that rests, a **brush** the area
# that alone may follow the tracks on it; **dense flow** is how far every pixel goes, made from them
# by S2D (notebook 02); **splatting** carries pixels to where a flow takes them.
#
# *Mini* is a toy that was trained for this kit: it shows the method on any CPU at 160 pixels, not
# MOFA-Video's quality.

# %%
# What this page calls; every name is one short function away.
import numpy as np
import torch

from mofa_nb.animate import Motion, Session, animate, default_device, film_motion
from mofa_nb.media import data_file, read_image, read_video
from mofa_nb.motion import Track, brush_thing, camera_tracks
from mofa_nb.pad import MotionPad
from mofa_nb.show import ProgressBar, architecture, curves, draw_tracks, flow_sheet, grid
from mofa_nb.show import machine_note, show, show_clip, side_by_side, table, with_progress
from mofa_nb.sweep import sweep

# %%
# All settings. Change one, then choose Run All.
MODEL = "mini"  # or "release", or a model folder
DEVICE = default_device()
PHOTO = data_file("flower.jpg")
MOTION = data_file("flower_sways.json")
STEPS = None  # denoising steps; None takes the model's own
THING = (0.48, 0.52)  # a point of what moves, in parts of the picture's width and height
FILM = data_file("city.mp4")  # whose camera is taken over
SEEDS = [1, 2]
SCALES = [0.5, 1.0]
machine_note(MODEL, DEVICE)

# %%
# The lit boxes are this page.
show(architecture(["motion"]), "What you draw.")

# %% [markdown]
# ## The pad
# Drag on the picture to draw a track; pick **Pin** for what must stay and **Brush** for what alone
# may move. The flow and a warped preview follow as soon as you let go of the mouse. **Animate**
# makes the clip while you go on drawing.

# %%
# The pad opens with an example; everything you draw is kept in `pad.motion`.
session = Session(MODEL, DEVICE)
pad = MotionPad(PHOTO, session, MOTION)
pad

# %% [markdown]
# No mouse, or no kernel? The same motion as typed points does the same thing.

# %%
# A track is a list of (x, y) pixels of the photograph; it ends where the point should end.
photo, image = read_image(PHOTO), session.set_image(PHOTO)
size = width, height = photo.shape[1::-1]
x, y = THING[0] * width, THING[1] * height
way = ((x, y), (x + 0.06 * width, y - 0.02 * height), (x + 0.13 * width, y))
one = Motion(size, [Track(way, speed="ease")])


# %%
# The motion over the picture as the model gets it.
def drawn(motion):
    return draw_tracks(image, session.fitted(motion), min_side=240)


show(drawn(one), "One track, nothing else.")

# %% [markdown]
# ## One track, several tracks, pins
# **Guess first:** with a single track on one thing, will what lies behind it come along?

# %%
# The drawn example has several tracks on the thing, and pins around it.
full = Motion.load(MOTION)
bare = Motion(full.size, full.tracks)
motions = {"one track": one, "its tracks": bare, "tracks + pins": full}
flows = {name: session.dense_flow(motion)[-1] for name, motion in motions.items()}
show(flow_sheet(flows, title="Dense flow at the last frame, pixels", height=150), "White stays.")

# %%
# How far the left and the right quarter of the picture drift.
quarter = image.shape[1] // 4
rows = []
for name, flow in flows.items():
    sides = torch.cat([flow[..., :quarter], flow[..., -quarter:]], dim=-1)
    rows.append((name, float(sides.norm(dim=0).mean())))
table(["motion", "mean drift, px"], rows)

# %% [markdown]
# **It does**, and with more tracks all the more: hints that agree with one another look like a
# moving camera. Pins are known zeros, and they keep still what S2D would otherwise carry
# along.

# %%
# The three clips, last frames side by side.
run = {"model": session, "steps": STEPS, "seed": SEEDS[0]}
lasts = []
for motion in with_progress(motions.values(), "clips", len(motions)):
    lasts.append(animate(PHOTO, motion, **run).frames[-1])
show(side_by_side(lasts, list(motions), height=190), f"Last frames, {session.name} model.")

# %% [markdown]
# ## A thing at one click
# Painted pixels may move with the tracks that start on them; all other pixels listen to the other
# tracks and pins alone. It is the surest way to cut a thing out of its surroundings, and it need
# not be painted by hand: the pad's **Select** takes a click on the thing, and a second one on what
# is not part of it.

# %%
# One click, and the single track from above.
brushed = brush_thing(one, photo, [(x, y)])
pair = {"one click": drawn(brushed), "its flow": session.dense_flow(brushed)[-1]}
reading = "The flow ends where the thing ends; compare with one track above."
show(flow_sheet(pair, title="Selected and moved, pixels", height=190), reading)

# %% [markdown]
# ## When it moves
# A track has its own clock: a start, an end and a speed curve.

# %%
# The same path: at once, eased, and only in the second half of the clip.
timings = {"linear": {}, "ease": {"speed": "ease"}, "late": {"start": 0.5}}
lines = {}
for name, how in timings.items():
    path = Track(way, **how).path(session.num_frames)
    lines[name] = np.arange(session.num_frames), path[:, 0] - x
labels = {"x_label": "frame", "y_label": "pixels to the right"}
show(curves(lines, title="One path, three clocks", **labels), "All three end at the same place.")

# %% [markdown]
# ## Strength and chance
# `trajectory_scale` multiplies what the adapter adds. The seed is the noise that a clip begins as.
# `sweep` makes a clip of every combination of the settings that are lists; with `out=` also files,
# and on the command line `python -m mofa_nb sweep` does the same.
#
# **Guess first:** what will differ more, two seeds or two scales?

# %%
# Rows: trajectory scale. Columns: seed.
swept = sweep(PHOTO, full, model=session, steps=STEPS, trajectory_scale=SCALES, seed=SEEDS)
show(swept.picture, "A cell with nothing but `swept` plays all of them.")

# %%
# Mean difference of two last frames, in grey levels of 255.
last = np.stack([clip.frames[-1].astype(float) for clip in swept.clips])
weak, strong = last[: len(SEEDS)], last[-len(SEEDS) :]
pairs = {"two seeds, half scale": weak[:2], "two seeds, full scale": strong[:2]}
pairs["half and full scale"] = weak, strong
rows = [(name, float(np.abs(a - b).mean())) for name, (a, b) in pairs.items()]
table(["last frames of", "mean difference"], rows)

# %% [markdown]
# **The scale.** With mini the seed decides next to nothing: its networks were taught to make of any
# noise what picture and flow tell, in one step. A large model has more to decide.
#
# ## A camera, drawn or borrowed
# Tracks that fill the frame and agree with one another move the picture as a camera would. The
# pad's camera menu draws them, `camera_tracks` does, and `film_motion` takes them from a film: here
# of its camera alone; without `camera=True` the points of the film move the picture's.

# %%
# A zoom of a fifth, and the camera of a film of towers.
film = read_video(FILM)
taken, notes = film_motion(film, 40, camera=True)
zoom = Motion(size, camera_tracks("Zoom in", 0.2, size))
sheet = [film[0], draw_tracks(film[0], taken, min_side=288), drawn(zoom)]
captions = ["first frame of the film", "its camera's tracks", "a drawn zoom"]
show(side_by_side(sheet, captions, height=170), " ".join(notes))

# %%
# The film's camera moves the photograph, as slowly as it moved the towers.
borrowed = taken.resized(size)
clip = animate(PHOTO, borrowed, progress=ProgressBar(), **run)
show_clip(clip.frames, fps=session.defaults["fps"], title=clip.title)

# %% [markdown]
# ## What goes wrong when a motion is too large
# **Guess first:** the thing is dragged by an eighth, a quarter and nearly half of the picture's
# width. Which clip falls apart, and where?

# %%
# One track and pins; only the distance differs.
shares, clips = (0.125, 0.25, 0.45), []
for share in with_progress(shares, "clips"):
    drag = Motion(size, [Track(((x, y), (x + share * width, y)))], full.resized(size).pins)
    clips.append(animate(PHOTO, drag, **run))

# %%
# A row per distance.
rows = [clip.frames[[0, 6, 13]] for clip in clips]
labels = [f"{share:g} of the width" for share in shares]
show(grid(rows, row_labels=labels, cell_height=128), "Frames 0, 6 and 13.")

# %%
# What the kit itself has to say about the farthest drag.
notes = clips[-1].notes
table(["note"], [(note,) for note in notes] or [("nothing to report",)])

# %% [markdown]
# **At a quarter the thing tears**, since one track and distant pins leave S2D to decide how much
# of it comes along. At nearly half S2D does not believe the drag any more (its range ends, as the
# note says): the thing stops early, and where it was is a smear, in which everything has to be
# invented. A selected thing, more tracks on it, and shorter drags help.
#
# ## Keep it
# The pad's **Save** writes the clip, its filmstrip, its flow, the motion file and a card with all
# settings. By code, `write_outputs` writes clip, filmstrip, flow and card, and a motion saves
# itself:
#
# ```python
# from mofa_nb.pipeline.outputs import write_outputs
# write_outputs(clip, "outputs/my_clip")
# borrowed.save("outputs/my_clip/motion.json")
# ```
#
# The motion file is the one that the command line takes: `python -m mofa_nb animate PHOTO
# motion.json`. Tracks of other tools (ATI, Wan-Move, CoTracker, TAP-Vid) are read there, too.
