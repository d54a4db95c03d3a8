"""AniPortrait's way from a voice to landmarks against the original's recorded numbers.

The networks' and the whole way's deliberate mistakes are in parity_controls.py.
"""

import json
import wave

import numpy as np
import pytest
import tiny
import torch
from parity_core import NETWORK_GATE, cases, off_by

from mofa_nb.faces import voice
from mofa_nb.faces.mesh import SKIN
from mofa_nb.faces.points import ANIPORTRAIT_68
from mofa_nb.media import sound

POSE_GATE = 1e-4  # of the largest value; poses feed on themselves
PIXEL_GATE, WHOLE_WAY_GATE = 1e-3, 5e-3  # pixels
SOUND_GATE = 1e-3  # of tones, by another resampler than the original's


def released_landmarks(face, points, motion):
    """As the original makes them: the `points` [P, 2] detected, then every frame of the voice."""
    seen = face.seen(motion.offsets + face.mesh, motion.poses, as_released=True)
    marks = np.concatenate([np.float32(points[None, :SKIN]), seen])
    return marks[:, list(ANIPORTRAIT_68)]


def stages(net, *given):
    """What a network makes of an input, and what every part of it makes meanwhile; frames first."""
    seen, ear = {}, net.audio_encoder

    def keep(part, *names):
        def hook(_, received, made):
            first = made[0] if made.__class__ is tuple else made
            seen.update(zip(names, (first, *received), strict=False))

        return part.register_forward_hook(hook)

    hooks = [
        keep(ear.feature_extractor, "conv"),
        keep(ear.feature_projection, "proj", "interp"),
        keep(ear.encoder.pos_conv_embed, "posconv"),
        keep(ear.encoder.layer_norm, "hidden0"),
        *(keep(layer, f"hidden{n}") for n, layer in enumerate(ear.encoder.layers, 1)),
        keep(net.in_fn, "in_fn"),
    ]
    with torch.no_grad():
        out = net(*given)
    for hook in hooks:
        hook.remove()
    seen = {name: made[0] if made.ndim == 3 else made for name, made in seen.items()}
    return seen | {"conv": seen["conv"].T, "out": out}


def stage_errors(data, kind, made, stride):
    """(stage, largest error as a share of the largest value) of all that is on record."""
    start = f"{kind}."
    recorded = {key.removeprefix(start): data[key] for key in data if key.startswith(start)}
    for stage in [stage for stage in recorded if "." not in stage]:
        ours = made[stage].flatten(1).numpy()
        if recorded[stage].ndim == 1:
            assert list(ours.shape) == list(recorded[f"{stage}.shape"])
            ours = ours.ravel()[::stride]
        yield stage, off_by(ours, recorded[stage])


@pytest.mark.parametrize("kind, name", [("a2m", "audio2mesh"), ("a2p", "audio2pose")])
@pytest.mark.parametrize(
    "size, recording", [("tiny_", "speech_nets_tiny"), ("", "speech_nets_full")]
)
def test_every_stage_of_a_speech_network_equals_the_original(golden, size, recording, kind, name):
    net = tiny.voice_network(f"{size}{name}")
    for case, data in cases(golden, recording, "params"):
        given = json.loads(str(data["params"]))
        heard = golden.rnd(given["tag"], (given["samples"],), given["lo"], given["hi"])
        speaker = (given["id"],) if kind == "a2p" else ()
        made = stages(net, torch.from_numpy(heard), given["seq_len"], *speaker)
        found = dict(stage_errors(data, kind, made, given["stride"]))
        assert len(found) > 2 and "out" in found
        assert found.pop("out") < (POSE_GATE if kind == "a2p" else NETWORK_GATE), case
        assert max(found.values()) < NETWORK_GATE, (case, found)


def test_sound_is_decoded_resampled_and_counted_as_in_the_original(golden, tmp_path, monkeypatch):
    monkeypatch.setattr(sound, "SHORTEST_SECONDS", 0)
    for case, data in cases(golden, "speech_audio", "pcm"):
        pcm, rate, fps = (data[key] for key in ("pcm", "sr", "fps"))
        with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
            file.setparams((pcm.shape[1], 2, int(rate), len(pcm), "NONE", ""))
            file.writeframes(pcm.tobytes())
        samples = sound.read_sound(tmp_path / "voice.wav").samples
        assert len(samples) == data["speech_len"]
        assert voice.frame_count(len(samples), int(fps), as_released=True) == data["seq_len"]
        if "noise" in case:  # what lies above 8 kHz, each resampler removes in its own way
            continue
        for ours, name in ((samples, "speech"), (voice.normalised(samples), "input")):
            wanted = data[f"{name}_strided3"]
            np.testing.assert_allclose(ours[::3], wanted, atol=SOUND_GATE, err_msg=case)


def test_frames_and_pieces_are_counted_as_in_the_original_where_it_works(golden):
    for row in golden.load_json("frames_table"):
        samples, fps = row["samples"], row["fps"]
        frames = voice.frame_count(samples, fps, as_released=True)
        assert frames == row["frames"]
        pieces = voice.pose_pieces(samples, frames, fps)
        if row["error"] is None:
            assert pieces == [tuple(piece) for piece in row["pose_chunks"]]
        else:  # and where it fails, nothing is lost
            assert [sum(column) for column in zip(*pieces, strict=True)] == [samples, frames]
            assert all(count <= 10 * fps for _, count in pieces)


def test_the_metric_mesh_equals_the_recorded_one(golden):
    shared = golden.load("speech_geometry")
    for _, data in cases(golden, "speech_geometry", "lmks"):
        width, height = size = tuple(data["size"].tolist())
        points = data["lmks"] * (width, height, width)
        face = voice.metric_face(points, size, shared["canonical"], shared["weights"])
        np.testing.assert_allclose(face.mesh, data["lmks3d"], atol=1e-6)
        np.testing.assert_allclose(face.transform, data["trans_mat"], atol=1e-6)


def recorded_face(data, size):
    """The made-up face of a recording: metric, and as pixels of the picture."""
    return voice.MetricFace(data["lmks3d"], data["trans_mat"], size), data["lmks"][:, :2] * size


def test_moved_meshes_are_projected_as_in_the_original(golden):
    assert list(ANIPORTRAIT_68) == golden.load("speech_project")["index68"].tolist()
    for _, data in cases(golden, "speech_project", "pose"):
        face, points = recorded_face(data, tuple(data["size"].tolist()))
        poses, offsets = data["pose"], data["offsets"]
        matrices = voice.pose_matrices(poses)
        np.testing.assert_allclose(matrices, data["pose_matrices"], rtol=0, atol=1e-9)
        seen = face.seen(face.mesh + offsets, poses, as_released=True)
        recorded = data["projected_strided5"]
        np.testing.assert_allclose(seen[:, ::5], recorded, rtol=0, atol=PIXEL_GATE)
        marks = released_landmarks(face, points, voice.VoiceMotion(offsets, poses, 25.0, 1.0))
        np.testing.assert_allclose(marks, data["landmarks"], rtol=0, atol=PIXEL_GATE)
        depth_done_right = face.seen(face.mesh + offsets, poses)
        assert 0.003 < np.abs(depth_done_right[:, ::5] - recorded).max() < 0.2


def test_poses_are_smoothed_as_in_the_original(golden):
    for _, data in cases(golden, "speech_project", "w7"):
        for window in (5, 7):
            ours = voice.smoothed(data["in"], window)
            np.testing.assert_allclose(ours, data[f"w{window}"], rtol=0, atol=1e-6)


def test_the_whole_way_equals_the_originals_demo(golden):
    networks = voice.VoiceNetworks(*map(tiny.voice_network, ("tiny_audio2mesh", "tiny_audio2pose")))
    for _, data in cases(golden, "speech_demo_tiny", "params"):
        given = json.loads(str(data["params"]))
        size = (given["width"], given["height"])
        pcm = 32767 * golden.rnd(f"{given['tag']}/pcm", (given["samples"],), -0.7, 0.7)
        spoken = np.round(pcm).astype(np.int16).astype(np.float32) / 32768
        how = {"speaker": given["id"], "as_released": True}
        motion = voice.voice_motion(networks, spoken, given["fps"], **how)
        face, points = recorded_face(data, size)
        marks = released_landmarks(face, points, motion)
        assert off_by(motion.poses, data["pose"]) < POSE_GATE
        assert motion.offsets.shape == tuple(data["mesh_shape"])
        meshes = (face.mesh + motion.offsets).ravel()[::997]
        assert off_by(meshes, data["mesh_strided997"]) < NETWORK_GATE
        assert marks.shape == tuple(data["landmarks_shape"])
        for ours, name in (
            (marks[:26], "landmarks_first26"),
            (marks[::19], "landmarks_strided19"),
            ((marks[:25:3] / size) * 320, "clip25_canvas_strided3"),
        ):
            np.testing.assert_allclose(ours, data[name], rtol=0, atol=WHOLE_WAY_GATE)
        half = data["clip25_half"].astype(np.float64)
        np.testing.assert_allclose(marks[:25], half, rtol=1e-3, atol=WHOLE_WAY_GATE)
