"""Deliberate mistakes: each must miss the recorded numbers by far more than the gate allows.

The sizes of their errors are known (share of the largest value): wrong heads 4 to 8 %, swapped
axes more than 100 %, a bilinear pyramid 85 to 99 %, no landmarks 41 %, residuals added only once
36 %. Half of that or less is asked for, as other recordings have other inputs; the gate is
0.005 %.
"""

import dataclasses
import functools

import numpy as np
import pytest
import tiny
import torch
from parity_core import (
    NETWORK_GATE,
    adapter_inputs,
    case_names,
    off_by,
    residual_errors,
    run_adapter,
    s2d_inputs,
    unet_inputs,
)
from torch.nn import functional

from mofa_nb.flow.splat import splat_plan


def adapter_error(golden, kind, mistake):
    """Largest error over the cases, as a share of the largest value, with a mistake made.

    Args:
        mistake: (adapter, inputs) -> (adapter, inputs, conditioning or None).
    """
    data = golden.load(f"{kind}_adapter_tiny")
    errors = []
    for case in case_names(data, r"\.B_F_H_W"):
        given = adapter_inputs(golden, data, kind, case)
        with torch.no_grad():
            net, given, known = mistake(tiny.adapter(kind), given)
            residuals, _ = run_adapter(net, given, known)
        errors.append(max(residual_errors(residuals, data, case)))
    return max(errors)


@functools.cache
def adapter_with_the_unets_heads():
    config = tiny.adapter_config("trajectory")
    heads = tuple(tiny.manifest("tiny_unet")["meta"]["config"]["num_attention_heads"])
    assert heads[:2] == config["num_attention_heads"][:2] and heads[3] == 8
    shapes = tiny.shapes_of("tiny_trajectory_adapter")
    return tiny.filled("trajectory_adapter", config | {"num_attention_heads": heads}, shapes)


def like_the_unets_heads(net, given):
    """Give the third block as many heads as the UNet has there: all shapes stay the same."""
    return adapter_with_the_unets_heads(), given, None


def swapped_axes(net, given):
    return net, given | {"flow": given["flow"].flip(2)}, None


def bilinear_pyramid(net, given):
    known = net.conditioning(given["image"], given["flow"])
    warped = []
    for stride, level in zip(net.config.strides, known.features, strict=True):
        flat = given["flow"].flatten(0, 1)
        size = level.shape[-2:]
        small = functional.interpolate(flat, size, mode="bilinear", align_corners=False) / stride
        moved = splat_plan(small.unflatten(0, given["flow"].shape[:2])).apply(level)
        warped.append(torch.cat([level[:, None], moved], dim=1))
    return net, given, dataclasses.replace(known, warped=tuple(warped))


def dropped_landmarks(net, given):
    known = net.conditioning(given["image"], given["flow"], given["landmarks"])
    return net, given, dataclasses.replace(known, landmarks=None)


@pytest.mark.parametrize(
    "kind, mistake, least",
    [
        ("trajectory", like_the_unets_heads, 0.02),
        ("trajectory", swapped_axes, 0.5),
        ("trajectory", bilinear_pyramid, 0.42),
        ("landmark", dropped_landmarks, 0.2),
    ],
)
def test_a_mistake_in_an_adapter_would_be_noticed(golden, kind, mistake, least):
    assert adapter_error(golden, kind, mistake) > least


@torch.no_grad()
def test_residuals_that_enter_the_unet_only_once_would_be_noticed(golden, monkeypatch):
    monkeypatch.setattr("mofa_nb.adapter.unet.residual_counts", lambda blocks: [1] * 12)
    data, unet = golden.load("unet_residuals_tiny"), tiny.part("unet")
    for case in case_names(data, r"\.sample"):
        given, residuals = unet_inputs(data, case)
        recorded = data[f"{case}.out"]
        error = unet(*given, residuals).numpy() - recorded
        assert np.abs(error).max() > 0.1 * np.abs(recorded).max()


@torch.no_grad()
def test_hints_with_swapped_axes_would_be_noticed(golden):
    data, net = golden.load("cmp"), tiny.released_s2d()
    errors = []
    for case in case_names(data, r"\.shape_BHW"):
        image, flow, mask = s2d_inputs(golden, data, case)
        scores = net.logits(net.image_features(image), flow.flip(1), mask)
        errors.append(off_by(scores[:, ::9, ::4, ::4], data[f"{case}.raw_strided"]))
    assert max(errors) > 100 * NETWORK_GATE
