# %% [markdown]
# # 04 · Trajectory animation: draw it, watch it, tweak it
#
# **mini model · about 2 minutes · 2 GB of memory · no GPU needed**
# (release model: a CUDA GPU with 12 GB or more; set `MODEL = "release"` below)
#
# One question: *how do I make the picture do what I have in mind?* The motion pad answers with the
# mouse, the rest of the page with typed points. Both edit the same thing, a `Motion`, and both end
# in the same call.
#
# *Mini* is a toy that was trained for this kit: it shows the method on any CPU at 160 pixels, not
# MOFA-Video's quality.

# %%
# What this page calls; every name is one short function away.
import numpy as np

from mofa_nb.animate import Motion, Session, animate, default_device
from mofa_nb.media import data_file
from mofa_nb.motion import Track
from mofa_nb.pad import MotionPad
from mofa_nb.pad.presets import camera_tracks
from mofa_nb.show import ProgressBar, draw_tracks, flow_to_rgb, grid, machine_note, show
from mofa_nb.show import show_clip, side_by_side, table, with_progress

# %%
# All settings. Change one, then choose Run All.
MODEL = "mini"  # or "release", or a model folder
DEVICE = default_device()
PHOTO = data_file("flower.jpg")
MOTION = data_file("flower_sways.json")
STEPS = None  # denoising steps; None takes the model's own
SEEDS = (1, 2)
SCALES = (0.0, 0.5, 1.0)
machine_note(MODEL, DEVICE)

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
image = session.set_image(PHOTO)
size = (640, 427)
head = [Track(((307, 222), (345, 213), (391, 224)), speed="ease")]
one = Motion(size, head)
show(draw_tracks(image, one.resized(image.shape[1::-1])), "One track on the flower, nothing else.")

# %% [markdown]
# ## One track, several tracks, pins
# **Guess first:** with a single track on the flower head, will the leaves behind it come along?

# %%
# The drawn example has seven tracks on the head and nine pins around it.
full = Motion.load(MOTION)
motions = {
    "one track": one,
    "seven tracks": Motion(full.size, full.tracks),
    "tracks + pins": full,
}
flows = {name: session.dense_flow(motion) for name, motion in motions.items()}
pictures = [flow_to_rgb(flow[-1]) for flow in flows.values()]
show(side_by_side(pictures, list(flows), height=190), "Dense flow at the last frame.")

# %%
# Pins are known zeros: they keep still what S2D would otherwise carry along.
away = np.ones(image.shape[:2], bool)
away[:, image.shape[1] // 4 : 3 * image.shape[1] // 4] = False
rows = [(n, float(f[-1].norm(dim=0)[away].mean())) for n, f in flows.items()]
table(["motion", "mean drift of the left and right quarter, px"], rows)

# %%
# The three clips, last frames side by side.
run = {"steps": STEPS, "seed": SEEDS[0]}
todo = with_progress(list(motions.items()), "clips")
clips = {n: animate(PHOTO, m, model=session, **run) for n, m in todo}
lasts = [clip.frames[-1] for clip in clips.values()]
show(side_by_side(lasts, list(clips), height=190), f"Last frames, {session.name} model.")

# %% [markdown]
# ## The brush
# Painted pixels may move with the tracks that start on them; all other pixels listen to the other
# tracks and pins alone. It is the surest way to cut an object out of its surroundings.

# %%
# A round brush over the flower head, and a single track that starts on it.
y, x = np.mgrid[: size[1], : size[0]]
disc = np.where(np.hypot(x - 307, y - 222) < 135, 255, 0).astype(np.uint8)
brushed = one.with_brush(disc)
flow = session.dense_flow(brushed)
drawn = draw_tracks(image, brushed.resized(image.shape[1::-1]), min_side=190)
pair = [drawn, flow_to_rgb(flow[-1])]
show(side_by_side(pair, ["brush", "its flow"], height=190), "The flow ends at the brush's edge.")

# %% [markdown]
# ## When it moves
# A track has its own clock: a start, an end and a speed curve.

# %%
# The same path: at once, eased, and only in the second half of the clip.
timings = {"linear": {}, "ease": {"speed": "ease"}, "late": {"start": 0.5}}
tracks = {name: Track(head[0].points, **how) for name, how in timings.items()}
moved = {name: track.path(14)[:, 0] - 307 for name, track in tracks.items()}
rows = [(name, *(float(v) for v in xs[[3, 6, 9, 13]])) for name, xs in moved.items()]
table(["timing", "frame 3", "frame 6", "frame 9", "frame 13"], rows)

# %% [markdown]
# ## Strength and chance
# `trajectory_scale` multiplies what the adapter adds; the seed decides what the drawing leaves
# open.

# %%
# Rows: trajectory scale. Columns: seed. Only the drawing is the same everywhere.
pairs = with_progress([(c, s) for c in SCALES for s in SEEDS], "clips")
made = {
    (c, s): animate(PHOTO, full, model=session, steps=STEPS, seed=s, trajectory_scale=c).frames[-1]
    for c, s in pairs
}

# %%
# At scale 0 the model runs free; the motion comes in with the scale, for every seed.
cells = [[made[c, s] for s in SEEDS] for c in SCALES]
heads = [[f"seed {s}" for s in SEEDS]] + [["" for _ in SEEDS]] * (len(SCALES) - 1)
labels = [f"scale {c:g}" for c in SCALES]
show(grid(cells, heads, row_labels=labels, cell_height=128), "Last frames.")

# %% [markdown]
# ## Anchored to the photograph
# A network as small as mini paints softly. In its first, noisy step its estimate is therefore
# replaced by the photograph itself, *splatted* to where the flow takes it; what gets uncovered is
# mostly inpainted from around it. The last step is free. Of the decoded clip, what is finer than a
# cell of the latents is a guess; the photograph's own detail takes its place, carried along, too.
# That is `anchor`, from 0 (the paper and release) to 1.
#
# **Guess first:** where will one see that the photograph knows nothing of what was hidden?

# %%
# The same drawing and seed, without and with the anchor.
anchors = {"anchor 0": 0.0, "anchor 1": 1.0}
todo = with_progress(list(anchors.items()), "clips")
pair = [animate(PHOTO, full, model=session, trajectory_anchor=a, **run).frames[-1] for _, a in todo]
reading = "Last frames. On the left of the flower both have to guess."
show(side_by_side(pair, list(anchors), height=256), reading)

# %% [markdown]
# ## A camera move
# Tracks that fill the frame and agree with one another move the picture as a camera would. The
# pad's camera menu draws them; so does one call.

# %%
# A zoom of a fifth, as a grid of tracks.
zoom = Motion(size, camera_tracks("Zoom in", 0.2, size))
clip = animate(PHOTO, zoom, model=session, progress=ProgressBar(), **run)
show(draw_tracks(image, zoom.resized(image.shape[1::-1])), "All tracks lead away from the middle.")

# %%
# The clip of the zoom.
show_clip(clip.frames, fps=session.defaults["fps"], title=clip.title)

# %% [markdown]
# ## What goes wrong when a motion is too large
# **Guess first:** the flower is dragged by an eighth, a quarter and half of the picture. Which clip
# falls apart, and where?

# %%
# One track and pins; only the distance differs.
drags = {s: Track(((307, 222), (307 + s * size[0], 222))) for s in (0.125, 0.25, 0.45)}
far = {f"{s:g} of the width": Motion(size, [t], full.pins) for s, t in drags.items()}
todo = with_progress(list(far.items()), "clips")
clips = {n: animate(PHOTO, m, model=session, **run) for n, m in todo}
rows = [[clip.frames[k] for k in (0, 6, 13)] for clip in clips.values()]
show(grid(rows, row_labels=list(clips), cell_height=128), "Frames 0, 6 and 13.")

# %% [markdown]
# Three causes add up. The bins of S2D end at a fixed distance, and beyond it displacement is cut
# off (`clip.notes` says so). Warped features leave a hole as large as the object, and everything in
# it has to be invented. And large displacements were rare in training. Shorter drags, more tracks
# on the object, and pins around it help, in this order.

# %%
# What the kit itself has to say about the farthest drag.
notes = list(clips.values())[-1].notes
table(["note"], [(note,) for note in notes] or [("nothing to report",)])

# %% [markdown]
# ## Keep it
# The pad's **Save** writes the clip, its filmstrip, its flow, the motion file and a card with all
# settings. The same by code:
#
# ```python
# from mofa_nb.pipeline.outputs import write_outputs
# write_outputs(clip, "outputs/my_clip")
# ```
#
# The motion file is the one that the command line takes: `python -m mofa_nb animate`.
