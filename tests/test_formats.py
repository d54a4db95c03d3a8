"""Tracks of other tools are known by their content, and ours can be written for them."""

import io
import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from mofa_nb.checks import InputError
from mofa_nb.motion.formats import load_motion, motion_from_bytes, read_motion, save_motion
from mofa_nb.motion.motion import Motion

SIZE = (100, 80)
DRAWN = Motion(SIZE, [[(20, 20), (60, 30), (70, 60)], [(50, 50), (50, 120)]], [(5, 6)])


def arc(frames, start=(20, 30)):
    """A point on a quarter of a circle, [frames, 2]."""
    turn = np.linspace(0, np.pi / 2, frames)
    return np.array(start) + 20 * np.stack([np.sin(turn), 1 - np.cos(turn)], axis=-1)


def ati(rows):
    """What ATI's editor writes of [N, 121, 3] = (x, y, visible)."""
    inner, outer = io.BytesIO(), io.BytesIO()
    np.savez_compressed(inner, array=np.float32(rows)[:, :, None] * 8)
    torch.save(inner.getvalue(), outer)
    return outer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def splines(*paths):
    return [[{"x": x, "y": y} for x, y in path.tolist()] for path in paths]


PATHS = np.stack([arc(121), arc(121, (50, 40))])  # N F 2
SHOWN = np.ones((2, 121))
SAME = {
    "ATI": ati(np.concatenate([PATHS, SHOWN[..., None]], -1)),
    "one array as npz": npz(array=np.concatenate([PATHS, SHOWN[..., None]], -1)[:, :, None] * 8),
    "splines": json.dumps(splines(*PATHS)).encode(),
    "splines in single quotes": repr(splines(*PATHS)).encode(),
    "splines from Windows": json.dumps(splines(*PATHS)).encode("utf-16"),
    "pairs": json.dumps(PATHS.tolist()).encode(),
    "Wan-Move": npy(PATHS.swapaxes(0, 1)[None]),
    "Wan-Move without batch": npy(PATHS.swapaxes(0, 1).astype(np.float32)),
    "CoTracker": npz(tracks=PATHS.swapaxes(0, 1)[None], visibility=SHOWN.T[None]),
    "CoTracker, points first": npz(tracks=PATHS, visibility=SHOWN, rgb=np.zeros(3)),
    "TAP-Vid": npz(points=PATHS / SIZE, occluded=SHOWN == 0),
}


@pytest.mark.parametrize("kind", SAME)
def test_every_kind_is_known_by_its_content_and_keeps_places_and_times(kind, tmp_path):
    (tmp_path / "tracks.any").write_bytes(SAME[kind])
    motion = load_motion(tmp_path / "tracks.any", size=SIZE)
    assert_allclose(motion.paths(121), PATHS, atol=0.1)
    assert_allclose(motion.paths(31, native=14), PATHS[:, ::4], atol=0.15)
    assert max(len(track.points) for track in motion.tracks) < 12


@pytest.mark.parametrize("name", ["m.pth", "m.npy", "m.json", "7_tracks.npy"])
def test_what_is_written_for_another_tool_reads_back_as_it_was(name, tmp_path):
    assert save_motion(DRAWN, tmp_path / name) == ()
    again, _ = read_motion(tmp_path / name, SIZE)
    assert_allclose(again.paths(81), DRAWN.paths(81), atol=0.15)
    assert again.pins == DRAWN.pins


def test_files_are_written_as_the_other_tools_expect_them(tmp_path):
    save_motion(DRAWN, tmp_path / "7_tracks.npy")
    tracks, seen = (np.load(tmp_path / f"7_{name}.npy") for name in ("tracks", "visibility"))
    assert (tracks.shape, tracks.dtype) == ((1, 81, 3, 2), np.float32)
    assert (seen.shape, seen.dtype) == ((1, 81, 3), bool)
    save_motion(DRAWN, tmp_path / "m.pth")
    inner = np.load(io.BytesIO(torch.load(tmp_path / "m.pth", weights_only=True)))["array"]
    assert (inner.shape, inner.dtype) == ((3, 121, 1, 3), np.float32)
    assert_allclose(inner[0, 0, 0], [160, 160, 8])


@pytest.mark.parametrize("beside", ["tracks_visibility.npy", "visibility.npy"])
def test_what_lies_beside_wan_moves_tracks_says_where_they_count(beside, tmp_path):
    seen = np.ones((81, 3), bool)
    seen[0, 0] = seen[40:, 1] = seen[20:30, 2] = False
    paths = np.stack([arc(81), arc(81, (50, 40)), arc(81)], axis=1)
    paths[20:30, 2] = np.nan
    np.save(tmp_path / "tracks.npy", paths)
    np.save(tmp_path / beside, seen[None])
    motion, notes = read_motion(tmp_path / "tracks.npy", SIZE)
    found = motion.paths(81).numpy()
    assert_allclose(found[0, :40], paths[:40, 1], atol=0.1)
    assert_allclose(found[0, 40:], np.tile(paths[39, 1], (41, 1)), atol=0.1)
    assert_allclose(found[1], arc(81), atol=0.6)
    assert len(notes) == 4
    for words in ("3 tracks 1 are hidden or outside", "1 end hidden", "1 are hidden in between",
                  "81 frames at 16 per second, 5.06 seconds"):  # fmt: skip
        assert words in " ".join(notes)


def test_an_unfinished_track_is_cut_a_still_one_is_a_pin_and_a_far_one_is_stopped():
    rows = np.concatenate([np.tile(PATHS[:1], (3, 1, 1)), np.ones((3, 121, 1))], -1)
    rows[0, 61:] = 0
    rows[1, :, :2] = 33, 44
    rows[2, -1, 1] = -307
    motion, notes = motion_from_bytes(ati(rows), "m.pth", SIZE)
    assert motion.pins == ((33, 44),)
    assert motion.tracks[0].times[-1] == pytest.approx(0.5)
    assert motion.tracks[1].points[-1][1] == -80
    assert any("1 run farther outside" in note for note in notes)


def test_a_shorter_spline_ends_sooner_and_a_single_one_spans_the_clip():
    both = json.dumps(splines(arc(9), arc(5))).encode()
    motion, _ = motion_from_bytes(both, "m", SIZE)
    assert motion.tracks[1].times[-1] == 0.5
    one = b"[{'x': 20, 'y': 20}, {'x': 40, 'y': 20}]"
    assert motion_from_bytes(one, "m", SIZE)[0].tracks[0].points == ((20, 20), (40, 20))


def broken(row=0, frame=0, value=np.nan):
    paths = PATHS.swapaxes(0, 1).copy()
    paths[frame, row] = value
    return npy(paths)


REFUSED = {
    "no track": (npy(np.zeros((81, 0, 2))), "none of 0 tracks begins"),
    "an empty list": (b"[[]]", "tracks are lists of"),
    "one frame": (npy(np.ones((1, 3, 2))), "one frame, and nothing moves"),
    "one point": (b'[{"x": 3, "y": 4}]', "one frame, and nothing moves"),
    "NaN": (broken(1, 17), "track 2 has a position in frame 17 that is not a finite number"),
    "NaN in JSON": (b'[{"x": NaN, "y": 4}]', "x of point 1 of track 1 must be finite"),
    "nothing inside": (npy(PATHS.swapaxes(0, 1) + 500), "none of 2 tracks begins visibly"),
    "two batches": (npy(np.ones((2, 9, 3, 2))), "numbers [frames, points, 2]"),
    "another shape": (npy(np.ones((4, 5))), "numbers [frames, points, 2]"),
    "an npz of another kind": (npz(flow=np.ones((2, 2))), "must hold `tracks` or `points`"),
    "visibility of another size": (npz(tracks=PATHS, visibility=SHOWN[:1]), "visibility must say"),
    "a cut off npz": (SAME["CoTracker"][:300], "export it again"),
    "a cut off npy": (SAME["Wan-Move"][:300], "export it again"),
    "broken JSON": (b"[[{", "is not valid JSON"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_tracks_that_cannot_be_used_get_one_sentence(what):
    data, sentence = REFUSED[what]
    with pytest.raises(InputError) as caught:
        motion_from_bytes(data, "m.npy", SIZE)
    assert sentence in str(caught.value) and str(caught.value).startswith("m.npy")


def test_a_torch_file_with_anything_but_bytes_is_not_opened():
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer)
    with pytest.raises(InputError, match="holds an npz as bytes"):
        motion_from_bytes(buffer.getvalue(), "m.pth", SIZE)


def test_the_pictures_size_is_asked_for_where_the_file_does_not_name_it(tmp_path):
    (tmp_path / "m.npy").write_bytes(SAME["Wan-Move"])
    with pytest.raises(InputError, match=r"m.npy: .* do not name the picture's size"):
        load_motion(tmp_path / "m.npy")


def test_what_a_track_file_cannot_hold_is_said_or_refused(tmp_path):
    brushed = DRAWN.with_brush(np.full((80, 100), 255, np.uint8))
    assert save_motion(brushed, tmp_path / "m.npy") == (
        "m.npy holds tracks only: the brush was left out",
    )
    with pytest.raises(InputError, match=r"saved as .json, .pth or .npy, but m.txt came"):
        save_motion(DRAWN, tmp_path / "m.txt")
    with pytest.raises(InputError, match="no track or pin to write"):
        save_motion(Motion(SIZE), tmp_path / "m.pth")


def test_a_single_track_of_ati_is_one():
    one = np.concatenate([PATHS, SHOWN[..., None]], -1)[:1]
    assert_allclose(motion_from_bytes(ati(one), "m", SIZE)[0].paths(121), PATHS[:1], atol=0.1)
