"""Splatting, S2D, adapters and the UNet against the release's recorded numbers."""

import re

import numpy as np
import pytest
import tiny
import torch

from mofa_nb.adapter.unet import Residuals
from mofa_nb.flow.splat import splat
from mofa_nb.models import weights

SPLAT_EPSILON = {"": "add", "addeps": "add", "zeroeps": "zero", "clipeps": "clip"}
SPLAT_GATE = {"atol": 1e-6, "rtol": 1e-4}
NETWORK_GATE = 5e-5  # of the largest value
FLOW_GATE = 1e-3  # pixels
INPUT_TAGS = {"trajectory": "traj", "landmark": "ldmk"}


def cases(golden, file, known_by):
    """(name, arrays by short name) of all cases in a file, each of which has a `known_by`."""
    data = golden.load(file)
    names = sorted(key.split(".")[0] for key in data if key.partition(".")[2] == known_by)
    assert names
    for name in names:
        start = f"{name}."
        yield name, {key.removeprefix(start): data[key] for key in data if key.startswith(start)}


def kept(data, name):
    """A recorded array, and the step between its values; `_strided<step>` may end its name."""
    pattern = rf"{name}(_strided)?(\d+)?"
    key, match = next((k, m) for k in data if (m := re.fullmatch(pattern, k)))
    return data[key], int(match[2] or 1)


def tensor(array):
    return torch.from_numpy(np.asarray(array))


def paired(ours, recorded):
    """(ours, recorded) as arrays on the recorded values: all, or every n-th of a sampled one."""
    if hasattr(recorded, "of"):
        return recorded.of(ours), recorded.values
    return np.asarray(ours), recorded


def off_by(ours, recorded):
    """Largest difference as a share of the largest recorded value."""
    ours, recorded = paired(np.asarray(ours, np.float64), recorded)
    assert ours.shape == recorded.shape
    return np.abs(ours - recorded).max() / np.abs(recorded).max()


def moments(values):
    values = np.asarray(values, np.float64)
    return [values.mean(), values.std(ddof=1)]


# Splatting


def test_every_splatting_mode_equals_the_release(golden):
    for case, data in cases(golden, "softsplat", "in"):
        features, flow = tensor(data["in"]), tensor(data["flow"])
        outputs = data.keys() - {"in", "flow", "metric"}
        assert outputs
        for name in outputs:
            mode, _, suffix = name.partition("-")
            metric = tensor(data["metric"]) if mode in ("linear", "soft") else None
            ours = splat(features, flow, mode, metric, SPLAT_EPSILON[suffix])
            np.testing.assert_allclose(ours, data[name], **SPLAT_GATE, err_msg=f"{case}.{name}")


# S2D


def s2d_inputs(golden, data, case):
    """Image, sparse flow and mask of a case; a large image is made from its tag."""
    batch, height, width = data["shape_BHW"].tolist()
    made = golden.rnd(f"cmp/img/{golden.split}/{case}", (batch, 3, height, width), 0, 1)
    image = tensor(data.get("image", made))
    flow, mask = torch.zeros(batch, 2, height, width), torch.zeros(batch, 1, height, width)
    for (b, y, x), moved in zip(data["points_byx"], data["points_flow"], strict=True):
        flow[b, :, y, x], mask[b, 0, y, x] = tensor(moved), 1
    return image, flow, mask


@torch.no_grad()
def test_s2d_equals_the_release_from_scores_to_flow(golden):
    net = tiny.released_s2d()
    for case, data in cases(golden, "cmp", "shape_BHW"):
        image, flow, mask = s2d_inputs(golden, data, case)
        features = net.image_features(image)
        scores = net.logits(features, flow, mask)
        assert off_by(scores[:, ::9, ::4, ::4], data["raw_strided"]) < NETWORK_GATE
        np.testing.assert_allclose(moments(scores), data["raw_meanstd"], atol=1e-4)
        half, full = net.decode(scores), net(features, flow, mask)
        for ours, name, documented in ((half, "flow_half", 3), (full, "flow_full", 5)):
            recorded, step = kept(data, name)
            if step == 1 and recorded.shape != tuple(ours.shape):
                step = documented
            pair = paired(ours[..., ::step, ::step], recorded)
            np.testing.assert_allclose(*pair, rtol=0, atol=FLOW_GATE, err_msg=case)


def test_bin_scores_become_flow_as_in_the_release(golden):
    data, net = golden.load("cmp"), tiny.released_s2d()
    logits = tensor(data["fuser.logits"])
    np.testing.assert_allclose(net.bin_centres(logits), data["fuser.mesh"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(net.decode(logits), data["fuser.flow"], rtol=0, atol=1e-4)


# Adapters


def adapter_inputs(golden, data, kind, case):
    """Everything an adapter is given; what is not stored is made from its tag."""
    batch, frames, height, width = data["B_F_H_W"].tolist()
    tag = f"adapter/{INPUT_TAGS[kind]}/{golden.split}/{case}"

    def stored(name, make):
        return tensor(data[name] if name in data else make())

    def marks():
        drawn = golden.rnd(f"{tag}/ldmk", (batch, frames, 3, height, width), 0, 1)
        return np.where(drawn < 0.9, np.float32(0), drawn)

    cells = (batch, frames, 8, height // 8, width // 8)
    pixels, flow_shape = (batch, 3, height, width), (batch, frames - 1, 2, height, width)
    return {
        "sample": stored("sample", lambda: golden.rnd(f"{tag}/sample", cells, -1.7, 1.7)),
        "timestep": tensor(data["timestep"]),
        "token": tensor(data["encoder_hidden_states"]),
        "ids": tensor(data["added_time_ids"]),
        "image": stored("controlnet_cond", lambda: golden.rnd(f"{tag}/cond", pixels, -1, 1)),
        "flow": stored(
            "controlnet_flow", lambda: golden.smooth_flow(f"{tag}/flow", flow_shape, 12)
        ),
        "landmarks": stored("landmarks", marks) if kind == "landmark" else None,
        "scale": float(data["conditioning_scale"]),
    }


def check_residual(ours, data, name):
    """Hold one residual to its recording: all values, or every n-th of the flattened tensor."""
    assert ours.shape == tuple(data[f"{name}.shape"])
    wanted, values = data[f"{name}.meanstd"], ours.numpy()
    if name in data:
        assert off_by(values, data[name]) < NETWORK_GATE, name
    else:
        strided = values.reshape(-1)[:: int(data["stride"])]
        assert off_by(strided, data[f"{name}.strided7"]) < NETWORK_GATE, name
    atol = NETWORK_GATE * float(ours.abs().max())
    np.testing.assert_allclose(moments(ours), wanted, rtol=0, atol=atol)


@torch.no_grad()
def check_adapter(golden, file, net, kind):
    """Hold an adapter to every case of a file."""
    for case, data in cases(golden, file, "B_F_H_W"):
        given = adapter_inputs(golden, data, kind, case)
        known = net.conditioning(given["image"], given["flow"], given["landmarks"])
        inputs = (given[name] for name in ("sample", "timestep", "token", "ids"))
        out = net(*inputs, known, given["scale"])
        names = sorted(m[1] for key in data if (m := re.fullmatch(r"(down\d+)\.shape", key)))
        for ours, name in zip([*out.down, out.mid], [*names, "mid"], strict=True):
            check_residual(ours, data, name)
        masks = [data[f"occ{k}"] for k in range(len(known.occlusion))]
        assert bool(masks) == (kind == "landmark")
        for ours, recorded in zip(known.occlusion, masks, strict=True):
            assert off_by(ours, recorded) < NETWORK_GATE, case


@pytest.mark.parametrize("file", ["trajectory_adapter_tiny", "landmark_adapter_tiny"])
def test_the_tiny_adapter_equals_the_release(golden, file):
    kind = file.partition("_")[0]
    check_adapter(golden, file, tiny.adapter(kind), kind)


@pytest.fixture(scope="module")
def full_size():
    """Builds the adapters of the release; a tensor that both have is made once (2.8 GB)."""
    ready = {}

    def build(kind):
        shapes = tiny.shapes_of(f"{kind}_adapter")
        ready.update(tiny.made({k: s for k, s in shapes.items() if k not in ready}))
        part = {"trajectory": "trajectory_adapter"}.get(kind, "landmark_adapter")
        state = {k: ready[k] for k in shapes}
        return weights.fill(part, tiny.adapter_config(kind, size=""), state, "made weights")

    yield build
    ready.clear()


@pytest.mark.parametrize("file", ["trajectory_adapter_full", "landmark_adapter_full"])
def test_the_full_size_adapter_equals_the_release(golden, full_size, file):
    kind = file.partition("_")[0]
    check_adapter(golden, file, full_size(kind), kind)


# UNet


@torch.no_grad()
def test_the_unet_takes_residuals_as_the_release_does(golden):
    unet = tiny.part("unet")
    for _, data in cases(golden, "unet_residuals_tiny", "sample"):
        names = ("sample", "timestep", "encoder_hidden_states", "added_time_ids")
        given = [tensor(data[name]) for name in names]
        down = [tensor(data[key]) for key in sorted(data) if re.fullmatch(r"down\d+", key)]
        made = unet(*given, Residuals(tuple(down), tensor(data["mid"])))
        assert off_by(made, data["out"]) < NETWORK_GATE
        assert off_by(unet(*given), data["out_zero_residual"]) < NETWORK_GATE
