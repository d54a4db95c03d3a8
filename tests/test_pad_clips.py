"""Clips that the pad makes, keeps and saves, films it follows, and the threads of both."""

import asyncio
import threading
import time
from functools import partial

import numpy as np
import pytest
from pad_hands import PHOTO, drag, press_key, status
from toy_session import ToySession

from mofa_nb.checks import InputError
from mofa_nb.media.video import write_clip
from mofa_nb.motion.motion import Motion
from mofa_nb.show.drawing import TRACK_COLOURS, draw_followed


def test_a_clip_joins_the_gallery_with_its_settings_and_its_tracks_can_be_loaded_again(make_pad):
    pad = make_pad()
    pad.animate()
    assert "Draw a track" in status(pad) and pad.clips == []
    drag(pad, (100, 100), (200, 100))
    pad.settings.seed.value, pad.settings.steps.value = 7, 3
    pad.settings.frames.value = 9
    pad.animate()
    assert pad.wait(10)
    clip = pad.clips[0]
    assert clip.settings["seed"] == 7 and clip.settings["steps"] == 3 and len(clip.frames) == 9
    assert len(pad.gallery.cards.children) == 1
    assert not pad.settings.run.disabled and pad.settings.stop.disabled
    pad.state.clear()
    pad.edit(lambda state: state.load(clip.motion))
    assert len(pad.motion.tracks) == 1


def test_animating_at_once_waits_until_the_model_has_seen_the_picture(make_pad, monkeypatch):
    session = ToySession()
    look = session.set_image
    monkeypatch.setattr(session, "set_image", lambda *a, **k: (time.sleep(0.3), look(*a, **k))[1])
    pad = make_pad(session=session, motion=Motion((400, 300)).with_pin(50, 50))
    pad.animate()
    assert pad.wait(10) and len(pad.clips) == 1
    assert session.calls.count("set_image") == 1


def test_a_second_press_of_animate_is_refused_and_drawing_goes_on_meanwhile(make_pad):
    pad = make_pad(session=ToySession(pause=0.1))
    drag(pad, (50, 60), (150, 100))
    before = pad.motion
    pad.animate()
    pad.animate()
    assert "being made already" in status(pad)
    assert pad.header.path.disabled and pad.settings.side.disabled
    with pytest.raises(InputError, match="stop it before you change the picture"):
        pad.open(PHOTO)
    drag(pad, (200, 60), (250, 100))
    assert len(pad.motion.tracks) == 2
    assert pad.wait(10)
    assert len(pad.clips) == 1 and pad.clips[0].motion == before
    assert not pad.header.path.disabled
    pad.animate()
    pad.add(pad.clips[0])  # from elsewhere, while one is made: that can still be stopped
    assert pad.header.path.disabled and not pad.settings.stop.disabled


def test_stop_ends_within_a_step_and_a_failing_sampler_is_named_and_the_pad_lives_on(make_pad):
    session = ToySession(pause=0.05)
    pad = make_pad(session=session)
    drag(pad, (50, 60), (150, 100))
    pad.animate()
    while session.calls.count("step") < 2:
        assert pad.busy, status(pad)
        time.sleep(0.01)
    done = session.calls.count("step")
    pad.stop()
    assert pad.wait(10)
    assert session.calls.count("step") <= done + 1
    assert pad.clips == [] and "Stopped" in status(pad)
    session.fail_at, session.pause = 2, 0
    pad.animate()
    assert pad.wait(10)
    assert "ran out of luck" in status(pad) and not pad.settings.run.disabled
    session.fail_at = None
    pad.animate()
    assert pad.wait(10) and len(pad.clips) == 1


def test_a_failing_preview_is_named_and_the_next_one_works(make_pad, monkeypatch):
    session = ToySession()
    for broken, what, name in (
        ("set_image", lambda *a, **k: [][1], "IndexError"),
        ("warp_preview", lambda *a: 1 / 0, "ZeroDivisionError"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(session, broken, what)
            pad = make_pad(session=session)
            drag(pad, (50, 60), (150, 100))
            assert pad.wait(10)
        assert name in status(pad)
    drag(pad, (200, 60), (250, 100))
    assert pad.wait(10) and "Error" not in status(pad)


def test_saving_writes_all_files_and_the_motion_comes_back(make_pad):
    pad = make_pad(motion=Motion((400, 300)).with_track([(100, 100), (200, 100)]))
    drawn = pad.save()
    assert Motion.load(drawn / "motion.json") == pad.motion and str(drawn) in status(pad)
    pad.animate()
    assert pad.wait(10)
    folder = pad.save(pad.clips[0])
    names = {path.name for path in folder.iterdir()}
    assert {"clip.mp4", "clip.webp", "flow.png", "flow.npy", "motion.json", "card.json"} <= names
    assert folder != drawn


def test_closing_while_sampling_ends_the_threads(make_pad):
    before = {thread.ident for thread in threading.enumerate()}
    pad = make_pad(session=ToySession(pause=0.05))
    drag(pad, (50, 60), (150, 100))
    pad.animate()
    pad.close()
    assert pad.wait(10)
    end = time.monotonic() + 5
    while {t.ident for t in threading.enumerate()} - before and time.monotonic() < end:
        time.sleep(0.02)
    assert not {thread.ident for thread in threading.enumerate()} - before


def test_events_of_two_threads_take_turns(make_pad, monkeypatch):
    pad, inside, together = make_pad(), [], []

    def draw(*args, **kwargs) -> None:
        inside.append(1)
        together.append(len(inside))
        time.sleep(0.05)
        inside.pop()

    for name in ("draw", "open"):
        monkeypatch.setattr(pad.screen, name, draw)
    acts = [partial(press_key, pad, "["), partial(press_key, pad, "]")]
    acts += [partial(pad.edit, lambda state: None), partial(pad.open, PHOTO)]
    hands = [threading.Thread(target=act) for act in acts]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    assert together == [1] * 5


def test_what_goes_wrong_beside_the_canvas_is_told(make_pad, monkeypatch):
    pad = make_pad(motion=Motion((400, 300)).with_pin(50, 50))
    pad.animate()
    assert pad.wait(10)
    pad.add(pad.clips[0])
    assert len(pad.clips) == len(pad.gallery.cards.children) == 2
    monkeypatch.setattr("mofa_nb.pad.widgets.players", lambda *a: 1 / 0)
    compare = pad.gallery.cards.children[0].children[-1].children[0]
    compare.value = True
    assert "ZeroDivisionError" in status(pad)
    pad.face.length = "many"
    pad.face.whole.click()
    assert "TraitError" in status(pad)


def test_a_pad_built_outside_jupyter_and_run_in_it_shows_its_clip_in_the_main_thread(make_pad):
    pad, threads = make_pad(motion=Motion((400, 300)).with_pin(50, 50)), []
    pad.gallery.add = lambda *clip: threads.append(threading.current_thread())

    async def run() -> None:
        pad.animate()
        end = time.monotonic() + 10
        while not threads and time.monotonic() < end:
            await asyncio.sleep(0.01)

    asyncio.run(run())
    assert threads == [threading.main_thread()]


def test_a_films_tracks_come_onto_the_picture_and_are_seen_over_the_film(make_pad, rng, tmp_path):
    photo = rng.integers(0, 256, (16, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    moving = np.stack([photo[:96, 60 - 3 * k : 204 - 3 * k] for k in range(8)])
    write_clip(tmp_path / "film.mp4", moving, 8)
    pad = make_pad()
    pad.header.film.value = "Film: 24 corners"
    pad.open(tmp_path / "film.mp4")
    assert pad.wait(30)
    assert 5 < len(pad.motion.tracks) <= 24 and pad.motion.size == (400, 300)
    shifts = [t.points[-1][0] - t.points[0][0] for t in pad.motion.tracks]
    assert 50 <= np.median(shifts) <= 65  # 21 of 144 pixels
    assert "The film" in pad.screen.caption.value
    drag(pad, (50, 60), (150, 100))
    assert pad.wait(10) and "Warped preview" in pad.screen.caption.value


def test_a_film_with_a_cut_is_refused_and_what_was_drawn_stays(make_pad, rng, tmp_path):
    noise = rng.integers(0, 256, (2, 12, 18, 3), np.uint8)
    write_clip(tmp_path / "cut.mp4", noise.repeat(4, 0).repeat(8, 1).repeat(8, 2), 8)
    pad = make_pad()
    drag(pad, (50, 60), (150, 100))
    before = pad.motion
    pad.open(tmp_path / "cut.mp4")
    assert pad.wait(30) and "cut at frame 4" in status(pad) and pad.motion is before


def test_a_followed_film_shows_how_far_each_track_has_come():
    frames = np.zeros((5, 48, 96, 3), np.uint8)
    drawn = draw_followed(frames, Motion((96, 48), [[(10, 24), (90, 24)]]))
    assert (drawn[0, 24, 60:] == 0).all() and (drawn[4, 24, 90] == TRACK_COLOURS[0]).all()
    assert (drawn[4, 24, 50] > 100).any() and (frames == 0).all()
