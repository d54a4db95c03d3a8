# %% [markdown]
# # 05 · Keypoint animation: how do 68 points make a portrait speak and turn?
#
# **mini model · about 3 minutes · 2.5 GB of memory · no GPU needed**
# (release model: a CUDA GPU; of its memory a clip with a face takes 6 to 9 GiB, computed and not
# measured: README, *What it needs on your card*; set `MODEL = "release"` below)
#
# MOFA-Video has a second adapter, for faces. It is driven not by tracks that you draw but by facial
# landmarks: those of a driving film, of a voice, or set by hand. This page follows the points from
# a photograph to a clip, and on to a clip of any length. It begins with a portrait; after that come
# **three parts, each of which runs by itself**: a film (1), a voice or your hand (2), long clips
# and what goes wrong (3).
#
# *Words:* **landmarks** are 68 named points of a face; **retargeting** carries one face's motion
# over to another's proportions; the **driver** is the face that is followed; a **hint** is the
# displacement of one pixel, from which S2D (notebook 02) makes **dense flow**.
#
# *Mini* is a toy that was trained for this kit: it shows the method on any CPU at 192 pixels, not
# MOFA-Video's quality.

# %%
# What this page calls; every name is one short function away.
import numpy as np
import torch

from mofa_nb.animate import Motion, Session, animate, default_device
from mofa_nb.faces import detect, draw, expression, points, retarget, speech, track
from mofa_nb.media import data_file, read_image, sound, to_uint8
from mofa_nb.show import ProgressBar, Sliders, architecture, curves, draw_hints, enlarged
from mofa_nb.show import flow_sheet, grid, heat_map, machine_note, show, show_clip
from mofa_nb.show import speech_picture, table, to_height, with_progress
from mofa_nb.study import faces as study

# %%
# All settings. Change one, then choose Run All.
MODEL = "mini"  # or "release", or a model folder
DEVICE = default_device()
PHOTO = data_file("grace_hopper.jpg")  # the portrait; kept out of the mini model's training
DRIVER = data_file("astronaut.jpg")  # the face that drives it
VOICE = data_file("speech.wav")
OUT = "outputs/keypoints"  # folder for two small files
FPS = 12.5
LONG = 40  # frames of the driving sequence and of the long clip
STEPS = None  # denoising steps; None takes the model's own
SEED = 42
machine_note(MODEL, DEVICE)

# %%
# The lit boxes are this page: the same chain, with an adapter of its own.
lit = ["motion", "hints", "s2d", "reference", "warp", "fusion"]
show(architecture(lit), "Landmarks enter twice: as hints, and as pictures into the fusion encoder.")

# %% [markdown]
# ## A face as points
# A small network that comes with the kit finds 478 points on a face, in three dimensions. The
# adapter knows 68 of them, in the order that most face tools share: jaw, brows, nose, eyes, lips.

# %%
# Faces want to be large: a square around the face becomes the portrait of this page.
photo = study.portrait(PHOTO)
face = detect.find_face(photo)
few = points.to_68(face.points)
pair = [study.dots_over(photo, face.points), study.dots_over(photo, few, numbers=study.CORNERS)]
captions = [f"{len(face.points)} points found", f"{len(few)} points used"]
reading = f"{points.eye_distance(few):.0f} pixels between the eyes: the unit of all errors below."
show(grid([pair], [captions]), reading)

# %% [markdown]
# ## What the network sees of it
# The 68 points are joined to 15 coloured lines on black. Such a *landmark image* is drawn for every
# frame, and a small encoder of the adapter reads it.
#
# **Guess first:** which parts of a living face do these lines *not* describe?

# %%
# From here on all is in pixels of the picture as the model gets it.
session = Session(MODEL, DEVICE)
image = session.set_image(photo, session.defaults["face_short_side"])
how = {"model": session, "steps": STEPS, "seed": SEED, "num_frames": session.num_frames}

# %%
# The portrait at rest: its own landmarks.
resting = Motion(photo.shape[1::-1]).with_face(expression.Expression())
still = session.face_motion(resting).landmarks[0]

# %%
# Frame 0, in which nothing has moved yet.
drawn = to_uint8(draw.landmark_images(still, image.shape[:2]))
parts = {"fitted picture": study.with_landmarks(image, still, height=256)}
parts["landmark image"] = enlarged(drawn, 256)
show(flow_sheet(parts, title="Frame 0"), "Fifteen lines: jaw, brows, nose, eyes, lips.")

# %% [markdown]
# **Gaze, teeth, tongue, cheeks and hair** are nowhere: all these are the model's to invent.
#
# ## Somebody to drive it
# Usually this is a film of a person. No film of anybody is shipped with this kit, so the driver is
# played: the points of a public-domain photograph are moved by a formula, and the photograph with
# them. It speaks, looks to both sides and blinks. Any film of yours takes its place by its path.

# %%
# Rendered by a face mesh, not by the model.
acted = study.driving_clip(read_image(DRIVER), LONG, FPS)
show_clip(acted, fps=FPS, title="The driving sequence · no model at work")

# %%
# A driving film is given by its path, like everything that drives a face.
driven = resting.with_face(study.saved_film(OUT, acted, FPS))

# %% [markdown]
# # Part 1 · A film
# From here to part 2: how the driver's points become the portrait's, then a flow, then a clip.
#
# ## Whose face is it? Retargeting
# These are the points of *another* face, and one that was photographed smiling.
#
# **Guess first:** what becomes of the portrait if it has to follow them as they are?
#
# Retargeting takes the pose out of both faces with the help of the third dimension, measures how
# the driver differs from *its own* neutral frame, scales this change to the portrait's mouth and
# eyes, and adds it to the portrait's own shape. Then head turns are added to the portrait's own.

# %%
# The driver's points in every frame; then moved and scaled onto the portrait, and retargeted.
driver = track.track_face(acted, FPS)
without = points.to_68(retarget.without_retargeting(face.points, driver.points))
with_it = points.to_68(retarget.retarget(face.points, driver.points))
print(f"The network finds the points again in {driver.found.sum()} of {LONG} frames.")


# %%
# Landmarks in pixels of the portrait, as a landmark image of its middle.
def lines_of(marks, height=200):
    picture = to_uint8(draw.landmark_images(torch.as_tensor(marks), photo.shape[:2]))
    return to_height(picture[80:370, 60:350], height)


shown, both = (0, 3, 5, 9), ("without retargeting", "with it")
rows = [[study.with_landmarks(acted[k], driver.landmarks[k], height=200) for k in shown]]
rows += [[lines_of(marks[k]) for k in shown] for marks in (without, with_it)]

# %%
# Look at lips and chin, frame by frame.
captions = [[""] * 4, [""] * 4, [f"frame {k}" for k in shown]]
sheet = grid(rows, captions, row_labels=["the driver", *both])
show(sheet, "Without retargeting the lines of mouth and chin are the driver's, not the portrait's.")


# %%
# Proportions in distances between the eyes, when the driver is at rest again.
def spans(marks):
    eyes = points.eye_distance(marks)
    return [float(np.linalg.norm(marks[a] - marks[b]) / eyes) for a, b in study.SPANS]


rest = 1 + retarget.neutral_frame(driver.points[1:])
rows = [("portrait", *spans(few)), ("driver", *spans(driver.landmarks[rest]))]
rows += [(both[0], *spans(without[rest])), (both[1], *spans(with_it[rest]))]
table([f"frame {rest}", "mouth's width", "nose to chin", "jaw's width"], rows)

# %% [markdown]
# **Without retargeting it is asked to become somebody else**; with it, it keeps its proportions.
# What is handed on is the *change* since the driver's neutral frame: a driver whose lips are apart
# even there opens the portrait's mouth less than its own. And since the motion has been taken
# apart, each part of it has its own strength.

# %%
# One frame under five settings.
kinds = {"as driven": {}, "mouth × 2": {"mouth": 2.0}, "mouth × 0": {"mouth": 0.0}}
kinds |= {"eyes and brows × 0": {"eyes": 0.0, "brows": 0.0}, "pose × 0": {"pose": 0.0}}
pictures = []
for kind in kinds.values():
    moved = retarget.retarget(face.points, driver.points, retarget.Strengths(**kind))
    pictures.append(lines_of(points.to_68(moved)[5], height=170))
show(grid([pictures], [list(kinds)]), "Frame 5 of the driving sequence, asked of the portrait.")

# %% [markdown]
# ## From 68 hints to a dense flow
# Each point's displacement since frame 0 is one hint, and S2D fills in the rest. The release uses
# the network of notebook 02 for that. The mini model has a second one of the same class
# (`landmark_s2d/`), trained on faces alone and on a finer grid, where two lips are not one pixel.
# Even there a lid is too thin, so its flow is *bent* as little as can be until each point goes
# where it is asked to (`meets_hints` in the network's config; the release does not do this).
#
# **Guess first:** there is no point above the brows. Will the forehead come along, and the cap?

# %%
# Landmarks of the first frames, in pixels of the picture; as hints on the grid of S2D; as flow.
asked = session.face_motion(driven).landmarks[: session.num_frames]
side = session.models.landmark_s2d.config.grid
hints = draw.landmark_hints(asked, image.shape[:2], (side, side))
flow = session.face_flow(driven, session.num_frames)

# %%
# The hints close up: the face's part of a picture three times as large.
arrows = draw_hints(image, hints, frame=8, min_side=3 * image.shape[0])
top, left = (round(0.2 * side) for side in arrows.shape[:2])
parts = {"68 hints, frame 0 → 9": arrows[top : 4 * top, left : 4 * left]}
parts |= {"dense flow, frame 0 → 5": flow[4], "dense flow, frame 0 → 9": flow[8]}
reading = "No hint says that the background rests. The network has seen many a head turn."
show(flow_sheet(parts, title="Hints and flow, pixels", height=300), reading)

# %% [markdown]
# **The forehead does, and most of the cap**: to the network a head is one thing.
#
# ## Occlusion masks
# A mouth that opens and a head that turns show what frame 0 never did: after the warp there is
# nothing there, or the wrong thing. So the landmark adapter has what the trajectory adapter lacks:
# at each of its four scales, a small *occlusion net* says where the warped feature can be kept (1)
# and where features of its own invention take over (0).
#
# **Guess first:** where will the masks be low when the head has turned?

# %%
# One call makes the clip; a trace keeps what the adapter knew on the way.
traced = {}


def keep(name, value):
    if name == "landmark_conditioning":
        traced[name] = value


clip = animate(photo, driven, progress=ProgressBar(), trace=keep, **how)

# %%
# Frame 9 at the four scales; the colours begin at 0.6.
masks = [mask[0, 8, 0].float().cpu() for mask in traced["landmark_conditioning"].occlusion]
parts = {}
for stride, mask in zip(session.models.adapter("landmark").config.strides, masks, strict=True):
    bright = heat_map(mask.numpy(), low=0.6, high=1, height=150)
    parts[f"1/{stride}: from {mask.min():.2f}, mean {mask.mean():.2f}"] = bright
reading = "Yellow: the warped feature is kept. Dark: it is replaced."
show(flow_sheet(parts, title="Occlusion masks, frame 9", height=150), reading)

# %% [markdown]
# **Along the lines of the face, at the side that it turns from and at the collar**, and almost only
# at the two finer scales. On average the masks stay almost open, as they began in training: most of
# what a turn uncovers is left to the later layers.
#
# ## The clip
# The masked features, the landmark images and the noise go through the adapter in every denoising
# step, as in notebook 03.

# %%
# The head follows, the mouth, and behind the glasses the lids.
wide = [float(study.mouth_opening(m)[5]) for m in (driver.landmarks, clip.landmarks.numpy())]
reading = "Mouth at frame 5, in eye distances: the driver's opens by {:.2f}, asked for are {:.2f}."
show_clip(clip.frames, fps=FPS, title=clip.title, reading=reading.format(*wide))

# %%
# Is it obeyed? The points are looked for again in the finished clip.
found = study.found_landmarks(clip.frames)
error = study.landmark_error(found, clip.landmarks)
unmoved = study.landmark_error(found[:1].repeat(len(found), 0), clip.landmarks)
print(f"mean error {np.nanmean(error[1:]):.2f}; {unmoved[1:].mean():.2f} if nothing moved at all")

# %%
# The same by frames.
time = range(len(found))
lines = {"this clip": (time, error), "a still picture": (time, unmoved)}
labels = {"x_label": "frame", "y_label": "error / eye distance", "size": (7.2, 3)}
title = "Landmarks, found against asked for"
show(curves(lines, title=title, dashed=["a still picture"], **labels), "Lower is better.")

# %% [markdown]
# ## And without retargeting?
# A file of landmarks (`.npy`, frames × 68 × 2 pixels of the photograph, as the original's tools
# write it) is followed as it is. So the raw points of above can be asked for.

# %%
# The same noise, the same network, another face's points.
np.save(f"{OUT}/raw.npy", without)
raw = animate(photo, face=f"{OUT}/raw.npy", progress=ProgressBar(), **how)
rows = [raw.frames[list(shown)], clip.frames[list(shown)]]
captions = [[""] * 4, [f"frame {k}" for k in shown]]
sheet = grid(rows, captions, row_labels=both, cell_height=165, title=f"{session.name} model")
show(sheet, "Above, mouth and chin are pulled towards the driver's.")

# %% [markdown]
# # Part 2 · A voice, or your hand
# Needs the cells before part 1 and nothing else.
#
# ## From a voice
# Speech needs no film. A recogniser names the sounds and their times; each sound has a shape of the
# mouth (how open, how wide, how round); curves run through these shapes. Blinks and a slight sway
# of the head come from the seed.

# %%
# "He was not an ill-disposed young man" (LibriVox, public domain).
voice = sound.read_sound(VOICE)
spoken = speech.speech_curves(voice, FPS, seed=SEED)
reading = "The lips meet at every m, b and p; vowels open the mouth. A dot is a frame."
show(speech_picture(voice, spoken, width=900), reading)

# %%
# A face's clip lasts as long as what drives it, and carries its sound.
talk = animate(photo, face=VOICE, progress=ProgressBar(), **how | {"num_frames": None})
show_clip(talk.frames, fps=FPS, title=talk.title, sound=talk.sound)

# %%
# How far the mouth was to open, and how far it does open in the clip.
wanted = study.mouth_opening(talk.landmarks)
opening = study.mouth_opening(study.found_landmarks(talk.frames))
seen = np.isfinite(opening)  # False where no face was found
match = np.corrcoef(wanted[seen], opening[seen])[0, 1]
print(f"correlation {match:.2f}; at its widest {opening[seen].max():.2f} of {wanted.max():.2f}")

# %%
# The same over time.
time = np.arange(len(talk.frames)) / FPS
lines = {"asked for": (time, wanted), "found in the clip": (time, opening)}
labels = {"x_label": "seconds", "y_label": "opening / eye distance", "size": (8.6, 3)}
reading = "In step; at its widest it opens by more than was asked for."
show(curves(lines, title="Mouth opening", **labels), reading)

# %% [markdown]
# **The original hears differently**: its demo uses two networks of AniPortrait, one that moves a
# mesh of the face and one that turns the head. Whoever has their files (README, *Command line*)
# gets what they give, by `FaceSource(VOICE, voice="aniportrait")`. The kit's own way closes the
# lips at every m, b and p because a rule says so, and opens them as far as the loudness tells; the
# networks have learnt one speaker's recordings, and know of no sound by its name. Neither hears
# blinks: they come from the seed.
#
# ## By hand
# The third driver is you: seven sliders set an expression that is reached at the end of the clip.
# (They move in a running page; the motion pad has the same ones.)


# %%
# Drag a slider; nothing but the points is computed.
def look(**sliders):
    moved = expression.hand_set(face.points, expression.Expression(**sliders), 2)
    return study.with_landmarks(photo, points.to_68(moved)[-1], height=340)


ranges = {name: (low, high, 0.0) for name, (low, high) in expression.LIMITS.items()}
Sliders(look, **ranges | {"mouth": (0.0, 1.0, 0.6), "yaw": (-35.0, 35.0, 15.0)})

# %%
# Four expressions.
poses = {"mouth open": {"mouth": 1}, "smile, brows": {"smile": 1, "brows": 1}}
poses |= {"eyes shut": {"eyelids": 1}, "tilted": {"roll": 14, "yaw": -8}}
posed = {}
for name, pose in poses.items():
    posed[name] = resting.with_face(expression.Expression(**pose))

# %%
# What is asked for, and the flow that S2D makes of it.
parts = {}
for name, motion in posed.items():
    parts[name] = study.with_landmarks(image, session.face_motion(motion, 2).landmarks[-1])
for name, motion in posed.items():
    flow = session.face_flow(motion, 2)[-1]
    parts[f"{name}: up to {flow.norm(dim=0).max():.1f} px"] = flow
show(flow_sheet(parts, title="Set by hand", height=170), "Lids move as far as the points ask.")

# %%
# Eyes shut. How far they are open is measured again in the finished clip.
clip = animate(photo, posed["eyes shut"], **how)
opened = [study.eye_opening(m) for m in (study.found_landmarks(clip.frames), clip.landmarks)]
parts = {f"frame {k}": clip.frames[k] for k in (0, 6, 13)}
reading = "Open by {:.2f} eye distances at first and {:.2f} at last; asked for were {:.2f}."
reading = reading.format(opened[0][0], opened[0][-1], opened[1][-1])
show(flow_sheet(parts, title="Eyes shut", height=230), reading)

# %%
# All at once: open the mouth, raise the brows, look up and to the side.
target = expression.Expression(mouth=0.9, brows=0.8, yaw=-14, pitch=6)
clip = animate(photo, face=target, progress=ProgressBar(), **how)
show_clip(clip.frames, fps=FPS, title=clip.title)

# %% [markdown]
# # Part 3 · Long clips, and what goes wrong
# Needs the cells before part 1 and nothing else.
#
# ## A long clip: periodic sampling
# The video model was trained on 14 frames and knows no others. A longer clip is denoised in
# *windows* of 14 that overlap by half: in every step each window is denoised by itself, and where
# windows overlap their predictions are averaged. In the mini model a window counts less towards its
# ends, so that none begins with a jump (`window_fade`); in the release all frames count alike. All
# windows see frame 0, the portrait.
#
# **Guess first:** will one see where windows begin?

# %%
# Which frames each window sees; only the first one's frame 0 counts, the others borrow it.
windows = study.clip_windows(LONG, session.num_frames)
reading = "Most frames are seen twice: a window's beginning is another one's middle."
show(study.windows_picture(windows, LONG), reading)

# %%
# The whole driving sequence.
long = animate(photo, driven, progress=ProgressBar(), **how | {"num_frames": LONG})
show_clip(long.frames, fps=FPS, title=long.title)

# %%
# How fast the picture changes, where windows begin and in the frames beside.
changes = study.frame_changes(long.frames)
ratio = np.median(study.seam_ratios(changes, windows))
starts = [window.start for window in windows[1:]]
print(f"where a window begins (frames {starts}) the change is {ratio:.2f} times that nearby")

# %%
# Beside it, how fast the points are asked to move; upright lines: windows begin.
asked = long.landmarks.diff(dim=0).norm(dim=-1).mean(1).numpy()
lines = {"the clip": (range(1, LONG), changes / changes.mean())}
lines["landmarks asked for"] = range(1, LONG), asked / asked.mean()
lines["a window begins"] = np.repeat(starts, 3), [0, 2.5, np.nan] * len(starts)
labels = {"x_label": "frame", "y_label": "change / mean change", "dashed": list(lines)[1:]}
show(curves(lines, title="Change from one frame to the next", size=(8.6, 3), **labels))

# %% [markdown]
# **Hardly**: there the picture changes about as fast as around it.
#
# ## A gallery of failures, and their causes
# What nothing good could come of (no face, half a face, a cut, gaps) is refused in one sentence.

# %%
# Three expressions that are taken as they are.
far = expression.Expression(yaw=35, roll=20)
target = expression.Expression(mouth=0.9, brows=0.8, yaw=-14, pitch=6)
everything = expression.Expression(mouth=1, eyelids=1, smile=-1, pitch=-25)

# %%
# Too far, too small, too much at once; the small face is that of the photograph, not cropped.
calls = {"turned too far": (photo, far), "a small face": (read_image(PHOTO), target)}
calls["all at once"] = photo, everything

# %%
# The clips, and how far their last frame misses its points.
made, missed = {}, {}
for name, (picture, pose) in with_progress(calls.items(), "failures", len(calls)):
    clip = made[name] = animate(picture, face=pose, **how)
    found = study.found_landmarks(clip.frames[-1:])
    missed[name] = study.landmark_error(found, clip.landmarks[-1:])[0]

# %%
# Asked for, its flow, and the last frame.
parts = {}
for name, clip in made.items():
    parts[f"asked: {name}"] = study.with_landmarks(clip.image, clip.landmarks[-1])
    parts[f"flow: {name}"] = clip.flow[-1]
    parts[f"{name}: error {missed[name]:.2f}"] = clip.frames[-1]
reading = "Errors in eye distances; nan: no face found."
show(flow_sheet(parts, title="Failures", height=190, columns=3), reading)

# %% [markdown]
# - **Turned too far.** The far cheek and ear were never photographed, and the points say nothing
#   about them; the flow pushes the whole head aside instead of turning it, and leaves a smear.
# - **A small face.** The same person, not cropped: a handful of feature cells between the eyes. The
#   lines of the landmark image run into one another. It follows, but coarsely: no network can place
#   a lip more finely than a cell. Crop the picture closer.
# - **All at once.** Rare together in training. The points are met, and the face between them is
#   squeezed, since nobody photographed it from above. The cap, of which no point speaks, comes
#   along by half and tears.
# - **Without retargeting** (part 1). Not a failure of the model: it does what the points say.
#
# **What to take along:** the landmarks reach the model twice, as hints for the flow and as
# pictures; occlusion masks are there to decide what is moved and what is made anew; windows make
# clips of any length. Next: `06_hybrid_animation` lets a face speak while drawn tracks move the
# rest.
