# %% [markdown]
# # 01 · Sparse motion sampling: which few vectors stand for a moving scene?
#
# **no model · less than a minute · 1 GB of memory · no GPU needed**
#
# MOFA-Video is *used* with a few drawn tracks, but it is *trained* on videos, where every pixel
# moves. Section 4 of the paper bridges the two: it estimates the dense motion of a training clip
# and keeps it at a few pixels only, chosen so that a person could have drawn them. This page does
# the same to a real clip and to a scene whose motion is known exactly, and ends with tracks drawn
# by hand, which turn out to be the very same kind of thing.
#
# *Words:* **flow** is how far each pixel has gone since frame 0; **DIS** is a classical estimator
# of it; **end-point error** is the distance between an estimated displacement and the true one; a
# **hint** is the flow of one pixel, the rest being unknown.

# %%
# What this page calls; every name is one short function away.
import numpy as np

from mofa_nb.clips.scenes import evaluation_scenes
from mofa_nb.flow import clip_flow, clip_flows, hints_from_flow, motion_hints, nearest_flow
from mofa_nb.flow import samplers, visible
from mofa_nb.media import data_file, read_image, read_video
from mofa_nb.motion import Motion, fit_image
from mofa_nb.show import Sliders, architecture, curves, draw_hints, draw_tracks, flow_sheet
from mofa_nb.show import heat_map, show, show_clip, table, with_progress
from mofa_nb.study import hints as study

# %%
# All settings. Change one, then choose Run All.
CLIP = data_file("big_buck_bunny.mp4")
FRAMES = range(28, 56, 2)  # 14 frames, every other one
SIDE = 256  # shorter side of what we look at, pixels
SCENE = 2  # which of the 32 scenes with exact motion
SCENES = 32  # for the curve
PHOTO = data_file("flower.jpg")
MOTION = data_file("flower_sways.json")
GRID = 128  # side of the hint grid: 128 of the mini model, 384 of the release
SEED = 42

# %% [markdown]
# ## Where this page stands
# In use hints come from a drawing; in training, from a film. This page makes them.

# %%
# The lit box is this page.
show(architecture(["hints"]), "Everything to the right starts from a few vectors.")

# %% [markdown]
# ## A real clip
# One second of *Big Buck Bunny* ((c) 2008 Blender Foundation, CC-BY 3.0): the rabbit rises and
# turns, a butterfly flaps by.

# %%
# Every frame is scaled to the same small size.
video = read_video(CLIP)
frames = np.stack([fit_image(video[k], 1, short_side=SIDE)[0] for k in FRAMES])
reading = "Watch two things: the big slow rabbit, and the small fast butterfly."
show_clip(frames, fps=12, title="Big Buck Bunny · no model at work", reading=reading)

# %% [markdown]
# ## Its dense motion
# The flow always runs **from frame 0 to frame t**: for each pixel of the first frame, how far it
# has gone. (OpenCV's DIS estimates it; `clip_flow(frames, "raft")` is a learned alternative.) All
# pictures of one clip share one scale, so frames compare; the wheel says which colour is which way.

# %%
# Forward and backward flow of all frames at once.
forward, backward = clip_flows(frames)
parts = {f"frame 0 → {t}": forward[t - 1] for t in (1, 5, 9, 13)}
reading = "The rabbit drifts right and a little up, more and more; the meadow hardly moves: white."
show(flow_sheet(parts, title="Estimated motion, pixels", height=128, columns=2), reading)

# %% [markdown]
# **Guess first:** the butterfly flies across more than a quarter of the picture. Why is there no
# spot of that motion's colour in the later flows above? The next cell follows every pixel forward
# and back again; what does not return to its start has been lost.

# %%
# Black: pixels of frame 0 that the estimator does not find again in frame t.
found = visible(forward, backward)
seen = {f"frame 0 → {t}": np.uint8(255) * found[t - 1, 0].numpy() for t in (1, 5, 13)}
parts = {name: np.repeat(mask[..., None], 3, axis=2) for name, mask in seen.items()}
reading = f"{100 * (1 - found[-1].float().mean()):.0f}% of the pixels are lost by the last frame."
title = "Does a pixel's way lead back to its start? (white: yes)"
show(flow_sheet(parts, title=title, height=128), reading)

# %% [markdown]
# **It is too small, too fast, and flaps:** its flow is a guess that the way back does not
# confirm. Dense flow of real video is never the truth. So we also look at a scene that is.

# %% [markdown]
# ## A scene with exact motion
# Parts of photographs move over photographs, on paths that we chose: the true flow of every pixel
# is known. The mini model is trained on such scenes (of other photographs).

# %%
# One of the 32 scenes that the benchmark uses.
scene = evaluation_scenes(SCENE + 1, len(FRAMES), (SIDE, SIDE))[SCENE:]
truth = scene.flow[0]
begin, end = (255 * scene.frames[0, [0, -1]]).byte().permute(0, 2, 3, 1).numpy()

# %%
# Its first and its last frame, and the flow that leads from one to the other.
parts = {"first frame": begin, "last frame": end, "exact flow": truth[-1]}
show(flow_sheet(parts, title="A scene whose motion is known"), "Every part has one colour.")

# %%
# The same estimator as above, on a scene where it can be checked.
guess = clip_flow(scene.frames[0])
error = (guess[-1] - truth[-1]).norm(dim=0)
parts = {"exact flow": truth[-1], "estimated flow": guess[-1]}
parts["error of the estimate, px"] = heat_map(error.numpy(), height=192)
reading = f"End-point error: {error.mean():.2f} px on average, most of it at outlines."
show(flow_sheet(parts, title="The estimate, checked", columns=3), reading)

# %% [markdown]
# ## Where would a person draw?
# Not on outlines: nobody drags a pixel that is half object, half background. The paper's
# *watershed* sampling finds (1) the motion edges, (2) for each pixel the distance to the nearest
# edge, and (3) keeps the pixels that are farthest in their neighbourhood: the middles of what
# moves as one.

# %%
# Steps 1 and 2: how strongly the flow changes (a motion edge), and how far away that is.
_, edges = samplers.motion_edges(truth)
distance = samplers.edge_distance(edges)
parts = {"first frame": begin, "exact flow": truth[-1]}
parts["motion edges"] = heat_map(edges, height=172)
parts["distance to an edge, px"] = heat_map(distance, high=40, height=172)
reading = "Small bright tops in a moving thing are its middles; corners are far from edges, too."
show(flow_sheet(parts, title="From flow to watershed", height=172), reading)

# %% [markdown]
# **Guess first:** how many points will step 3 leave, and will the resting background get any?

# %%
# Step 3; of points too close to each other, a coin (the random generator) decides which stays.
rng = np.random.default_rng(SEED)
window, stride = study.scaled_window(SIDE), study.scaled_stride(SIDE)
points = samplers.watershed_points(truth, rng, window=window)
parts = {"hints": draw_hints(begin, hints_from_flow(truth, points)), "exact flow": truth[-1]}
reading = f"{len(points)} hints stand for {truth[-1, 0].numel():,} vectors."
title = "Watershed hints (arrows: motion to the last frame)"
show(flow_sheet(parts, title=title, height=320), reading)

# %% [markdown]
# **Every moving part has its hint, and the resting background has none:** the pixels farthest from
# any edge lie on the picture's border, where the release takes no points. But "this rests" is as
# good to know as "this moves" (a pin in a motion file says exactly that). So training adds a plain
# grid.
#
# ## Six samplers
# The release trains with the union of *grid* and *watershed*. All six are pure functions of a flow
# and a random generator.

# %%
# The real clip again, its last flow, six ideas of where to look.
kept = {}
for name in ("grid", "uniform", "single", "gradient_nms", "watershed", "grid, watershed"):
    size = {"window": window, "stride": stride, "count": 25}
    kept[name] = samplers.sample_points(forward, rng, strategy=name.split(", "), **size)


# %%
# An arrow is a hint that moves, a ring one that rests.
def hints_over_clip(points):
    return draw_hints(frames[0], hints_from_flow(forward, points), min_side=SIDE)


parts = {f"{name}: {len(points)}": hints_over_clip(points) for name, points in kept.items()}
reading = "gradient_nms sits on outlines, watershed inside them, the grid does not care."
show(flow_sheet(parts, title="Sampler: number of hints", height=180, columns=3), reading)

# %% [markdown]
# **Guess first:** the arrows on the trees at the right: which motion do they tell of?

# %%
# Hints on pixels that the way back has lost (black, further above).
x, y = kept["grid, watershed"].unbind(-1)
wrong = int((~found[-1, 0, y, x]).sum())
print(f"{wrong} of {len(x)} hints of the union stand where the estimate has lost its pixel.")

# %% [markdown]
# **Of none: they are wrong hints.** The trees rest; it is the lost butterfly whose flow the
# estimator has guessed there. A hint is only as good as the flow that it is read from, and a model
# trained on films learns to live with some that are wrong.
#
# ## How many?
# Two numbers decide: the side of the neighbourhood in which only one watershed point survives
# (*window*), and the spacing of the grid (*stride*). The release has 15 and 80 pixels on its grid
# of 384; the middle picture is the same at this size.

# %%
# Larger windows downward, denser grids to the right.
tried = {}
for each in (5, window, 31):
    for step in (96, stride, 32):
        tried[each, step] = samplers.sample_points(forward, rng, window=each, stride=step)

# %%
# Every pair as a picture.
parts = {}
for (each, step), points in tried.items():
    parts[f"{each} and {step} px: {len(points)}"] = hints_over_clip(points)
numbers = [len(points) for points in tried.values()]
reading = f"From {min(numbers)} to {max(numbers)} hints by two numbers."
title = "Window and stride: number of hints"
show(flow_sheet(parts, title=title, height=160, columns=3), reading)


# %%
# The same with sliders (they need a running kernel; the picture is what they start with).
def resample(window: int, stride: int):
    odd = 2 * (window // 2) + 1
    return hints_over_clip(samplers.sample_points(forward, rng, window=odd, stride=stride))


Sliders(resample, window=(3, 61, 11), stride=(24, 128, 53))

# %% [markdown]
# ## What do k hints carry?
# Give every pixel the vector of its nearest hint, and ask which share of the motion's energy (the
# sum of squared lengths) that explains: 1 is the whole flow, 0 no better than no motion at all.
#
# **Guess first:** which of grid, chance and watershed wins with 9 hints, and which with 36?

# %%
# The last flow of many scenes with exact motion.
counts = [9, 16, 36, 64, 100]
many = study.two_frame_scenes(SCENES, 128)
share = study.carried_energy(with_progress(many.flow, "scenes"), counts, rng)

# %%
# The median scene; shaded: from the lower to the upper quartile of the scenes.
lines = {name: (counts, np.median(values, axis=0)) for name, values in share.items()}
bands = {"watershed": np.quantile(share["watershed"], (0.25, 0.75), axis=0)}
labels = {"x_label": "number of hints", "y_label": "share of motion energy"}
chart = curves(
    lines, bands=bands, title="What k hints carry", log_x=True, from_zero=False, **labels
)
show(chart, "1: all of the motion; 0: what a guess of no motion explains.")

# %%
# The same as numbers.
rows = [(name, *map(float, medians)) for name, (_, medians) in lines.items()]
table(["median scene", *(f"{k} hints" for k in counts)], rows)

# %% [markdown]
# **Watershed wins, and most with few hints**: it spends them on what moves differently, while the
# grid and chance spend them anywhere; with a hundred the three come together. But scenes differ
# about as much as samplers do (the band), and even a hundred hints leave a quarter unexplained:
# filling by nearest hint does not know where an object ends. That is what S2D learns (next
# notebook).
#
# ## The same scene with 5, 25 and 100 hints

# %%
# Hints that are spread over moving parts and background, the most telling first.
spread = samplers.spread_watershed_points(truth, rng, count=100, window=window)
parts = {}
for k in (5, 25, 100):
    parts[f"{k} hints"] = draw_hints(begin, hints_from_flow(truth, spread[:k]), min_side=SIDE)
show(flow_sheet(parts, title="Growing hints", height=220, columns=3), "Rings rest.")

# %%
# Every pixel moves as its nearest hint.
parts = {"exact flow": truth[-1]}
for k in (5, 25, 100):
    carried = study.explained_energy(truth[-1], spread[:k])
    filled = nearest_flow(hints_from_flow(truth, spread[:k]))
    parts[f"from {k}: {carried:.0%} of energy"] = filled[-1]
reading = "Below 0 % the filling is worse than no motion: few hints drag the background along."
show(flow_sheet(parts, title="Nearest filling", height=180), reading)

# %% [markdown]
# ## Training and use meet
# A motion file holds drawn tracks. Written on the hint grid they become the same `Hints`: a sparse
# flow and a mask. This is the photograph and the motion that travel through notebooks 00 to 04.

# %%
# A photograph, a motion file, and its hints.
photo, motion = read_image(PHOTO), Motion.load(MOTION)
drawn = motion_hints(motion, (GRID, GRID), len(FRAMES)).outside
print(f"{len(motion.tracks)} tracks and {len(motion.pins)} pins on a grid of {GRID}x{GRID}")

# %%
# Left: what a person drew. Right: what the network is told.
parts = {"drawn tracks": draw_tracks(photo, motion), "hints": draw_hints(photo, drawn)}
reading = f"{len(motion.tracks)} arrows, {len(motion.pins)} rings."
show(flow_sheet(parts, title="From a drawing to hints", height=280, columns=2), reading)

# %%
# One type, one shape, one meaning, whether sampled from a clip or drawn by hand.
sampled = hints_from_flow(truth, spread[:16])
for name, known in (("sampled", sampled), ("drawn", drawn)):
    shape, pixels = tuple(known.flow.shape), int(known.mask[-1].sum())
    print(f"{name:8} {type(known).__name__}: flow {shape}, known at {pixels} pixels")

# %% [markdown]
# **What to take along:** a hint is a displacement from frame 0 at one pixel; good hints sit in the
# middle of what moves as one, and some must say "this rests". Next: `02_sparse_to_dense_flow`
# turns them back into motion for every pixel.
