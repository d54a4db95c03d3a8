"""The notebooks' small experiments measure what they say they measure."""

import numpy as np
import pytest
import tiny
import torch

from mofa_nb.adapter.unet import Residuals, residual_counts
from mofa_nb.checks import InputError
from mofa_nb.clips.scenes import scene
from mofa_nb.flow.dense import bend_flow, nearest_flow, thin_plate_flow
from mofa_nb.flow.sparse import Hints, hints_from_flow
from mofa_nb.motion.motion import Motion
from mofa_nb.pipeline.session import Session
from mofa_nb.study import control, hints, training
from mofa_nb.study.hints import drag_sheet


def halves(height=4, width=6, speed=2.0):
    """A flow whose left half rests while the right half moves right."""
    flow = torch.zeros(1, 2, height, width)
    flow[:, 0, :, width // 2 :] = speed
    return flow


def at(flow, *points):
    return hints_from_flow(flow, torch.tensor(points))


def test_every_pixel_takes_the_vector_of_its_nearest_hint():
    flow = halves()
    assert torch.equal(nearest_flow(at(flow, (1, 1), (4, 1))), flow)
    everywhere = nearest_flow(at(flow, (4, 1)))
    assert (everywhere[:, 0] == 2).all() and (everywhere[:, 1] == 0).all()


def test_a_thin_plate_through_four_hints_continues_a_slanted_motion():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    flow = torch.stack([0.5 * x - y, 2 + 0.25 * y])[None]
    found = thin_plate_flow(at(flow, (0, 0), (6, 0), (0, 4), (6, 4)))
    torch.testing.assert_close(found, flow, atol=1e-4, rtol=0)


@pytest.mark.parametrize("points", [[(1, 1)], [(0, 0), (2, 2)], [(0, 0), (1, 1), (3, 3)]])
def test_a_thin_plate_without_a_shape_falls_back_on_the_nearest_hint(points):
    known = at(halves(), *points)
    assert torch.equal(thin_plate_flow(known), nearest_flow(known))


def test_a_bent_flow_takes_places_where_they_are_asked_and_is_its_own_elsewhere():
    flow = torch.ones(2, 2, 40, 50)
    places = torch.tensor([(20.0, 20.0), (26.5, 20.0), (20.0, 20.0)])  # two may coincide
    moved = torch.tensor([(4.0, 0.0), (1.0, 1.0), (4.0, 0.0)]).repeat(2, 1, 1)
    made = bend_flow(flow, places, moved, 12)
    asked = torch.tensor([4.0, 0.0]).expand(2, 2)
    torch.testing.assert_close(made[..., 20, 20], asked, atol=0.02, rtol=0)
    torch.testing.assert_close(made[..., 20, 26:28].mean(-1), torch.ones(2, 2), atol=0.3, rtol=0)
    y, x = torch.meshgrid(torch.arange(40), torch.arange(50), indexing="ij")
    outside = torch.hypot(x - places[:, 0].mean(), y - 20) >= 12
    assert (made[..., outside] == 1).all()


@pytest.mark.parametrize("fill", [nearest_flow, thin_plate_flow])
def test_nothing_can_be_filled_in_from_no_hint(fill):
    with pytest.raises(InputError, match="no hint"):
        fill(Hints(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4)))


def test_one_vector_in_each_half_explains_all_the_energy_of_two_halves():
    flow = halves()[0]
    assert hints.explained_energy(flow, torch.tensor([(1, 1), (4, 1)])) == 1
    assert hints.explained_energy(flow, torch.tensor([(4, 1)])) == 0  # right half won, left lost
    assert hints.explained_energy(flow, torch.tensor([(1, 1)])) == 0  # the guess of no motion
    assert hints.explained_energy(0 * flow, torch.tensor([(1, 1)])) == 1


def test_sampling_scales_with_the_grid_and_is_the_releases_on_its_own():
    assert (hints.scaled_window(384), hints.scaled_stride(384)) == (15, 80)
    assert (hints.scaled_window(128), hints.scaled_stride(128)) == (5, 27)
    assert all(hints.scaled_window(side) % 2 == 1 for side in range(16, 600))


def test_a_single_hint_moves_in_equal_steps_of_a_cell_without_s2d():
    one = hints.single_hint((3, 2), (8.0, -4.0), (6, 6), steps=4)
    assert one.flow[:, :, 2, 3].tolist() == [[2, -1], [4, -2], [6, -3], [8, -4]]
    assert one.mask.sum() == 4
    known = hints.single_hint((2, 5), (3.0, 1.0), (8, 8))
    flow = control.hints_as_flow(known, (16, 32), cell=4)
    assert flow[0, :, 8:12, 8:12].unique().tolist() == [2, 12]  # dx times 4, dy times 2
    assert flow.count_nonzero() == 2 * 16


def test_a_larger_sample_of_hints_contains_the_smaller_ones():
    flow = scene(3, tiny.photos(), 2, (64, 64)).flow[0, -1:]
    grown = hints.growing_hints(flow, (2, 5, 9), seed=0)
    assert grown.mask.sum((1, 2, 3)).tolist() == [2, 5, 9]
    assert (grown.mask[0] <= grown.mask[1]).all() and (grown.mask[1] <= grown.mask[2]).all()
    two = hints.growing_hints(flow, (2,), seed=0)  # the most telling points come first
    assert torch.equal(two.mask[0], grown.mask[0])


def test_scenes_of_two_frames_are_the_ends_of_the_benchmarks_scenes():
    from mofa_nb.clips.scenes import evaluation_scenes

    short, long = hints.two_frame_scenes(2, 64), evaluation_scenes(2, 5, (64, 64))
    torch.testing.assert_close(short.flow[:, -1], long.flow[:, -1])
    torch.testing.assert_close(short.frames[:, -1], long.frames[:, -1])


def test_errors_are_measured_for_every_method_scene_and_count():
    scenes = scene(3, tiny.photos(), 2, (64, 64))
    told = []
    errors = hints.hint_errors(
        tiny.small_s2d(), scenes, (1, 30), progress=lambda *report: told.append(report)
    )
    assert {name: values.shape for name, values in errors.items()} == dict.fromkeys(
        hints.METHODS, (1, 2)
    )
    still = scenes.flow[0, -1].norm(dim=0).mean().item()
    assert errors["no motion"] == pytest.approx(np.full((1, 2), still))
    assert errors["nearest hint"][0, 1] < errors["nearest hint"][0, 0]
    assert told == [("scenes measured", 1, 1)]


def test_the_spread_of_two_equally_likely_bins_is_half_their_distance():
    s2d = tiny.small_s2d()
    bins, logits = s2d.config.bins, torch.full((1, 2 * s2d.config.bins, 1, 1), -1e4)
    logits[0, [4, 8, bins + 5]] = 0
    spread = hints.flow_spread(s2d, logits)[0, :, 0, 0]
    width = 2 * s2d.config.flow_range / bins
    torch.testing.assert_close(spread, torch.tensor([2 * width, 0.0]), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def models():
    return tiny.models(num_frames=3, guidance=(1.0, 1.0))


@pytest.fixture(scope="module")
def picture():
    return tiny.photos()[0, :, :64, :64].float() / 255


def clip(models, picture, conditioning, **settings):
    how = {"num_frames": 3, "steps": 2, "seed": 1} | settings
    return control.sample_clip(models, picture, conditioning, **how)


def test_there_is_a_name_for_every_residual_and_its_strength_is_a_root_mean_square(models, picture):
    known = control.condition(models, picture, torch.zeros(2, 2, 64, 64))
    residuals = first_residuals(models, picture, known, None)
    names = control.residual_names(models.unet)
    assert len(names) == len(residuals.down) + 1 == len(control.residual_strength(residuals))
    made = Residuals((torch.tensor([3.0, -4.0, 0.0, 0.0]),), torch.full((2,), 2.0))
    assert control.residual_strength(made) == [2.5, 2.0]


def test_each_once_undoes_what_the_unet_multiplies(models, picture):
    known = control.condition(models, picture, torch.full((2, 2, 64, 64), 5.0))
    adapter = models.adapter("trajectory")
    once = control.EachOnce(adapter, models.unet)
    plain, divided = (first_residuals(models, picture, known, each) for each in (adapter, once))
    counts = residual_counts(models.unet.down_blocks)
    for whole, part, count in zip(plain.down, divided.down, counts, strict=True):
        torch.testing.assert_close(part * count, whole)
    assert torch.equal(plain.mid, divided.mid)


def first_residuals(models, picture, known, adapter):
    seen = []
    clip(models, picture, known, steps=1, adapter=adapter, trace=lambda *pair: seen.append(pair))
    return dict(seen)["residuals"]


def test_the_same_seed_makes_the_same_clip_and_control_changes_it(models, picture):
    known = control.condition(models, picture, torch.full((2, 2, 64, 64), 5.0))
    free, steered = clip(models, picture, None), clip(models, picture, known)
    assert torch.equal(free, clip(models, picture, None))
    assert torch.equal(free, clip(models, picture, known, scale=0.0))
    assert not torch.equal(free, steered)
    assert free.shape == (3, 3, 64, 64) and 0 <= free.min() and free.max() <= 1


def test_the_last_clean_prediction_is_the_clip(models, picture):
    steps = []
    made = clip(models, picture, None, watch=steps.append)
    assert [step.index for step in steps] == [1, 2]
    assert torch.equal(control.clean_frames(models, steps[-1]), made)


def test_the_ablation_scores_every_arm_and_rival(models):
    scenes = scene(3, tiny.photos(), 3, (64, 64))
    found = control.ablation(models, scenes, hints=4, steps=1, seed=0)
    assert set(found) == {*control.ARMS, *control.RIVALS}
    assert all(np.isfinite(scores).all() for scores in found.values())
    assert found["still photograph"][0][0] == pytest.approx(1, abs=0.1)


def test_a_sheet_of_drags_has_a_column_for_every_drawing(models):
    session = Session(models)
    session.set_image(tiny.photos()[0].permute(1, 2, 0).numpy(), size=(64, 64))
    one = Motion((64, 64), [[(20, 20), (40, 20)]])
    single = drag_sheet(session, {"track": one}, title="", height=64)
    pair = drag_sheet(session, {"a": one, "b": one}, title="", height=64)
    assert single.shape[1] > pair.shape[1] - 100 and single.shape[0] < pair.shape[0] / 2


def test_a_command_that_fails_says_its_own_sentence(tmp_path):
    ticks = []
    with pytest.raises(InputError, match="nowhere"):
        training.command("mofa_nb.clips", tmp_path / "nowhere", tick=lambda: ticks.append(1))
    assert ticks and training.read_log(tmp_path) == []
    (tmp_path / "log.jsonl").write_text('{"step": 0}\n{"ste')
    assert training.read_log(tmp_path) == [{"step": 0}]
    log = [{"step": 0, "a": 2.0}, {"step": 1}, {"step": 2, "a": 1.0}]
    assert training.series(log, "a") == ([0, 2], [2.0, 1.0])


def test_a_command_that_says_much_is_not_stopped_by_it(tmp_path, monkeypatch):
    loud = "import sys\nfor k in range(4000): print('x' * 60, k, file=sys.stderr)\nsys.exit(3)\n"
    (tmp_path / "loud.py").write_text(loud)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"x 3999$"):
        training.command("loud")
