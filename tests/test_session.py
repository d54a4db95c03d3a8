"""A session from picture to clip: what is kept ready, what is reported, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from mofa_nb.animate import animate
from mofa_nb.checks import InputError
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.pipeline import chain
from mofa_nb.pipeline.outputs import card_json
from mofa_nb.pipeline.session import Session
from mofa_nb.pipeline.settings import ClipSettings

DRAG = Motion((96, 64), tracks=[[(20, 20), (60, 30)]], pins=[(70, 50)])


@pytest.fixture(scope="module")
def models():
    """A toy model of 64 pixel clips of three frames."""
    return tiny.models(
        name="toy", num_frames=3, short_side=64, steps=2, guidance=(1.0, 1.0),
        trajectory_scale=0.05, decode_chunk=2, fps=8,
    )  # fmt: skip


@pytest.fixture(scope="module")
def picture():
    """A photograph-like array of 96 x 64 pixels."""
    smooth = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(smooth, (64, 96), mode="bicubic").clamp(0, 1)
    return (large[0].permute(1, 2, 0) * 255).byte().numpy()


@pytest.fixture
def session(models, picture):
    """A session with the picture fitted."""
    ready = Session(models)
    ready.set_image(picture)
    return ready


@pytest.fixture(scope="module")
def made(models, picture):
    """A clip by `animate`, its progress and the names of its inner tensors."""
    progress, names = [], []
    clip = animate(
        picture, DRAG, model=models, seed=3,
        progress=lambda *report: progress.append(report),
        trace=lambda name, value: names.append(name),
    )  # fmt: skip
    return clip, progress, names


def same(one, other):
    return np.array_equal(one.frames, other.frames)


def last(steps):
    *_, step = steps
    return step


# One call


def test_a_picture_and_a_motion_become_a_clip_that_remembers_every_setting_as_used(made):
    clip, progress, names = made
    assert clip.frames.shape == (3, 64, 64, 3) and clip.frames.dtype == np.uint8
    assert clip.flow.shape == (2, 2, 64, 64) and clip.flow.abs().max() > 0.1
    assert clip.model == "toy" and clip.model_hash == "0123456789ab"
    assert clip.motion == DRAG and clip.image.shape == (64, 64, 3)
    assert clip.settings == {
        "steps": 2, "seed": 3, "trajectory_scale": 0.05, "num_frames": 3, "fps": 8,
        "guidance": [1.0, 1.0], "trajectory_span": [0.0, 1.0], "size": [64, 64],
    }  # fmt: skip
    assert set(clip.seconds) == {"image", "flow", "condition", "denoise", "decode"}
    assert [p for p in progress if p[0] == "denoise"] == [("denoise", 1, 2), ("denoise", 2, 2)]
    assert names == ["start", "trajectory_conditioning"] + ["residuals", "velocity"] * 2


def test_the_same_call_gives_the_same_clip_and_seed_and_motion_another(
    made, models, picture, tmp_path
):
    clip, nothing = made[0], Motion((96, 64))
    back = Motion((96, 64), tracks=[[(60, 30), (20, 20)]])
    DRAG.save(tmp_path / "drag.json")

    def again(motion, seed=3, **given):
        return animate(picture, motion, model=models, seed=seed, **given)

    assert same(again(DRAG), clip) and same(again(tmp_path / "drag.json"), clip)
    assert not same(again(DRAG, seed=4), clip) and not same(again(back), clip)
    of_flow = again(nothing, flow=clip.flow)
    assert same(of_flow, clip) and not any("S2D" in note for note in of_flow.notes)
    assert same(again(DRAG, flow=clip.flow.numpy()), clip)


def test_other_sizes_are_fitted_to_the_models_grid(models, picture):
    models = replace(models, notes=("cmp.tar holds 2 unused tensors",))
    clip = animate(picture, DRAG, model=models, size=(140, 70), steps=1)
    assert card_json(clip)["notes"].count(*models.notes) == 1
    assert clip.settings["size"] == [128, 64] and clip.frames.shape == (3, 64, 128, 3)
    assert any("multiples of 64" in note for note in clip.notes)


# A session


def test_an_empty_motion_runs_free_and_says_so_and_pins_alone_steer(session):
    free, pinned = (
        last(session.animate_steps(motion)).clip
        for motion in (Motion((96, 64)), Motion((96, 64), pins=[(50, 30)]))
    )
    assert "the motion is empty, so the clip runs free" in free.notes
    assert same(free, last(session.animate_steps(DRAG, trajectory_scale=0.0)).clip)
    assert not any("runs free" in note for note in pinned.notes) and not same(pinned, free)


def test_motion_beyond_the_range_of_s2d_is_told(session):
    for x, told in ((70, True), (26, False)):
        motion = Motion((96, 64), tracks=[[(20, 30), (x, 30)]])
        notes = " ".join(last(session.animate_steps(motion, steps=1)).clip.notes)
        assert ("S2D's range of 16 pixels on its 64 pixel grid" in notes) == told


def test_steps_come_one_by_one_with_previews_when_asked_for(session):
    steps = list(session.animate_steps(DRAG, steps=4, preview_every=2))
    assert [s.index for s in steps] == [1, 2, 3, 4]
    shown = [s.preview is not None for s in steps]
    assert shown == [False, True, False, True] and steps[1].preview.shape == (3, 64, 64, 3)
    assert [s.clip is not None for s in steps] == [False, False, False, True]
    assert np.array_equal(steps[-1].preview, steps[-1].clip.frames)


def test_stopping_between_steps_ends_the_work(session):
    calls = []
    hook = session.models.unet.register_forward_pre_hook(lambda *call: calls.append(1))
    walk = session.animate_steps(DRAG, steps=9)
    next(walk)
    walk.close()
    hook.remove()
    assert len(calls) == 1


def test_dense_flow_of_a_motion_is_quick_to_ask_for_again(session):
    encoded = []
    hook = session.models.s2d.image_encoder.register_forward_pre_hook(
        lambda *call: encoded.append(1)
    )
    flows = [session.dense_flow(DRAG), session.dense_flow(DRAG, num_frames=2)]
    hook.remove()
    assert encoded == [] and flows[0].shape == (2, 2, 64, 64) and flows[1].shape == (1, 2, 64, 64)


def test_a_preview_moves_the_picture_and_dims_the_holes(session):
    for frame in (frames := session.warp_preview(torch.zeros(2, 2, 64, 64))):
        assert np.abs(frame.astype(int) - session.image).max() <= 1
    assert frames.shape == (3, 64, 64, 3)
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0] = 16
    moved = session.warp_preview(flow)[1].astype(int)
    assert np.abs(moved[:, 16:] - session.image[:, :-16]).max() <= 1
    assert np.abs(moved[:, :16] - 0.35 * session.image[:, :16]).max() <= 1


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"steps": 0}, "steps must be a whole number from 1"),
        ({"num_frames": 1}, "num_frames must be a whole number from 2"),
        ({"num_frames": 4, "seconds": 2}, "num_frames or seconds: leave one of them out"),
        ({"seconds": 0}, "seconds at 8 frames per second must lie between 0.25 and 1250"),
        ({"trajectory_span": (0.5, 0.5)}, "trajectory_span must begin before it ends"),
        ({"trajectory_span": (0, 2)}, "number 2 of trajectory_span must lie between 0 and 1"),
        ({"trajectory_span": 1}, "trajectory_span must be 2 numbers"),
        ({"num_frames": 9, "window_stride": 3}, "a stride from 1 to window - 1"),
        ({"flow": torch.zeros(3, 2, 64, 64)}, r"the flow must be \[2, 2, 64, 64\], but \[3, 2"),
        ({"guidance": 3}, "guidance must be 2 numbers, but 3 came"),
        ({"guidance": (float("nan"), 1)}, "number 1 of guidance must be finite"),
        ({"num_frames": 9, "window": 4}, "window must be a whole number from 2 to 3"),
        ({"stpes": 3}, "there is no setting 'stpes': choose from steps, seed"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"fps": 0}, "fps must lie between 1 and 240"),
        ({"trajectory_scale": -0.5}, "trajectory_scale must lie between 0 and 100"),
    ],
)
def test_settings_out_of_range_are_refused(settings, sentence, session):
    with pytest.raises(InputError, match=sentence):
        next(session.animate_steps(DRAG, **settings))


def test_a_clip_as_released_is_not_compiled_or_its_context_is_missed(session, monkeypatch):
    asked = []
    monkeypatch.setattr(chain, "compile_blocks", lambda models, wanted: asked.append(wanted))
    for as_released in (False, True):
        how = {"steps": 1, "compile": True, "as_released": as_released}
        last(session.animate_steps(DRAG, **how))
    assert asked == [True, False]


def test_a_clip_as_released_cuts_hints_to_pixels_and_has_the_demos_fault(session):
    off = replace(DRAG, tracks=[Track([(20.7, 20.7), (60.9, 30.9)])])
    cut = replace(DRAG, tracks=[Track([(20.0, 20.0), (60.0, 30.0)])])  # a pixel is a grid's here
    how = {"guidance": (2.0, 3.0), "as_released": True, "trajectory_scale": 1.0}
    clip, same_hints = (last(session.animate_steps(motion, **how)).clip for motion in (off, cut))
    assert same(clip, same_hints) and np.array_equal(clip.flow, same_hints.flow)
    usual = last(session.animate_steps(cut, **how | {"as_released": False})).clip
    assert np.array_equal(usual.flow, clip.flow) and not same(usual, clip)  # the tokens' order
    assert clip.settings["as_released"] is True and "as_released" not in usual.settings


def test_a_session_says_what_it_lacks_and_loads_nothing_before_it_must(models, picture, tmp_path):
    with pytest.raises(InputError, match="no picture yet: call set_image first"):
        Session(models).dense_flow(DRAG)
    session = Session(replace(models, adapters={"landmark": models.adapters["landmark"]}))
    session.set_image(picture)
    with pytest.raises(InputError, match="toy model has no trajectory adapter"):
        next(session.animate_steps(DRAG))
    session = Session(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no model .*choose mini, release, or an existing"):
        session.set_image(np.zeros((64, 64, 3), np.uint8))


def test_a_tracks_depth_reaches_the_adapter_and_the_preview(session):
    made, flow = {}, torch.zeros(2, 2, 64, 64)  # the picture's middle; two halves meet
    flow[:, 0, :, :32], flow[:, 0, :, 32:] = 16.0, -16.0
    for depth in (None, -1, 1):
        tracks = [Track([(32, 32), (48, 32)], depth=depth), Track([(64, 32), (48, 32)])]
        motion = Motion((96, 64), tracks)
        clip = last(session.animate_steps(motion, flow=flow, steps=1)).clip
        made[depth, "clip"] = clip.frames
        made[depth, "preview"] = session.warp_preview(flow, motion)
    assert np.array_equal(session.warp_preview(flow), made[None, "preview"])  # no depth, no order
    for depth, how in made:
        for other in {None, -1, 1} - {depth}:
            assert not np.array_equal(made[depth, how], made[other, how]), (depth, other, how)


def test_settings_answer_to_older_names_and_do_without_those_that_are_gone():
    own, older = tiny.models().settings, {"control_scale": 0.2, "face_scale": 0.5, "anchor": 0}
    settings = ClipSettings.of(own, True, older)
    assert (settings.trajectory_scale, settings.landmark_scale) == (0.2, 0.5)
    with pytest.warns(UserWarning, match="landmark_anchor is no longer a setting"):
        assert ClipSettings.of(own, True, {"landmark_anchor": 0.5}) == ClipSettings.of(own, True)
    kept = {"control_scale": 0.3, "detail": 1.0, "anchor_sigma": 1.0, "trajectory_anchor": 1.0}
    assert type(own).from_dict(kept) == type(own)(trajectory_scale=0.3)
