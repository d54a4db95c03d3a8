"""Deliberate mistakes: with each, a parity test must fail even behind a gate made far wider.

The sizes of their errors are known: as shares of the largest value, for example, wrong heads 4 to
8 %, swapped axes more than 100 %, a bilinear pyramid 85 to 99 %, no landmarks 41 %, residuals added
only once 36 %; on a voice's way to landmarks, in pixels. Half of the smallest or less is asked for,
as other recordings have other inputs; the gates are 0.005 %, 0.01 % and 0.005 pixels.
"""

import collections
import copy
import inspect
import re
import textwrap

import parity_core
import parity_voice
import pytest
import tiny
import torch
from torch import nn

from mofa_nb.adapter.adapter import Adapter
from mofa_nb.adapter.unet import residual_counts
from mofa_nb.faces import voice
from mofa_nb.flow.resize import flow_pyramid
from mofa_nb.flow.s2d import S2D

ADAPTER = (parity_core.test_the_tiny_adapter_equals_the_release, "trajectory_adapter_tiny")
LANDMARKS = (parity_core.test_the_tiny_adapter_equals_the_release, "landmark_adapter_tiny")
UNET = (parity_core.test_the_unet_takes_residuals_as_the_release_does,)
HINTS = (parity_core.test_s2d_equals_the_release_from_scores_to_flow,)
STAGES = parity_voice.test_every_stage_of_a_speech_network_equals_the_original
HEARING = (STAGES, "tiny_", "speech_nets_tiny", "a2m", "audio2mesh")
POSE = (STAGES, "tiny_", "speech_nets_tiny", "a2p", "audio2pose")
WHOLE_WAY = (parity_voice.test_the_whole_way_equals_the_originals_demo,)


def fails_behind(gates, parity_test, golden, patch):
    """Hold that a parity test fails although its gates are these, and all others wide open."""
    for module in (parity_core, parity_voice):
        for name in [name for name in vars(module) if name.endswith("_GATE")]:
            if isinstance(getattr(module, name), float):
                patch.setattr(module, name, gates.get(name, 1e9))
    check, *given = parity_test
    with pytest.raises(AssertionError):
        check(golden, *given)


def spoil(patch, functions, edits):
    """Let functions read otherwise, whoever holds them: each edit changes one place in them."""
    found = collections.Counter()
    for function in functions:
        source = textwrap.dedent(inspect.getsource(function))
        found.update({old: source.count(old) for old in edits})
        pattern, made = "|".join(map(re.escape, edits)), {}
        source = re.sub(pattern, lambda match: edits[match[0]], source)
        exec(source, function.__globals__, made)
        patch.setattr(function, "__code__", made[function.__name__].__code__)
    assert found == dict.fromkeys(edits, 1), "the code reads otherwise by now"


HEARD, LOOK, FEED = "self.heard[self.now]", "self._looking_back(token)", "layer.linear1(token)"
FED = f"layer.linear2({FEED}.relu())"
NORMED = "encoder.encoder.layer_norm(hidden + encoder.encoder.pos_conv_embed(hidden))"
ROWS = f"[hidden := {NORMED}, *(hidden := layer(hidden) for layer in encoder.encoder.layers)]"
LAST = "encoder.encoder(hidden).last_hidden_state"
HEAR, TURN, STEP = voice._heard, voice.AudioToPose.forward, voice._Cached.step
CODE = {  # what goes wrong -> the test, the gate that must not be reached, functions, edits
    "swapped axes": (ADAPTER, ("NETWORK_GATE", 0.5), [Adapter.window],
        {"flow_pyramid(flow,": "flow_pyramid(flow.flip(2),"}),
    "a bilinear pyramid": (ADAPTER, ("NETWORK_GATE", 0.42), [flow_pyramid],
        {"flow[..., ::s, ::s]":
         "functional.avg_pool2d(flow.flatten(0, -4), s).unflatten(0, flow.shape[:-3])"}),
    "no landmarks": (LANDMARKS, ("NETWORK_GATE", 0.2), [Adapter.window],
        {"marks, tuple(masks))": "None, tuple(masks))"}),
    "residuals that enter once": (UNET, ("NETWORK_GATE", 0.1), [residual_counts],
        {"return counts": "return [1] * len(counts)"}),
    "hints with swapped axes": (HINTS, ("NETWORK_GATE", 0.005), [S2D.last_features],
        {"[flow, mask, mask]": "[flow.flip(1), mask, mask]"}),
    "ends not aligned": (HEARING, ("NETWORK_GATE", 0.12), [HEAR],
        {"align_corners=True": "align_corners=False"}),
    "the nearest feature": (HEARING, ("NETWORK_GATE", 0.1), [HEAR],
        {'mode="linear", align_corners=True': 'mode="nearest"'}),
    "the mean of all layers": (HEARING, ("NETWORK_GATE", 0.38), [HEAR],
        {LAST: f"torch.stack({ROWS}).mean(0)"}),
    "the last layer left out": (HEARING, ("NETWORK_GATE", 0.6), [HEAR],
        {LAST: f"{ROWS}[-2]"}),
    "another activation": (POSE, ("POSE_GATE", 0.04), [STEP],
        {f"{FEED}.relu()": f"functional.gelu({FEED})"}),
    "cross-attention first": (POSE, ("POSE_GATE", 0.3), [STEP],
        {LOOK: HEARD, HEARD: LOOK}),
    "feed-forward before cross-attention": (POSE, ("POSE_GATE", 0.15), [STEP],
        {HEARD: FED, FED: "self.heard[self.now - 1]"}),
    "the whole sound heard at once": (POSE, ("POSE_GATE", 0.24), [voice._Cached.__init__, STEP],
        {"self.now = layer, 0": "self.now, self.memory = layer, 0, memory[None]",
         HEARD: "layer.multihead_attn(token[None, None], self.memory, self.memory)[0][0, 0]"}),
    "no distance bias": (POSE, ("POSE_GATE", 0.05), [voice._Cached.__init__],
        {"2.0 ** -torch.arange(1,": "0.0 * torch.arange(1,"}),
    "slopes in reverse": (POSE, ("POSE_GATE", 0.06), [voice._Cached.__init__],
        {"-torch.arange(1, HEADS + 1,": "-torch.arange(HEADS, 0, -1,"}),
    "no positions": (POSE, ("POSE_GATE", 0.05), [TURN],
        {"self.PPE.pe[0, :num_frames]": "0 * self.PPE.pe[0, :num_frames]"}),
    "another speaker": (POSE, ("POSE_GATE", 0.035), [TURN], {"[speaker]": "[speaker + 1]"}),
    "no feedback": (POSE, ("POSE_GATE", 0.08), [TURN],
        {"self.pose_map(pose)": "self.pose_map(0 * pose)"}),
    "angles not halved": (WHOLE_WAY, ("WHOLE_WAY_GATE", 3), [voice.voice_motion],
        {"[ANGLE_SHARE] * 3": "[1] * 3"}),
    "poses smoothed less": (WHOLE_WAY, ("WHOLE_WAY_GATE", 2), [voice.voice_motion],
        {"smoothed(pose)": "smoothed(pose, 5)"}),
    "poses not smoothed": (WHOLE_WAY, ("WHOLE_WAY_GATE", 20), [voice.voice_motion],
        {"smoothed(pose)": "pose"}),
    "moving axes": (WHOLE_WAY, ("WHOLE_WAY_GATE", 0.05), [voice.pose_matrices],
        {'"xyz"': '"XYZ"'}),
    "axes in another order": (WHOLE_WAY, ("WHOLE_WAY_GATE", 1), [voice.pose_matrices],
        {'"xyz"': '"zyx"'}),
    "a pose on the camera's side": (WHOLE_WAY, ("WHOLE_WAY_GATE", 12), [voice.MetricFace.seen],
        {"self.transform @ pose_matrices(poses)": "pose_matrices(poses) @ self.transform"}),
    "the exact depth": (WHOLE_WAY, ("WHOLE_WAY_GATE", 0.005), [voice.MetricFace.seen],
        {"RELEASED_DEPTH if as_released else 1": "1"}),
    "a long sound's pose in one piece": (WHOLE_WAY, ("POSE_GATE", 0.05), [voice.pose_pieces],
        {"max(1, math.ceil(samples / POSE_PIECE) - 1)": "1"}),
}  # fmt: skip


@pytest.mark.parametrize("mistake", CODE)
def test_a_mistake_in_the_code_would_be_noticed(golden, monkeypatch, mistake):
    parity_test, gate, functions, edits = CODE[mistake]
    spoil(monkeypatch, functions, edits)
    fails_behind(dict([gate]), parity_test, golden, monkeypatch)


NETWORKS = {  # what goes wrong in hearing -> how the network is changed, the gate not to be reached
    "layers in reverse": ("ear.encoder.layers = nn.ModuleList(reversed(ear.encoder.layers))", 0.5),
    "norms of taps not loaded":
        ("ear.encoder.pos_conv_embed.conv.parametrizations.weight.original0.fill_(1)", 0.16),
    "no positional convolution":
        ("ear.encoder.pos_conv_embed.register_forward_hook(lambda *given: 0 * given[2])", 0.06),
    "no group norm": ("ear.feature_extractor.conv_layers[0].layer_norm = nn.Identity()", 0.15),
    "the other file's encoder":
        ("net.audio_encoder = tiny.voice_network('tiny_audio2pose').audio_encoder", 0.7),
}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("mistake", NETWORKS)
def test_a_network_loaded_wrongly_would_be_noticed(golden, monkeypatch, mistake):
    change, gate = NETWORKS[mistake]
    net = copy.deepcopy(tiny.voice_network("tiny_audio2mesh"))
    exec(change, {"net": net, "ear": net.audio_encoder, "nn": nn, "tiny": tiny})
    monkeypatch.setattr(tiny, "voice_network", lambda name: net)
    fails_behind({"NETWORK_GATE": gate}, HEARING, golden, monkeypatch)


def test_an_adapter_with_the_unets_heads_would_be_noticed(golden, monkeypatch):
    """The third block has as many heads as the UNet has there: all shapes stay the same."""
    config = tiny.adapter_config("trajectory")
    heads = tuple(tiny.manifest("tiny_unet")["meta"]["config"]["num_attention_heads"])
    assert heads[:2] == config["num_attention_heads"][:2] and heads[3] == 8
    shapes = tiny.shapes_of("tiny_trajectory_adapter")
    net = tiny.filled("trajectory_adapter", config | {"num_attention_heads": heads}, shapes)
    monkeypatch.setattr(tiny, "adapter", lambda kind: net)
    fails_behind({"NETWORK_GATE": 0.02}, ADAPTER, golden, monkeypatch)
