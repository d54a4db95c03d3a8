"""Real networks at toy size, with weights that are made from their names: nothing is stored.

Sizes are those of the recorded numbers (tests/manifests). What is built here is shared by all
tests of a run, so a test that changes a network makes its own.
"""

import functools
import json
import math
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import golden_fill
import numpy as np
import torch
from torch.nn import functional

from mofa_nb.clips.footage.bank import Bank
from mofa_nb.config import S2DConfig, Settings
from mofa_nb.models import weights
from mofa_nb.sampling.denoise import Control, encode_start, initial_noise

MANIFESTS = Path(__file__).parent / "manifests"
LANDMARK_CHANNELS = (16, 32, 64, 128)
RELEASED_SCHEDULER = {  # the published SVD's
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "timestep_type": "continuous",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "interpolation_type": "linear",
}
SMALL_S2D = S2DConfig(
    grid=64,
    bins=21,
    flow_range=16.0,
    blocks=(1, 1, 1, 1),
    width=8,
    image_channels=16,
    sparse_channels=8,
    branch_channels=8,
    fusion_channels=(16, 16, 16),
    skip_channels=(8, 8),
)


def manifest(name):
    """The recorded list of a network's tensors, with how it was built in `meta`."""
    return json.loads((MANIFESTS / f"{name}.json").read_text(encoding="utf-8"))


def shapes_of(name):
    """Shape of every tensor, by name."""
    return {key: tuple(t["shape"]) for key, t in manifest(name)["tensors"].items()}


def made(names_and_shapes):
    """A tensor for every name, as the recorded numbers were made with. Two at a time."""
    names = list(names_and_shapes)
    with ThreadPoolExecutor(2) as pool:
        arrays = pool.map(lambda n: fill_array(n, names_and_shapes[n]), names)
        return {n: torch.from_numpy(a) for n, a in zip(names, arrays, strict=True)}


def fill_array(name, shape):
    """`golden_fill.fill_array` to the last bit; large weights piece by piece, in half the time."""
    count, piece = math.prod(shape), 1 << 18
    if len(shape) < 2 or count <= piece:
        return golden_fill.fill_array(name, shape)
    stream = np.random.RandomState(zlib.crc32(name.encode("utf-8")))
    gain = 2.0 if any(part in name for part in golden_fill.STRONG) else 1.25
    values = np.empty(count, np.float32)
    for begin in range(0, count, piece):
        part = stream.random_sample(min(piece, count - begin))
        for step, by in ((np.multiply, 2.0), (np.subtract, 1.0), (np.multiply, np.sqrt(3.0)),
                         (np.multiply, gain / np.sqrt(count // shape[0]))):  # fmt: skip
            step(part, by, out=part)
        values[begin : begin + len(part)] = part
    return values.reshape(shape)


def filled(part, config, shapes, prefix=""):
    """A part filled strictly with made tensors; `prefix` stands before their names."""
    tensors = made({prefix + key: shape for key, shape in shapes.items()})
    state = {key: tensors[prefix + key] for key in shapes}
    return weights.fill(part, config, state, "made weights")


def adapter_config(kind, size="tiny_"):
    """Sizes of the "trajectory" or "landmark" adapter; `size` "" is the release's."""
    marks = {"landmark_channels": LANDMARK_CHANNELS} if kind == "landmark" else {}
    if not size:
        return marks
    meta = manifest(f"tiny_{kind}_adapter")["meta"]
    return marks | {
        "block_out_channels": tuple(meta["widths"]),
        "num_attention_heads": tuple(meta["heads"]),
        "cross_attention_dim": meta["cross_attention_dim"],
    }


@functools.cache
def adapter(kind, prefix=""):
    """The tiny "trajectory" or "landmark" adapter."""
    part = "trajectory_adapter" if kind == "trajectory" else "landmark_adapter"
    return filled(part, adapter_config(kind), shapes_of(f"tiny_{kind}_adapter"), prefix)


@functools.cache
def voice_state(name):
    """Tensors of "audio2mesh" or "audio2pose" (or "tiny_...") by the published file's names."""
    from mofa_nb.faces.voice import position_table

    meta, shapes = (manifest(voice_manifest(name))[key] for key in ("meta", "keys"))
    prefix = meta["prefix"]
    state = made({prefix + key: shape for key, shape in shapes.items() if key != "PPE.pe"})
    state = {key.removeprefix(prefix): value for key, value in state.items()}
    for ending, factor in meta["fill_scale"]:
        for key in state:
            if key.endswith(ending) and not key.startswith("audio_encoder."):
                state[key] *= factor
    return state | {key: position_table(shapes[key][2]) for key in meta["computed"]}


def voice_manifest(name):
    """The manifest's name of a speech network."""
    return name.replace("audio2", "speech_audio2")


@functools.cache
def voice_network(name):
    """One of AniPortrait's speech networks at its recorded size."""
    from mofa_nb.models.load import fill_voice

    meta = manifest(voice_manifest(name))["meta"]
    sizes = {"width": meta["latent_dim"], "encoder": meta["wav2vec2"]}
    part = name.removeprefix("tiny_")
    return fill_voice(part, voice_state(name), "made weights", sizes)


@functools.cache
def part(name):
    """The tiny "unet", "vae" or "image_encoder"."""
    meta = manifest(f"tiny_{name}")["meta"]
    return filled(name, meta["config"], shapes_of(f"tiny_{name}"), meta["hash_prefix"])


@functools.cache
def released_s2d():
    """The sparse-to-dense network at its only recorded size, the release's."""
    shapes = {key.removeprefix("module."): s for key, s in shapes_of("cmp").items()}
    return filled("s2d", {}, shapes, "module.")


@functools.cache
def small_s2d():
    """A sparse-to-dense network on a 64 pixel grid."""
    with torch.device("meta"):
        net = weights.build("s2d", SMALL_S2D.to_dict())
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    return filled("s2d", SMALL_S2D.to_dict(), shapes, "s2d.")


def models(**settings):
    """A whole toy model; `settings` replace the release's."""
    from diffusers import EulerDiscreteScheduler

    from mofa_nb.models.models import Models

    return Models(
        settings=Settings(**settings),
        unet=part("unet"),
        vae=part("vae"),
        image_encoder=part("image_encoder"),
        scheduler=EulerDiscreteScheduler.from_config(RELEASED_SCHEDULER),
        s2d=small_s2d(),
        adapters={
            "trajectory": adapter("trajectory", "traj."),
            "landmark": adapter("landmark", "ldmk."),
        },
        hash="0123456789ab",
    )


def seeded(seed=0):
    """Where random numbers come from, on the CPU."""
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    """Standard normal numbers, the same in every run."""
    return torch.randn(shape, generator=seeded(seed))


def begun_clip(models, frames, size=(64, 64)):
    """What a clip is sampled from: the encoded picture; a trajectory control along a random flow,
    weak enough for made-up weights; latent noise."""
    start = encode_start(models, torch.rand(1, 3, *size, generator=seeded(1)))
    adapter, flow = models.adapter("trajectory"), 5 * random(1, frames - 1, 2, *size, seed=2)
    with torch.no_grad():
        known = adapter.conditioning(start.image.to(models.unet.dtype), flow)
    noise = initial_noise(models, size, frames, seeded(42))[1]
    return start, Control(adapter, known, 0.05), noise


def photos():
    """Three smooth square pictures, uint8 [3, 3, 112, 112]."""
    coarse = torch.rand(3, 3, 7, 7, generator=seeded())
    fine = functional.interpolate(coarse, (112, 112), mode="bicubic", align_corners=True)
    return (fine.clamp(0, 1) * 255).byte()


def bank():
    """What training draws from: the pictures, and no clips."""
    return Bank(
        photos(),
        clips=torch.zeros(0, 4, 3, 64, 64, dtype=torch.uint8),
        flow=torch.zeros(0, 3, 2, 64, 64),
        trusted=torch.zeros(0, 3, 1, 64, 64, dtype=torch.bool),
    )


# A model folder like the mini model's, but smaller: 64 pixel clips, VAE factor 4.

_BLOCKS = {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}
_SHARED = {"cross_attention_dim": 16, "addition_time_embed_dim": 32}
_ADAPTER = {
    "in_channels": 8,
    **_BLOCKS,
    **_SHARED,
    "num_attention_heads": [1, 1, 1, 1],
    "embedder_channels": [8, 16, 16],
}
FOLDER = {
    "unet": {
        "sample_size": 16,
        "in_channels": 8,
        "out_channels": 4,
        **_BLOCKS,
        **_SHARED,
        "num_attention_heads": [1, 1, 1, 1],
        "projection_class_embeddings_input_dim": 96,
        "num_frames": 4,
    },
    "vae": {
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "block_out_channels": [32, 32, 32],
        "layers_per_block": 1,
        "latent_channels": 4,
        "sample_size": 64,
        "scaling_factor": 0.5,
        "force_upcast": False,
    },
    "image_encoder": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 224,
        "patch_size": 56,
        "projection_dim": 16,
        "hidden_act": "gelu",
    },
    "s2d": SMALL_S2D.to_dict(),
    "trajectory_adapter": _ADAPTER,
    "landmark_adapter": {
        **_ADAPTER,
        "landmark_channels": [8, 16, 16],
        "occlusion_channels": [8, 8, 16, 8],
    },
}
FOLDER["landmark_s2d"] = FOLDER["s2d"] | {"grid": 96}

FLOAT32 = dict.fromkeys([*FOLDER, "taesd"], torch.float32)

FOLDER_SETTINGS = {
    "name": "toy",
    "num_frames": 4,
    "short_side": 64,
    "steps": 2,
    "guidance": [1.0, 1.0],
    "trajectory_scale": 1.0,
    "decode_chunk": 2,
    "fps": 8,
}


def write_configs(folder):
    """A model folder without any weights, as training starts from."""
    scheduler = {"_class_name": "EulerDiscreteScheduler", **RELEASED_SCHEDULER, "sigma_max": 80.0}
    files = {f"{name}/config.json": config for name, config in FOLDER.items()}
    files |= {"settings.json": FOLDER_SETTINGS, "scheduler/scheduler_config.json": scheduler}
    for name, values in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(values), encoding="utf-8")
    return folder


def write_folder(folder, parts=tuple(FOLDER), dtype=torch.float32):
    """A model folder with the random weights that its parts start from."""
    write_configs(folder)
    for name in parts:
        torch.manual_seed(0)
        weights.save_part(
            name, weights.build(name, FOLDER[name]), FOLDER[name], folder / name, dtype
        )
    return folder
