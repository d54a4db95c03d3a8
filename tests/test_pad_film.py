"""Tracks of a film on the pad."""

import numpy as np
from pad_hands import drag, open_pads, status

from mofa_nb.media.video import write_clip
from mofa_nb.show.drawing import TRACK_COLOURS, draw_followed


def film(path):
    """Eight frames of a textured picture that moves 3 pixels to the right in each."""
    photo = np.kron(
        np.random.default_rng(0).integers(0, 256, (16, 40, 3), np.uint8), np.ones((8, 8, 1))
    )
    frames = np.stack([photo[:96, 60 - 3 * k : 204 - 3 * k] for k in range(8)]).astype(np.uint8)
    write_clip(path, frames, 8)
    return frames


def test_a_films_tracks_come_onto_the_picture_and_are_seen_over_the_film(tmp_path):
    film(tmp_path / "film.mp4")
    with open_pads(tmp_path) as make:
        pad = make()
        pad.header.film.value = "Film: 24 corners"
        pad.open(tmp_path / "film.mp4")
        assert pad.wait(30)
        assert 5 < len(pad.motion.tracks) <= 24 and pad.motion.size == (400, 300)
        shifts = [t.points[-1][0] - t.points[0][0] for t in pad.motion.tracks]
        assert np.median(shifts) == np.clip(np.median(shifts), 50, 65)  # 21 of 144 pixels
        assert "The film" in pad.screen.caption.value
        drag(pad, (50, 60), (150, 100))
        assert pad.wait(10) and "Warped preview" in pad.screen.caption.value


def test_a_film_with_a_cut_is_refused_and_what_was_drawn_stays(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 12, 18, 3), np.uint8)
    write_clip(tmp_path / "cut.mp4", noise.repeat(4, 0).repeat(8, 1).repeat(8, 2), 8)
    with open_pads(tmp_path) as make:
        pad = make()
        drag(pad, (50, 60), (150, 100))
        before = pad.motion
        pad.open(tmp_path / "cut.mp4")
        assert pad.wait(30) and "cut at frame 4" in status(pad) and pad.motion is before


def test_a_followed_film_shows_how_far_each_track_has_come(tmp_path):
    from mofa_nb.motion.motion import Motion

    frames = np.zeros((5, 48, 96, 3), np.uint8)
    drawn = draw_followed(frames, Motion((96, 48), [[(10, 24), (90, 24)]]))
    assert (drawn[0, 24, 60:] == 0).all() and (drawn[4, 24, 90] == TRACK_COLOURS[0]).all()
    assert (drawn[4, 24, 50] > 100).any() and (frames == 0).all()
