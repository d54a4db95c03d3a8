# %% [markdown]
# # 07 · Train an adapter: how does control come into a frozen video model?
#
# **mini model · about 3 minutes · 2 GB of memory · no GPU needed**
#
# Fifteen short clips become a data set, and an adapter learns from it: first on the clips' own
# dense flow (stage 1), then on what S2D makes of sparse hints (stage 2, section 3.4 of the paper).
#
# The release's adapter began as a copy of the UNet's encoder and learned on the films of WebVid,
# five times each. Two minutes are enough for one thing only: to see *the moment when control gets
# in*. So this page takes the mini model's adapter and sets its **zero convolutions** back to zero,
# which is how every adapter begins: it knows how to look at a picture and a flow, and nothing of
# that reaches the video model. The clips are 64 pixels wide, and an adapter that has seen fifteen
# of them is no use for anything else.
#
# *Words:* **latents** are the VAE's small form of a frame, on which the video model works; the
# **denoising loss** is how badly noise is told from them; **S2D** makes dense flow of sparse hints
# (notebook 02); a **shard** is a tar file with many clips.

# %%
# What this page calls.
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load_file, save_file

from mofa_nb.paths import data_file, weights_folder
from mofa_nb.show import architecture, curves, flow_sheet, grid, show, table
from mofa_nb.study import training as study
from mofa_nb.train.shards import Shards, full_flow

# %%
# All settings. Change one, then choose Run All.
MODEL = weights_folder("mini")  # its UNet stays frozen
FILM = data_file("big_buck_bunny.mp4")
PHOTOS = [data_file(f"{name}.jpg") for name in ("flower", "china", "coffee", "chelsea", "rocket")]
SCENES = 7  # drawn from the photographs, beside passages of the film; the last is kept out
FRAMES, SIDE = 6, 64
STEPS = (40, 20)  # of stage 1 and 2
BATCH, RATE = 2, 1e-3
SEED = 5

# %%
# The lit boxes are what learns.
lit = ["reference", "fusion"]
show(architecture(lit), "The rest is frozen; S2D comes in with stage 2.")

# %% [markdown]
# ## From a folder to a data set
# Any folder of videos and photographs will do. Once, the frozen parts are run on every clip, and
# what they make is kept in tar files: latents, dense flow at every 4th pixel, the first frame,
# CLIP's token, and S2D's flow from hints. Training reads these *shards* and nothing else.

# %%
# A place for all that this page makes; it goes when the kernel ends.
place = TemporaryDirectory()
folder = Path(place.name)
films, shards, toy, model = (folder / name for name in ("films", "shards", "toy", "model"))

# %%
# A film and five photographs in a folder.
films.mkdir()
for path in [FILM, *PHOTOS]:
    shutil.copy(path, films)

# %%
# The command that makes shards of it.
sizes = ["--frames", FRAMES, "--size", SIDE, SIDE, "--scenes", SCENES, "--seed", SEED]
said = study.command("mofa_nb.train.shards", films, shards, "--model", MODEL, "--s2d", *sizes)

# %%
# What there is to learn from.
data = Shards(shards, SEED, "cpu", held_out=True)
clips = [data.read(k) for k in (0, 4, data.count - 1, data.count)]
print(f"{data.count} clips to learn from, one kept out; of each: {', '.join(clips[0])}")

# %%
# Four of the clips: the first frame, and the flow to the last one.
parts = {}
for number, clip in enumerate(clips, start=1):
    parts[f"clip {number}"] = clip["first"].permute(1, 2, 0).numpy()
    parts[f"its flow {number}"] = full_flow(clip["flow"], 4)[-1]
reading = "Two passages of the film, two drawn scenes; the last is kept out."
show(flow_sheet(parts, title="Clips of 64 pixels", height=128), reading)

# %% [markdown]
# ## An adapter that is not heard
# The zero convolutions are the last layer of every residual. At zero, the adapter's clip is the
# base model's clip.

# %%
# A copy of the model; only these tensors are changed.
shutil.copytree(MODEL, toy, ignore=shutil.ignore_patterns("landmark_adapter", "landmark_s2d"))
weights = toy / "trajectory_adapter" / "model.safetensors"
state = load_file(weights)
outs = ("controlnet_down_blocks", "controlnet_mid_block")
zeroed = [name for name in state if name.startswith(outs)]
save_file({n: v.mul(0) if n in zeroed else v for n, v in state.items()}, weights)
print(f"{len(zeroed)} of {len(state)} tensors are zero now, for example {zeroed[0]}")


# %%
# Two curves: the loss of the clip kept out, with its flow, and with no motion at all instead.
def picture(log):
    names = {"with its flow": "sample_loss", "told that nothing moves": "sample_loss_still"}
    lines = {name: study.series(log, key) for name, key in names.items()}
    labels = {"x_label": "step", "y_label": "denoising loss (not from 0)", "from_zero": False}
    return curves(lines, title="A clip that is not trained on", dashed=[list(names)[1]], **labels)


# %% [markdown]
# ## Stage 1: exact flow
# The loss is the video model's own (section 3 of the paper): noise is added to a clip's latents,
# and UNet and adapter together have to tell what it was. Only the adapter learns. How hard that is
# depends on the noise drawn, so a single step's loss says little: what counts is the loss of one
# clip that is kept out, always under the same noise. **Control is the gap between two curves**: if
# a lie about the motion costs nothing, the adapter is not heard.
#
# **Guess first:** after how many steps do the curves part?

# %%
# The command line's options, by name; the picture grows while it runs.
common = {"data": shards, "frames": FRAMES, "size": (SIDE, SIDE), "batch": BATCH, "lr": RATE}
common |= {"seed": SEED, "high_share": 0.5, "drop_rate": 0, "warmup": 8, "average": 0.9}
common |= {"log_every": 5, "sample_every": 10}
first = {"model": toy, "out": model, "steps": STEPS[0], **common}
one = study.train("trajectory", first, picture)

# %% [markdown]
# **Before the first look, after ten steps.** The zero convolutions have a gradient from the very
# first step, since what goes into them is not zero; everything before them learns from the second.
#
# ## Stage 2: what S2D says
# Users give a few tracks, not dense flow. So the adapter goes on with S2D's flow from hints, errors
# included; the layers that look at picture and flow stay as they are, as in the paper's recipe.


# %%
# The picture of stage 1 goes on, too.
def continued(log):
    later = [line | {"step": line["step"] + STEPS[0]} for line in log]
    return picture(one + later)


# %%
# The same command goes on from stage 1.
shutil.copytree(toy, model, dirs_exist_ok=True, ignore=shutil.ignore_patterns("trajectory_adapter"))
kept = ["trajectory_adapter.flow_encoder", "trajectory_adapter.controlnet_cond_embedding"]
second = {"model": model, "out": folder / "stage2", "steps": STEPS[1], **common}
two = study.train("trajectory", second | {"s2d_share": 1, "freeze": kept}, continued)

# %%
# Before, between and after, on the clip that is kept out.
told = {"before": one[0], "after stage 1": one[-1], "after stage 2": two[-1]}
rows = []
for name, line in told.items():
    rows.append((name, f"{line['sample_loss']:.4f}", f"{line['sample_loss_still']:.4f}"))
table(["denoising loss", "with its flow", "told that nothing moves"], rows)

# %% [markdown]
# **The gap stays, and widens**: with hints' flow, too, a lie about the motion costs more than the
# truth.

# %%
# The clip itself, and what is made of its first frame and its flow.
films = study.sample_clips(model / "trajectory_run")
film, before, after = *films[0], films[max(films)][1]
print(f"clips after steps {', '.join(map(str, sorted(films)))}")

# %%
# The clip, and what the adapter makes of it before and after training.
rows = [clip[[0, 2, 4, 5]] for clip in (film, before, after)]
labels = ["the clip", "before", "after stage 1"]
reading = "Frames 0, 2, 4 and 5. The picture gets stronger; of its motion only the loss tells yet."
show(grid(rows, row_labels=labels, cell_height=144), reading)

# %% [markdown]
# ## On a cluster
# Nothing above belongs to the notebook: `study.train` calls this command, and `accelerate` spreads
# it over cards and nodes.
#
# ```bash
# python -m mofa_nb.clips my_films --frames 25
# accelerate launch -m mofa_nb.train.shards my_films my_shards --model release_model --frames 25 \
#   --size 384 384 --s2d --flow unimatch
# accelerate launch -m mofa_nb.train trajectory --recipe paper-stage1 --model release_model \
#   --data my_shards --out my_adapter --steps 100000 --sample-every 1000
# ```
#
# `--recipe` holds the paper's settings. A run repeats itself, is resumed with `--resume` to the
# same numbers, and logs to TensorBoard or W&B. README, *Train your own*, has the rest.
