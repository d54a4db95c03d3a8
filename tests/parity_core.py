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


def case_names(data, ending):
    """The case names that stand before `ending`, a pattern that begins with a dot."""
    return sorted({match[1] for key in data if (match := re.fullmatch(rf"([^.]+){ending}", key))})


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


def splat_outputs(data, case):
    """(key, mode, epsilon) of everything recorded of a case."""
    for key in data:
        name, _, mode = key.partition(".")
        if name == case and mode not in ("in", "flow", "metric"):
            mode, _, suffix = mode.partition("-")
            yield key, mode, SPLAT_EPSILON[suffix]


def test_every_splatting_mode_equals_the_release(golden):
    data = golden.load("softsplat")
    cases = case_names(data, r"\.in")
    assert cases
    for case in cases:
        features, flow = tensor(data[f"{case}.in"]), tensor(data[f"{case}.flow"])
        outputs = list(splat_outputs(data, case))
        assert outputs
        for key, mode, epsilon in outputs:
            weighted = mode in ("linear", "soft")
            metric = tensor(data[f"{case}.metric"]) if weighted else None
            ours = splat(features, flow, mode, metric, epsilon)
            np.testing.assert_allclose(ours, data[key], **SPLAT_GATE, err_msg=key)


# S2D


def s2d_inputs(golden, data, case):
    """Image, sparse flow and mask of a case; a large image is made from its tag."""
    batch, height, width = (int(n) for n in data[f"{case}.shape_BHW"])
    made = golden.rnd(f"cmp/img/{golden.split}/{case}", (batch, 3, height, width), 0, 1)
    image = tensor(data.get(f"{case}.image", made))
    flow, mask = torch.zeros(batch, 2, height, width), torch.zeros(batch, 1, height, width)
    points = zip(data[f"{case}.points_byx"], data[f"{case}.points_flow"], strict=True)
    for (b, y, x), moved in points:
        flow[b, :, y, x], mask[b, 0, y, x] = tensor(moved), 1
    return image, flow, mask


def strided_like(ours, data, key, documented):
    """(ours, recorded) on the recorded pixels: all, or every n-th of a large case."""
    name = next(k for k in data if re.fullmatch(re.escape(key) + r"(_strided\d+)?", k))
    step = int(name.partition("_strided")[2] or 1)
    if step == 1 and data[name].shape != tuple(ours.shape):
        step = documented
    return ours[..., ::step, ::step], data[name]


@torch.no_grad()
def test_s2d_equals_the_release_from_scores_to_flow(golden):
    data, net = golden.load("cmp"), tiny.released_s2d()
    cases = case_names(data, r"\.shape_BHW")
    assert cases
    for case in cases:
        image, flow, mask = s2d_inputs(golden, data, case)
        features = net.image_features(image)
        scores = net.logits(features, flow, mask)
        assert off_by(scores[:, ::9, ::4, ::4], data[f"{case}.raw_strided"]) < NETWORK_GATE
        np.testing.assert_allclose(moments(scores), data[f"{case}.raw_meanstd"], atol=1e-4)
        half = strided_like(net.decode(scores), data, f"{case}.flow_half", 3)
        full = strided_like(net(features, flow, mask), data, f"{case}.flow_full", 5)
        for ours, recorded in (half, full):
            np.testing.assert_allclose(
                *paired(ours, recorded), rtol=0, atol=FLOW_GATE, err_msg=case
            )


def test_bin_scores_become_flow_as_in_the_release(golden):
    data, net = golden.load("cmp"), tiny.released_s2d()
    logits = tensor(data["fuser.logits"])
    np.testing.assert_allclose(net.bin_centres(logits), data["fuser.mesh"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(net.decode(logits), data["fuser.flow"], rtol=0, atol=1e-4)


# Adapters


def adapter_inputs(golden, data, kind, case):
    """Everything an adapter is given; what is not stored is made from its tag."""
    batch, frames, height, width = (int(n) for n in data[f"{case}.B_F_H_W"])
    tag = f"adapter/{INPUT_TAGS[kind]}/{golden.split}/{case}"

    def stored(name, make):
        return tensor(data[f"{case}.{name}"] if f"{case}.{name}" in data else make())

    def marks():
        drawn = golden.rnd(f"{tag}/ldmk", (batch, frames, 3, height, width), 0, 1)
        return np.where(drawn < 0.9, np.float32(0), drawn)

    cells = (batch, frames, 8, height // 8, width // 8)
    pixels, flow_shape = (batch, 3, height, width), (batch, frames - 1, 2, height, width)
    return {
        "sample": stored("sample", lambda: golden.rnd(f"{tag}/sample", cells, -1.7, 1.7)),
        "timestep": tensor(data[f"{case}.timestep"]),
        "token": tensor(data[f"{case}.encoder_hidden_states"]),
        "ids": tensor(data[f"{case}.added_time_ids"]),
        "image": stored("controlnet_cond", lambda: golden.rnd(f"{tag}/cond", pixels, -1, 1)),
        "flow": stored(
            "controlnet_flow", lambda: golden.smooth_flow(f"{tag}/flow", flow_shape, 12)
        ),
        "landmarks": stored("landmarks", marks) if kind == "landmark" else None,
        "scale": float(data[f"{case}.conditioning_scale"]),
    }


def run_adapter(net, given, conditioning=None):
    """Residuals, the middle one last, and the conditioning they were made from."""
    known = conditioning or net.conditioning(given["image"], given["flow"], given["landmarks"])
    out = net(given["sample"], given["timestep"], given["token"], given["ids"], known,
              given["scale"])  # fmt: skip
    return [*out.down, out.mid], known


def recorded_residuals(data, case):
    """(name, values, stride) in order; a stride above 1 was taken from the flattened tensor."""
    names = [*sorted(case_residual_names(data, case)), "mid"]
    for name in names:
        key = f"{case}.{name}"
        if key in data:
            yield name, data[key], 1
        else:
            yield name, data[f"{key}.strided7"], int(data[f"{case}.stride"])


def case_residual_names(data, case):
    return {
        m[1] for key in data if (m := re.fullmatch(re.escape(case) + r"\.(down\d+)\.shape", key))
    }


def residual_errors(residuals, data, case):
    """Error of every residual as a share of its largest value."""
    errors = []
    recorded = list(recorded_residuals(data, case))
    for ours, (_, values, stride) in zip(residuals, recorded, strict=True):
        ours = ours.numpy()
        errors.append(off_by(ours if stride == 1 else ours.reshape(-1)[::stride], values))
    return errors


def check_adapter(golden, file, net, kind):
    """Hold an adapter to every case of a file."""
    data = golden.load(file)
    cases = case_names(data, r"\.B_F_H_W")
    assert cases
    for case in cases:
        given = adapter_inputs(golden, data, kind, case)
        with torch.no_grad():
            residuals, known = run_adapter(net, given)
        assert max(residual_errors(residuals, data, case)) < NETWORK_GATE, case
        for ours, (name, _, _) in zip(residuals, recorded_residuals(data, case), strict=True):
            assert ours.shape == tuple(data[f"{case}.{name}.shape"])
            wanted = data[f"{case}.{name}.meanstd"]
            atol = NETWORK_GATE * float(ours.abs().max())
            np.testing.assert_allclose(moments(ours), wanted, rtol=0, atol=atol)
        masks = [data[f"{case}.occ{k}"] for k in range(len(known.occlusion))]
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


def unet_inputs(data, case):
    """What the UNet is given, and the made-up residuals."""
    names = ("sample", "timestep", "encoder_hidden_states", "added_time_ids")
    down = sorted(key for key in data if re.fullmatch(re.escape(case) + r"\.down\d+", key))
    residuals = Residuals(tuple(tensor(data[key]) for key in down), tensor(data[f"{case}.mid"]))
    return [tensor(data[f"{case}.{name}"]) for name in names], residuals


@torch.no_grad()
def test_the_unet_takes_residuals_as_the_release_does(golden):
    data, unet = golden.load("unet_residuals_tiny"), tiny.part("unet")
    cases = case_names(data, r"\.sample")
    assert cases
    for case in cases:
        given, residuals = unet_inputs(data, case)
        assert off_by(unet(*given, residuals), data[f"{case}.out"]) < NETWORK_GATE
        assert off_by(unet(*given), data[f"{case}.out_zero_residual"]) < NETWORK_GATE
