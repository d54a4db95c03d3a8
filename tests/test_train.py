"""Training: its loop, and the clips it is given; its arithmetic is in parity_chain."""

import dataclasses
import itertools
import json
import os
import signal

import pytest
import tiny
import torch
from tiny import seeded
from torch import nn
from train_hands import line, noisy, schedule

from mofa_nb.checks import InputError
from mofa_nb.train import objective
from mofa_nb.train.loop import Schedule, Stopped, Trainer
from mofa_nb.train.sources import Pool, Source, random_hints, restored, stored, varied_photos
from mofa_nb.train.stages import photo_crops


def test_every_sample_draws_from_its_own_part_of_the_range():
    draws = objective.spread(torch.rand(8, generator=seeded()))
    assert (draws * 8).floor().tolist() == list(range(8))
    assert objective.spread(torch.tensor([0.5, 0.0])).tolist() == [0.25, 0.5]


# The loop


def line_loss(net):
    """To learn y = 2 x; the loss is the same in every step."""

    def loss_of(step):
        x = torch.linspace(-1, 1, 8).view(8, 1)
        error = (net(x.to(net.weight.dtype)).float() - 2 * x).square().mean()
        return error, {"double": 2 * error}

    return loss_of


def trained(folder, plan, net=None, loss=line_loss, resume=False, **how):
    """A trainer that has trained a line, and its log."""
    net = net or line()
    trainer = Trainer({"net": net}, folder, plan)
    if resume:
        trainer.resume()
    return trainer, trainer.fit(loss(net), **how)


def test_the_loop_learns_and_writes_means_to_its_log(tmp_path):
    _, log = trained(tmp_path, schedule(60), every=20)
    assert [entry["step"] for entry in log] == [20, 40, 60]
    assert log[-1]["loss"] < 0.1 * log[0]["loss"]
    assert log[0]["double"] == pytest.approx(2 * log[0]["loss"], abs=2e-5)
    written = [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert written == log


def stopped_after(steps, loss_of, number=signal.SIGTERM):
    """The same loss, but a signal comes in one step."""

    def loss(turn):
        if turn == steps - 1:
            os.kill(os.getpid(), number)
        return loss_of(turn)

    return loss


@pytest.mark.parametrize(
    ("dtype", "number"), [(torch.float32, signal.SIGTERM), (torch.bfloat16, signal.SIGINT)]
)
def test_a_stopped_run_resumes_to_the_numbers_of_the_uninterrupted(tmp_path, dtype, number):
    plan, nets = schedule(9, decay="cosine", warmup=3), [line(s, dtype) for s in (0, 0, 7)]
    straight = Trainer({"net": nets[0]}, tmp_path / "a", plan)
    straight.fit(noisy(nets[0]), every=4)
    torch.randn(3)  # what happens outside does not matter
    halves = Trainer({"net": nets[1]}, tmp_path / "b", plan)
    with pytest.raises(Stopped, match="after step 5: the same command with --resume") as stop:
        halves.fit(stopped_after(5, noisy(nets[1]), number), every=4)
    assert stop.value.code == 128 + number and signal.getsignal(number) != halves
    again = Trainer({"net": nets[2]}, tmp_path / "b", plan)
    again.resume()
    assert again.step == 5 and again.seconds > 0
    again.fit(noisy(nets[2]), every=4)
    assert torch.equal(nets[2].weight, nets[0].weight)
    averages = (run.averages.shadow_params for run in (again, straight))
    assert all(torch.equal(*pair) for pair in zip(*averages, strict=True))
    logs = [[e | {"seconds": 0} for e in run.log] for run in (straight, again)]
    assert logs[0] == logs[1]
    written = (tmp_path / "b/log.jsonl").read_text().splitlines()
    assert [json.loads(text) for text in written] == again.log


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path):
    ends = [
        trained(tmp_path, schedule(3, seed=seed), loss=noisy)[0].modules["net"].weight.item()
        for seed in (1, 1, 2)
    ]
    assert ends[0] == ends[1] != ends[2]


def test_several_batches_in_a_step_count_as_one_large_batch(tmp_path):
    def halves(net, parts):
        x = torch.linspace(-1, 1, 8).view(8, 1)
        return lambda turn: ((net(x[turn % parts :: parts]) - 2).square().mean(), {})

    nets = line(), line()
    for net, parts in zip(nets, (1, 2), strict=True):
        plan = schedule(4, accumulate=parts)
        log = Trainer({"net": net}, tmp_path, plan).fit(halves(net, parts), every=4)
        assert [entry["step"] for entry in log] == [4]
    torch.testing.assert_close(nets[0].weight, nets[1].weight)


def test_minutes_become_steps_which_give_the_same_numbers_on_their_own(tmp_path):
    said, plan = [], Schedule(minutes=5e-3, lr=0.1, warmup=9)
    timed, _ = trained(tmp_path, plan, loss=noisy, report=said.append)
    assert timed.step == timed.total > 0 and f"--steps {timed.total} repeats" in said[0]
    plain, _ = trained(tmp_path, Schedule(steps=timed.total, lr=0.1, warmup=9), loss=noisy)
    assert torch.equal(timed.modules["net"].weight, plain.modules["net"].weight)
    assert trained(tmp_path, Schedule(minutes=1e6, steps=7, warmup=3))[0].step == 7  # the fewer


def test_the_rate_rises_falls_and_ends_near_nothing(tmp_path):
    _, log = trained(tmp_path, Schedule(steps=20, lr=1.0, warmup=5), every=1)
    rates = [entry["lr"] for entry in log]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a > b for a, b in itertools.pairwise(rates[4:])) and rates[-1] < 0.02


def test_a_resumed_run_may_get_more_steps_or_a_fresh_clock(tmp_path):
    trained(tmp_path, schedule(2), net := line())
    trainer = Trainer({"net": net}, tmp_path, Schedule(minutes=1e-3, warmup=3))
    trainer.resume(fresh_clock=True)
    assert (trainer.step, trainer.begin, trainer.seconds) == (2, 2, 0)
    assert trainer.fit(line_loss(net), every=1)[0]["lr"] == pytest.approx(1e-4)
    trained(tmp_path / "more", schedule(4))
    assert trained(tmp_path / "more", schedule(6), line(1), resume=True)[0].step == 6


def test_the_last_checkpoints_are_kept_and_those_of_an_older_run_make_way(tmp_path):
    for steps, every, resume, kept in (
        (10, 3, False, [9, 10]), (4, 2, False, [2, 4]), (5, 5, False, [5]), (6, 9, True, [5, 6]),
    ):  # fmt: skip
        trained(tmp_path, schedule(steps, save_every=every, keep=2), resume=resume)
        assert sorted(int(path.name[5:]) for path in tmp_path.glob("step-*")) == kept


def test_averaged_weights_lag_behind_and_are_what_is_kept(tmp_path):
    net = line()
    before = net.weight.item()
    trainer, _ = trained(tmp_path, schedule(20), net)
    last = net.weight.item()
    trainer.use_averages()
    assert min(before, last) < net.weight.item() < max(before, last)


def test_half_precision_learns_by_full_precision_copies(tmp_path):
    """Steps far below the weight's own resolution add up."""
    net = line(dtype=torch.bfloat16)
    nn.init.constant_(net.weight, 64.0)
    nn.init.zeros_(net.bias)
    plan = schedule(40, lr=0.02, weight_decay=0.0, average=0.0)
    trainer, _ = trained(tmp_path, plan, net)
    assert net.weight.dtype == torch.bfloat16
    assert 63 < trainer.masters["net.weight"].item() < 63.5 and net.weight.item() < 64
    trainer.use_averages()
    assert net.weight.dtype == torch.float32
    torch.testing.assert_close(net.weight.data, trainer.masters["net.weight"].data)


def test_frozen_names_stay_as_they_are(tmp_path):
    net = line().requires_grad_(False)
    before = net.bias.item()
    trainer = Trainer({"net": net}, tmp_path, schedule(5), frozen=("net.bias",))
    trainer.fit(line_loss(net))
    trainer.use_averages()
    assert net.bias.item() == before and net.bias.grad is None
    with pytest.raises(InputError, match="nothing is left to train"):
        Trainer({"net": net}, tmp_path, schedule(1), frozen=("net",))


# Clips


def test_stored_clips_come_back_but_for_rounding(scenes):
    back = restored(stored(scenes))
    torch.testing.assert_close(back.frames, scenes.frames, rtol=0, atol=0.5001 / 255)
    torch.testing.assert_close(back.flow, scenes.flow, rtol=1e-3, atol=1e-3)
    assert torch.equal(back.visible, scenes.visible) and torch.equal(back.layers, scenes.layers)


@pytest.fixture
def numbered():
    """Makes 'clips' that carry running numbers."""
    made = []

    def make(count):
        start = sum(made)
        made.append(count)
        return {"number": torch.arange(start, start + count)}

    return make, made


def test_a_pool_makes_its_clips_in_chunks_and_renews_one_every_few_turns(numbered):
    make, made = numbered
    pool = Pool(make, capacity=12, chunk=4, every=100)
    assert len(set(pool.draw(12, 0)["number"].tolist())) == 12
    assert made == [4, 4, 4] and len(pool) == 12
    assert len(pool.draw(50, 1)["number"]) == 12
    for every, kept, chunks in ((3, range(8, 16), 4), (0, range(8), 2)):  # 0: for good
        made.clear()
        pool = Pool(make, capacity=8, chunk=4, every=every)
        for turn in range(7):
            pool.draw(2, turn)
        assert made == [4] * chunks and sorted(pool.stored["number"].tolist()) == list(kept)


def test_a_pool_that_begins_late_holds_what_the_others_hold_then():
    pools = [
        Pool(lambda n: {"number": torch.randint(10**6, (n,))}, 8, 2, every=3, seed=seed)
        for seed in ((5,), (5,), (6,))
    ]
    for turn in range(11):
        torch.manual_seed(turn)
        pools[0].draw(2, turn)
    late, other = (pool.draw(2, 10) and pool.stored["number"] for pool in pools[1:])
    assert torch.equal(late, pools[0].stored["number"]) and not torch.equal(late, other)
    torch.manual_seed(0)
    pools[0].draw(2, 30)  # making clips leaves no trace in other random numbers
    after = torch.randn(())
    torch.manual_seed(0)
    assert pools[0].draw(2, 30) and torch.randn(()) == after


def test_hints_stand_only_where_the_flow_is_known_a_few_or_many(scenes):
    half = torch.zeros_like(scenes.visible)
    half[..., :20] = True
    batch = dataclasses.replace(scenes, visible=half & scenes.visible)
    for seed in range(5):
        torch.manual_seed(seed)
        hints = random_hints(batch, seeded(seed))
        assert hints.shape == (4, 1, 64, 64) and hints.flatten(1).any(1).all()
        assert not (hints & ~batch.visible[:, -1]).any()
    numbers = [int(random_hints(scenes, seeded(s))[0].sum()) for s in range(30)]
    assert min(numbers) < 8 < 20 < max(numbers) < 70


def test_nearly_every_moving_layer_has_a_hint(scenes):
    torch.manual_seed(0)
    hits = []
    for seed in range(10):
        hints = random_hints(scenes, seeded(seed))[:, 0]
        for layer in range(int(scenes.layers.max()) + 1):
            inside = (scenes.layers == layer) & scenes.visible[:, -1, 0]
            hits += (hints & inside).flatten(1).any(1)[inside.flatten(1).any(1)].tolist()
    assert len(hits) >= 80 and sum(hits) > 0.85 * len(hits)


def test_varied_photographs_are_other_pictures_of_the_same_range():
    flat = torch.stack([torch.full((3, 112, 112), v, dtype=torch.uint8) for v in (0, 255)])
    made = varied_photos(flat, 64, seeded())
    assert made.shape == (64, 3, 112, 112) and made.dtype == torch.uint8
    pixels = made.flatten(1)
    assert torch.equal(pixels.min(1).values, pixels.max(1).values)  # blended as a whole
    assert {0, 255} < set(pixels[:, 0].tolist())  # some as they were, others between two
    assert torch.equal(made, varied_photos(flat, 64, seeded()))
    ramp = torch.arange(112).expand(1, 3, 112, 112).contiguous().byte()
    ways = {
        tuple(tile[0, ::40, ::40].flatten().tolist()) for tile in varied_photos(ramp, 64, seeded())
    }
    assert len(ways) > 8  # turned and blended with itself in other ways
    board = (255 * (torch.arange(65)[:, None] + torch.arange(65) & 1)).byte().expand(1, 3, -1, -1)
    soft = (varied_photos(board, 64, seeded()) != board).flatten(1).any(1)  # turned it is the same
    assert 0.25 < soft.float().mean() < 0.55


def test_sources_draw_scenes_or_faces_as_asked_and_crops_stay_in_range():
    bank = tiny.bank()
    for faces in (0.0, 1.0):
        source = Source(bank, seeded(), clips_share=0.5, faces_share=faces)
        batch, landmarks = source.draw(1, 3, (64, 64))
        assert (landmarks is not None) == bool(faces)
        assert batch.frames.shape == (1, 3, 3, 64, 64) and batch.flow.shape == (1, 2, 2, 64, 64)
    torch.manual_seed(0)
    crops = photo_crops(tiny.photos(), 5, (32, 48))
    assert crops.shape == (5, 3, 32, 48) and 0 <= crops.min() < crops.max() <= 1
