# %% [markdown]
# # 05 · Keypoint animation: how do 68 points make a portrait speak and turn?
#
# **mini model · about 2 minutes · 2 GB of memory · no GPU needed**
# (release model: a CUDA GPU with 12 GB or more; set `MODEL = "release"` below)
#
# MOFA-Video has a second adapter, for faces. It is driven not by tracks that you draw but by facial
# landmarks: those of a driving film, of a voice, or set by hand. This page follows the points from
# a photograph to a clip, and on to a clip of any length.
#
# *Mini* is a toy that was trained for this kit: it shows the method on any CPU at 192 pixels, not
# MOFA-Video's quality.

# %%
# What this page calls; every name is one short function away.
import numpy as np

from mofa_nb.animate import Motion, Session, animate, default_device
from mofa_nb.faces import detect, draw, expression, points, retarget, speech, track
from mofa_nb.media import data_file, read_image, sound, to_uint8
from mofa_nb.models import checkpoints
from mofa_nb.motion import face as asked_of
from mofa_nb.show import ProgressBar, Sliders, curves, draw_hints, enlarged, flow_sheet, grid
from mofa_nb.show import heat_map, machine_note, show, show_clip, speech_picture, table
from mofa_nb.show import with_progress
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
reading = f"{points.eye_distance(few):.0f} pixels between the eyes: the unit of all errors below."
show(grid([pair], [["478 points found", "68 points used"]]), reading)

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
resting = Motion(photo.shape[1::-1]).with_face(expression.Expression())
marks = session.face_motion(resting).landmarks
lines = to_uint8(draw.landmark_images(marks[0], image.shape[:2]))
parts = {"fitted picture": study.marked(image, marks[0], height=256)}
parts["landmark image"] = enlarged(lines, 256)
reading = "Fifteen lines: jaw, brows, nose, eyes, lips."
show(flow_sheet(parts, title="Frame 0"), reading)

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
driver = track.track_face(acted, FPS)
reading = f"The same network finds the points again in {driver.found.sum()} of {LONG} frames."
show_clip(acted, fps=FPS, title="The driving sequence · no model at work", reading=reading)

# %% [markdown]
# ## Whose face is it? Retargeting
# These are the points of *another* face, and one that was photographed smiling.
#
# **Guess first:** what becomes of the portrait if it has to follow them as they are?
#
# Retargeting takes the pose out of both faces with the help of the third dimension, measures how
# the driver differs from *its own* neutral frame, scales this change to the portrait's mouth and
# eyes, and adds it to the portrait's own shape. Then head turns are added to the portrait's own.

# %%
# Rows: the driver, its points merely moved and scaled onto the portrait, and retargeted.
with_it = points.to_68(retarget.retarget(face.points, driver.points))
without = points.to_68(retarget.copied(face.points, driver.points))
shown, both = (0, 3, 5, 9), ("without retargeting", "with it")
rows = [[study.marked(acted[k], driver.landmarks[k]) for k in shown]]
rows += [[study.marked(photo, marks[k]) for k in shown] for marks in (without, with_it)]
captions = [[""] * 4, [""] * 4, [f"frame {k}" for k in shown]]
show(
    grid(rows, captions, row_labels=["the driver", *both]),
    "In the middle row the lines of mouth and chin are the driver's, not the portrait's.",
)

# %%
# Proportions in distances between the eyes, when the driver is at rest again.
rest = 1 + retarget.neutral_frame(driver.points[1:])
shapes = {"portrait": few, "driver": driver.landmarks[rest]}
shapes |= dict(zip(both, (without[rest], with_it[rest]), strict=True))
rows = [
    (name, *(float(np.linalg.norm(p[a] - p[b]) / points.eye_distance(p)) for a, b in study.SPANS))
    for name, p in shapes.items()
]
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
    pictures.append(study.marked(photo, points.to_68(moved)[5], height=165))
show(grid([pictures], [list(kinds)]), "Frame 5 of the driving sequence.")

# %% [markdown]
# ## From 68 hints to a dense flow
# Each point's displacement since frame 0 is one hint, and S2D fills in the rest. The release uses
# the network of notebook 02 for that. The mini model has a second one of the same class
# (`face_s2d/`), trained on faces alone and on a finer grid, where two lips are not one pixel.
#
# **Guess first:** there is no point above the brows. Will the forehead come along, and the cap?

# %%
# A driving film is given by its path, like everything that drives a face.
driven = resting.with_face(study.saved_film(OUT, acted, FPS))
asked = session.face_motion(driven).landmarks[: session.num_frames]
grid_side = session.models.landmark_s2d.config.grid
hints = draw.landmark_hints(asked, image.shape[:2], (grid_side, grid_side))
flow = session.face_flow(driven, session.num_frames)
parts = {"68 hints, frame 0 → 9": draw_hints(image, hints, frame=8, min_side=200)}
parts |= {"dense flow, frame 0 → 5": flow[4], "dense flow, frame 0 → 9": flow[8]}
reading = "No hint says that the background rests. The network has seen many a head turn."
show(flow_sheet(parts, title="Hints and flow, pixels", height=200), reading)

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
seen = {}
how = {"model": session, "steps": STEPS, "seed": SEED, "num_frames": session.num_frames}
clip = animate(photo, driven, progress=ProgressBar(), trace=seen.setdefault, **how)
known = seen["face_conditioning"]
strides = session.models.adapter("landmark").config.strides
masks = [mask[0, 8, 0].float().cpu().numpy() for mask in known.occlusion]
scale = {"low": 0.6, "high": 1, "height": 150}
captions = [f"1/{s}: mean {mask.mean():.2f}" for s, mask in zip(strides, masks, strict=True)]
parts = {name: heat_map(mask, **scale) for name, mask in zip(captions, masks, strict=True)}
lowest = min(mask.min() for mask in masks)
reading = f"Yellow: the warped feature is kept. Dark: it is replaced. Lowest value: {lowest:.2f}."
show(flow_sheet(parts, title="Occlusion masks, frame 9", height=150), reading)

# %% [markdown]
# **Hardly anywhere.** The mini model's masks began almost open in training and stayed so: what a
# turn uncovers is left to the later layers. The colours begin at 0.6, or nothing could be seen.
#
# ## The clip
# The masked features, the landmark images and the noise go through the adapter in every denoising
# step, as in notebook 03. The mini model also keeps a part of the splatted portrait, and carries
# its finest detail along where lids and lips do not part (`landmark_anchor`; notebook 04 shows
# the same for tracks).

# %%
# The head follows, and the mouth; behind glasses the lids hardly do.
wide = [float(study.mouth_opening(m)[5]) for m in (driver.landmarks, clip.landmarks.numpy())]
reading = "Mouth at frame 5, in eye distances: the driver's opens by {:.2f}, asked for are {:.2f}."
show_clip(clip.frames, fps=FPS, title=clip.title, reading=reading.format(*wide))

# %%
# Is it obeyed? The points are looked for again in the finished clip.
found = study.found_landmarks(clip.frames)
errors = {"this clip": study.landmark_error(found, clip.landmarks)}
errors["a still picture"] = study.landmark_error(found[:1].repeat(len(found), 0), clip.landmarks)
lines = {name: (range(len(found)), error) for name, error in errors.items()}
labels = {"x_label": "frame", "y_label": "error / eye distance"}
chart = curves(
    lines,
    title="Landmarks, found against asked for",
    size=(6.4, 3),
    dashed=["a still picture"],
    **labels,
)
means = [float(np.nanmean(error[1:])) for error in errors.values()]
show(chart, f"Mean error {means[0]:.2f}; {means[1]:.2f} if nothing moved at all.")

# %% [markdown]
# ## And without retargeting?
# A file of landmarks (`.npy`, frames × 68 × 2 pixels of the photograph, as the original's tools
# write it) is followed as it is. So the raw points of above can be asked for.

# %%
# The same noise, the same network, another face's points.
np.save(f"{OUT}/raw.npy", without)
raw = animate(photo, face=f"{OUT}/raw.npy", progress=ProgressBar(), **how)
rows = [[c.frames[k] for k in shown] for c in (raw, clip)]
captions = [[""] * 4, [f"frame {k}" for k in shown]]
sheet = grid(rows, captions, row_labels=both, cell_height=165, title=f"{session.name} model")
show(sheet, "Above, mouth and chin are pulled towards the driver's.")

# %% [markdown]
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
opening = (
    study.mouth_opening(talk.landmarks),
    study.mouth_opening(study.found_landmarks(talk.frames)),
)
time, there = np.arange(len(talk.frames)) / FPS, np.isfinite(opening[1])
lines = dict(zip(("asked for", "found in the clip"), ((time, o) for o in opening), strict=True))
labels = {"x_label": "seconds", "y_label": "opening / eye distance"}
chart = curves(lines, title="Mouth opening", size=(7.2, 3), **labels)
match = np.corrcoef(opening[0][there], opening[1][there])[0, 1]
peak, hit = np.nanmax(opening[0]), np.nanmax(opening[1])
show(chart, f"In step (correlation {match:.2f}), but at its widest {hit:.2f} of {peak:.2f}.")

# %% [markdown]
# ### The same voice through the original's networks
# The original's demo hears with two networks of AniPortrait: one moves a mesh of the face in
# centimetres, the other turns the head, frame by frame. Whoever has their files gets the lips they
# give, by `--voice aniportrait`. The kit's own way closes the lips at every m, b and p because a
# rule says so, and opens them as far as the loudness tells; the networks have learnt one speaker's
# recordings, and know of no sound by its name. Neither hears blinks: they come from the seed.
#
# The next cell lays both over one another. It needs the published files: with made-up weights
# nothing could be seen of how good they are.

# %%
# `hf download ZJYang/AniPortrait audio2mesh.pt audio2pose.pt` brings the files.
files = checkpoints.find_voice(session.models.folder, "auto")
if files:
    hearing = asked_of.FaceSource(VOICE, voice="aniportrait")
    heard = session.face_motion(resting.with_face(hearing))
    ways = {"recognised sounds": talk.landmarks, "AniPortrait": heard.landmarks}
    lines = {n: (np.arange(len(m)) / FPS, study.mouth_opening(m)) for n, m in ways.items()}
    show(speech_picture(voice, spoken, width=900), "The sounds, as recognised.")
    show(curves(lines, title="Mouth opening", size=(9, 3), **labels), "Asked for by each way.")
table(
    ["file", "at hand"], [(n, "yes" if files else "no") for n in checkpoints.VOICE_FILES.values()]
)

# %% [markdown]
# ## By hand
# The third driver is you: seven sliders set an expression that is reached at the end of the clip.
# (They move in a running page; the motion pad has the same ones.)


# %%
# Drag a slider; nothing but the points is computed.
def look(**sliders):
    moved = expression.hand_set(face.points, expression.Expression(**sliders), 2)
    return study.marked(photo, points.to_68(moved)[-1], height=340)


ranges = {name: (low, high, 0.0) for name, (low, high) in asked_of.LIMITS.items()}
Sliders(look, **ranges | {"mouth": (0.0, 1.0, 0.6), "yaw": (-35.0, 35.0, 15.0)})

# %%
# Four expressions, and the flow that S2D makes of each.
poses = {"mouth open": {"mouth": 1}, "smile, brows": {"smile": 1, "brows": 1}}
poses |= {"eyes shut": {"eyelids": 1}, "tilted": {"roll": 14, "yaw": -8}}
parts, flows = {}, {}
for name, pose in poses.items():
    posed = resting.with_face(expression.Expression(**pose))
    parts[name] = study.marked(image, session.face_motion(posed, 2).landmarks[-1])
    flows[f"flow: {name}"] = session.face_flow(posed, 2)[-1]
reading = "Lids and brows move a pixel or two at this size: it is hard for a model to see."
show(flow_sheet(parts | flows, title="Set by hand", height=150), reading)

# %%
# All at once: open the mouth, raise the brows, look up and to the side.
target = expression.Expression(mouth=0.9, brows=0.8, yaw=-14, pitch=6)
posed = animate(photo, face=target, progress=ProgressBar(), **how)
show_clip(posed.frames, fps=FPS, title=posed.title)

# %% [markdown]
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
# Dashed: how fast the points are asked to move.
changes, asked = study.frame_changes(long.frames), long.landmarks.diff(dim=0).norm(dim=-1).mean(1)
lines = {"the clip": (range(1, LONG), changes / changes.mean())}
lines["landmarks asked for"] = (range(1, LONG), asked.numpy() / float(asked.mean()))
labels = {"x_label": "frame", "y_label": "change / mean change", "dashed": ["landmarks asked for"]}
chart = curves(lines, title="Change from one frame to the next", size=(7.2, 3), **labels)
starts = ", ".join(str(window.start) for window in windows[1:])
ratio = np.median(study.seam_ratios(changes, windows))
show(chart, f"Windows begin at {starts}; the change there is {ratio:.2f} times that nearby.")

# %% [markdown]
# **Hardly**: there the picture changes about as fast as around it.
#
# ## A gallery of failures, and their causes
# What nothing good could come of (no face, half a face, a cut, gaps) is refused in one sentence.

# %%
# What is taken, and goes wrong: asked for, its flow, and the last frame.
calls = {"turned too far": (photo, expression.Expression(yaw=35, roll=20))}
calls |= {"a small face": (read_image(PHOTO), target)}
calls |= {"all at once": (photo, expression.Expression(mouth=1, eyelids=1, smile=-1, pitch=-25))}
parts = {}
for name, (picture, pose) in with_progress(calls.items(), "failures", len(calls)):
    made = animate(picture, face=pose, **how)
    off = study.landmark_error(study.found_landmarks(made.frames[-1:]), made.landmarks[-1:])[0]
    parts[f"asked: {name}"] = study.marked(made.image, made.landmarks[-1])
    parts[f"flow: {name}"] = made.flow[-1]
    parts[f"{name}: error {off:.2f}"] = made.frames[-1]
title, reading = f"{session.name} model: failures", "Errors in eye distances; nan: no face found."
show(flow_sheet(parts, title=title, height=190, columns=3), reading)

# %% [markdown]
# - **Turned too far.** The far cheek and ear were never photographed, and the points say nothing
#   about them; the flow squeezes the near half of the face instead of uncovering the other.
# - **A small face.** The same person, not cropped: a handful of feature cells between the eyes. The
#   lines of the landmark image run into one another, and no network can place a lip more finely
#   than a cell. Crop the picture closer.
# - **All at once.** Rare together in training, and the lids' motion is smaller than a pixel.
# - **Without retargeting** (above). Not a failure of the model: it does what the points say.
#
# **What to take along:** the landmarks reach the model twice, as hints for the flow and as
# pictures; occlusion masks are there to decide what is moved and what is made anew; windows make
# clips of any length. Next: `06_hybrid_animation` lets a face speak while drawn tracks move the
# rest.
