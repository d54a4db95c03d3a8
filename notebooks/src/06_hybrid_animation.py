# %% [markdown]
# # 06 · Hybrid animation: what if a face speaks while drawn tracks move the rest?
#
# **mini model · about 4 minutes · 2 GB of memory · no GPU needed**
# (release model: a CUDA GPU; of its memory a clip with both takes 6 to 9 GiB, computed and not
# measured: README, *What it needs on your card*; set `MODEL = "release"` below)
#
# Notebook 04 moves a picture by tracks, notebook 05 a face by landmarks. This page runs both
# adapters on one picture. Between them stands a *mask*: inside it the landmarks are in charge,
# outside the tracks: the UNet gets the sum of *mask · scale · residual* over both adapters. Clips
# longer than the model's own are at the end.
#
# *Words:* an **adapter** turns motion into **residuals**, which are added to the features of the
# video model's UNet; **landmarks** are 68 points of a face; **EPE** (end-point error) is the
# distance between how far a point went and how far it should have gone.
#
# *Mini* is a toy that was trained for this kit: it shows the method on any CPU at 192 pixels, not
# MOFA-Video's quality.

# %%
# What this page calls; every name is one short function away.
from dataclasses import replace

import numpy as np

from mofa_nb.animate import Motion, Session, animate, default_device
from mofa_nb.media import data_file
from mofa_nb.motion import Expression, Track
from mofa_nb.pad import MotionPad
from mofa_nb.show import ProgressBar, architecture, curves, draw_tracks, flow_sheet, grid
from mofa_nb.show import heat_map, machine_note, show, show_clip, table, with_progress
from mofa_nb.study import faces as study

# %%
# All settings. Change one, then choose Run All.
MODEL = "mini"  # or "release", or a model folder
DEVICE = default_device()
PHOTO = data_file("grace_hopper.jpg")
VOICE = data_file("speech.wav")
STEPS = None  # denoising steps; None takes the model's own
SEED = 42
SOFT = 24  # pixels over which a soft mask fades out
machine_note(MODEL, DEVICE)

# %%
# The lit boxes are this page: these three twice, the second time for the face.
lit = ["reference", "warp", "fusion"]
show(architecture(lit), "What the two adapters say is added up in the video model.")

# %% [markdown]
# ## Two wishes for one picture
# The admiral is to open her mouth and look to the picture's right, and the flag behind her is to
# swing to the left. The face gets an expression (notebook 05), the flag three tracks (notebook 04),
# and pins say what stays. All of it is one `Motion`, and one motion file.

# %%
# The portrait, a close-up of 400x400 pixels: everything below is drawn on it.
session = Session(MODEL, DEVICE)
photo = study.portrait(PHOTO)
image = session.set_image(photo, session.defaults["face_short_side"])

# %%
# Tracks and pins, and an expression.
flag = [Track(((62, y), (24, y + 4)), speed="ease") for y in (90, 190, 270)]
pins = [(375, 60), (375, 230), (200, 385), (200, 60), (200, 200), (200, 300)]
drawn = Motion((400, 400), flag, pins)
face = Expression(mouth=1, brows=0.6, yaw=15)
both = drawn.with_face(face)

# %%
# White rings stay; the coloured lines are the last frame's landmarks.
landmarks = session.face_motion(both).landmarks
sheet = draw_tracks(study.with_landmarks(image, landmarks[-1], height=384), both)
show(sheet, "Both wishes at once. Pins in the face keep the tracks' flow out of it.")

# %% [markdown]
# ## Two flows, one mask
# Each control makes a dense flow by itself, by S2D. The mask is proposed by the
# kit: the hull of all landmarks, with some room for hair and neck.
#
# **Guess first:** the face's flow does not stop at the head. What will become of the part of it
# that lies outside the mask?

# %%
# The third flow is only for looking at: what is blended in truth are the adapters' residuals.
mask = session.face_mask(both)
flows = {"of the tracks": session.dense_flow(drawn), "of the face": session.face_flow(both)}
flows["blended by the mask"] = session.blended_flow(both)
parts = {"mask": heat_map(mask / 255, height=170)} | {k: f[-1] for k, f in flows.items()}
reading = "Inside the mask the face's flow, outside the tracks'; what lies beyond is dropped."
show(flow_sheet(parts, title="Dense flow, frame 0 → 13", height=170), reading)

# %% [markdown]
# **It is dropped**: at the mask's edge the tracks' flow takes over, whatever the face's says there.
#
# ## Each alone, and both
# In every denoising step both adapters look at the same noisy latents. Each residual is multiplied
# by its control's mask, brought to the residual's own size, and they are added.

# %%
# The same noise for all three.
how = {"model": session, "steps": STEPS, "seed": SEED, "num_frames": session.num_frames}
how["size"] = image.shape[1::-1]  # or a clip without a face would be smaller
motions = {"tracks alone": drawn, "face alone": Motion(drawn.size).with_face(face), "both": both}
todo = with_progress(motions.items(), "clips", len(motions))
clips = {name: animate(photo, motion, **how, fps=12.5) for name, motion in todo}

# %%
# One row each.
rows = [clip.frames[[0, 6, 13]] for clip in clips.values()]
captions = [[""] * 3, [""] * 3, [f"frame {k}" for k in (0, 6, 13)]]
sheet = grid(rows, captions, row_labels=list(clips), cell_height=165, title=f"{session.name} model")
show(sheet, "Watch the flag in the first and last row, the mouth in the second and third.")


# %%
# Measured: points are looked for again, the background is tracked again, lips in the last frame.
def measured(clip):
    face_error, rest = study.control_errors(replace(clip, landmarks=landmarks), drag, mask)
    lips = study.mouth_opening(study.found_landmarks(clip.frames))[-1]
    return float(face_error), float(rest), float(lips)


drag = flows["of the tracks"]
scores = {name: measured(clip) for name, clip in clips.items()}

# %%
# Errors: 0 is obeyed. The last row is what was asked for.
head = ["", "face: error, eye distances", "flag and pins: EPE, share of a still clip's"]
wanted = float(study.mouth_opening(landmarks)[-1])
rows = [(name, *score) for name, score in scores.items()]
table([*head, "mouth open, eye distances"], [*rows, ("asked for", 0.0, 0.0, wanted)])

# %% [markdown]
# **"Both" comes close to the better of the two in either column**: that is what the mask is for.
# The mouth opens where the face is driven, about two thirds as far as asked. The soft second
# cheek left of the head is the tracks' doing: the flag's flow takes hair and ear at the mask's edge
# along.
#
# ## The mask: hard, soft, wrong
# **Guess first:** a mask that covers the mouth only, or one that lies beside the face: what will be
# seen of the expression?

# %%
# Four masks, painted in pixels of the portrait; None is the proposed one.
y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
painted = {"hard": None, "soft": None}
painted["mouth only"] = np.uint8(255) * (np.hypot(x - 200, y - 245) < 45)
painted["beside the face"] = np.uint8(255) * (np.hypot(x - 330, y - 120) < 55)
masked = {name: both.with_mask(area) for name, area in painted.items()}

# %%
# A soft edge is an option (`mask_softness`); the release has hard ones.
softness = {"hard": 0, "soft": SOFT, "mouth only": 0, "beside the face": 0}
parts = {}
for name, motion in masked.items():
    share = study.soft_mask(session.face_mask(motion), softness[name])[0, 0, ..., None].numpy()
    parts[name] = np.uint8(image * (0.25 + 0.75 * share))
show(flow_sheet(parts, title="Masks", height=150), "Darkened outside the mask.")

# %%
# What the two flows become under each.
parts = {}
for name, motion in masked.items():
    parts[name] = session.blended_flow(motion, 2, mask_softness=softness[name])[-1]
show(flow_sheet(parts, title="Blended flows, pixels", height=150), "White rests.")

# %%
# Two of them as clips, beside the one from above.
tried = {"hard": clips["both"]}
for name in with_progress(("soft", "mouth only"), "clips"):
    tried[name] = animate(photo, masked[name], mask_softness=softness[name], **how)


# %%
# Last frames; errors as above, of the face and of the rest.
def last_frames(made):
    names = []
    for name, clip in made.items():
        face_error, rest, lips = scores[name] = measured(clip)
        names.append(f"{name}: face {face_error:.2f}, rest {rest:.2f}, mouth {lips:.2f}")
    lasts = [[clip.frames[-1] for clip in made.values()]]
    return grid(lasts, [names], cell_height=240, title=f"{session.name} model, last frames")


# %%
# With the mouth alone under the mask, the head obeys what is around it.
show(last_frames(tried), "A wrong mask gives no error message.")

# %% [markdown]
# **Only what lies under the mask.** With the mouth alone the rest of the head keeps to tracks and
# pins, and a mask beside the face (its flow above) leaves nothing of the expression.
#
# ## Nothing but the mask
# A mask of the whole picture leaves nothing for the tracks, an empty one nothing for the face. Are
# the results *exactly* those of one control alone?

# %%
# Two frames and one step are enough to compare every bit.
short = how | {"steps": 1, "num_frames": 2, "fps": 12.5}
pairs = {"whole picture": (255, "face alone"), "empty": (0, "tracks alone")}

# %%
# Are they equal to the last bit?
rows = []
for name, (value, alone) in pairs.items():
    filled = both.with_mask(np.full(photo.shape[:2], value, np.uint8))
    one, two = (animate(photo, motion, **short) for motion in (filled, motions[alone]))
    rows.append((name, alone, "yes" if np.array_equal(one.frames, two.frames) else "no"))
table(["mask", "compared with", "equal to the last bit"], rows)

# %% [markdown]
# **Yes, both**: a control whose mask is zero adds nothing at all.
#
# ## Two strengths
# `trajectory_scale` is for the tracks, `landmark_scale` for the face; both multiply residuals.
#
# **Guess first:** with half of the face's strength, will the mouth open half as far?

# %%
# The face weakened, and both too strong.
weighed = {"as trained": clips["both"]}
for name, (tracks, marks) in {"face × 0.5": (1, 0.5), "both × 1.6": (1.6, 1.6)}.items():
    weighed[name] = animate(photo, both, trajectory_scale=tracks, landmark_scale=marks, **how)

# %%
# The last frames.
show(last_frames(weighed), "Above 1 nothing moves farther; contrast gets harder.")

# %%
# How wide the mouth is open in them.
rows = [(name, scores[name][-1]) for name in weighed]
table(["", "mouth open, eye distances"], [*rows, ("asked for", wanted)])

# %% [markdown]
# **About so, but look at it**: the strength scales residuals, and at half of it the face is a pale
# mixture of the one that stays and the one that moves, since mini's networks were taught at full
# strength alone. All of the face's points together are missed by only a little more.
#
# ## When they disagree
# Tracks may start inside the mask. There they are not in charge, but S2D carries them outside.
#
# **Guess first:** three tracks pull the head to the left while the expression turns it to the
# right. Who wins, and where will it look wrong?

# %%
# What each wants.
starts = ((200, 200), (200, 60), (215, 330))
pulls = [Track(((x, y), (x - 55, y)), speed="ease") for x, y in starts]
torn = Motion((400, 400), pulls, pins[:2]).with_face(face)
picture = study.with_landmarks(image, landmarks[-1], height=384)
show(draw_tracks(picture, torn), "The landmarks are those of above.")

# %%
# The flows.
parts = {"of the tracks": session.dense_flow(torn, 2)[-1]}
parts["of the face"] = session.face_flow(torn, 2)[-1]
parts["blended"] = session.blended_flow(torn, 2)[-1]
reading = "The blended flow: the face's inside the mask; of the tracks' a seam is left beside it."
show(flow_sheet(parts, title="Two controls that disagree", height=170), reading)

# %%
# The clip.
clip = animate(photo, torn, progress=ProgressBar(), **how)
show_clip(clip.frames, fps=clip.settings["fps"], title=clip.title)

# %% [markdown]
# **Inside the mask the face wins**, and at the mask's edge the picture stretches or breaks.
#
# So: draw the head's motion with the same direction as the face's, or let the mask take in all that
# belongs to the head (the pad's brush paints it), or pin what should stay.
#
# ## A long clip with a voice
# The face follows the voice for as long as it lasts. Tracks are made for the model's own length;
# what they do afterwards is a setting (`after`: stop, continue, ease, loop). Here the flag swings
# to and fro.

# %%
# Both adapters, window by window (notebook 05 draws the windows).
speaking = replace(drawn.with_face(VOICE), after="loop")
settings = {"steps": STEPS, "seed": SEED}
clip = animate(photo, speaking, model=session, progress=ProgressBar(), **settings)
show_clip(clip.frames, fps=clip.settings["fps"], title=clip.title, sound=clip.sound)

# %%
# Does the mouth still follow the voice, with the tracks at work beside it?
asked = study.mouth_opening(clip.landmarks)
found = study.mouth_opening(study.found_landmarks(clip.frames))
seen = np.isfinite(found)  # False where no face was found
match = np.corrcoef(asked[seen], found[seen])[0, 1]
print(f"correlation {match:.2f} (1: in step, 0: unrelated)")
print(f"at its widest the mouth opens {found[seen].max():.2f} of {asked.max():.2f} eye distances")

# %%
# The same over time.
time = np.arange(len(found)) / clip.settings["fps"]
lines = {"asked for": (time, asked), "found in the clip": (time, found)}
labels = {"x_label": "seconds", "y_label": "opening / eye distance"}
show(curves(lines, title="Mouth opening", size=(8.6, 3), **labels))

# %% [markdown]
# ## Your turn
# The pad holds all of it: tracks, pins, brush, the face with its driver, the face mask, both
# strengths, the length, and previews of the two flows and of the blended one. **Face** opens the
# face's panel; **Animate** makes the clip with its sound.

# %%
# The speaking portrait, ready to be changed.
pad = MotionPad(photo, session, speaking)
pad

# %% [markdown]
# **What to take along:** two adapters, one frozen video model; a mask says who is in charge where,
# and needs to hold all that belongs to the face; the controls should agree at its edge.
#
# The same from the command line:
#
# ```
# python -m mofa_nb animate data/grace_hopper.jpg data/grace_hopper_tilts.json \
#   --face data/speech.wav
# ```
#
# (from the repository's folder; a motion of your own comes from the pad's **Save**, drawn on the
# same picture).
