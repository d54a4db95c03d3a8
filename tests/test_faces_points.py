"""Landmarks in pictures and clips, files of landmarks, and what is refused."""

import io
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mofa_nb.checks import InputError
from mofa_nb.faces import detect, track
from mofa_nb.faces.detect import detect_faces, find_face
from mofa_nb.faces.draw import landmarks_over
from mofa_nb.faces.mesh import canonical_geometry
from mofa_nb.faces.points import (
    bridge_gaps,
    check_landmarks,
    eye_distance,
    read_landmarks,
    resampled,
    smooth,
    to_68,
)
from mofa_nb.faces.track import check_start, track_face, track_video
from mofa_nb.media.images import read_image
from mofa_nb.media.video import write_clip
from mofa_nb.paths import data_file


def shown(name):
    """A picture that comes with the package."""
    return read_image(data_file(f"{name}.jpg"))


def drawn_face():
    """68 points on a circle within a 100x100 picture."""
    angle = np.arange(68) / 68 * 2 * np.pi
    return 50 + 30 * np.stack([np.cos(angle), np.sin(angle)], 1)


@pytest.fixture(scope="module")
def hopper():
    return shown("grace_hopper")


@pytest.fixture(scope="module")
def two(portrait, hopper):
    """Two faces; the admiral's, on the right, is larger."""
    return np.hstack([portrait, hopper[80:380, 60:460]])


@pytest.fixture(scope="module")
def panned(portrait):
    """Six frames in which the picture moves to the left by 2 pixels a frame."""
    return np.stack([portrait[:, 2 * t : 2 * t + 280] for t in range(6)])


@pytest.mark.parametrize("name", ["astronaut", "grace_hopper"])
def test_shipped_portraits_are_found_with_confidence_by_several_threads_at_once(name):
    with ThreadPoolExecutor(2) as pool:
        face, *others = pool.map(find_face, [shown(name)] * 4)
    assert all(np.array_equal(face.points, other.points) for other in others)
    assert face.score > 0.95 and face.notes == ()
    points = to_68(face.points)
    assert points[39, 0] < points[27, 0] < points[42, 0]  # nose bridge between the eyes
    assert points[8, 1] > points[57, 1] > points[33, 1] > points[27, 1]  # chin, lip, nose, bridge


def test_a_picture_without_a_usable_face_is_refused(portrait, two):
    cut = np.ascontiguousarray(portrait[: int(find_face(portrait).box[1]) + 80])
    for picture, choose, sentence in (
        (shown("chelsea"), 0, "no face was found in the picture: .* seen from the front"),
        (shown("coffee"), 0, "no face was found"),
        (shown("rocket"), 0, "no face was found"),
        (cut, 0, "cut by the picture's border"),
        (two, 2, "shows 2, counted from 0, the largest: choose 1 at most"),
        (portrait, "left", "choose must be a"),
    ):
        with pytest.raises(InputError, match=sentence):
            find_face(picture, choose)


def test_a_face_seen_from_the_side_is_refused(portrait):
    points = find_face(portrait).points
    side = Rotation.from_euler("y", 65, degrees=True).apply(points - points.mean(0))
    side += (150, 150, 0)
    with pytest.raises(InputError, match="seen from the side"):
        detect.check_portrait(detect.Face(side, 1.0, (300, 300)))


def test_a_shifted_or_smaller_picture_has_shifted_or_scaled_landmarks(portrait):
    there = find_face(portrait).points
    here = find_face(np.ascontiguousarray(portrait[16:, 24:])).points
    gap = there[:, :2] - here[:, :2] - (24, 16)
    assert np.abs(gap).mean() < 0.02 * eye_distance(there)
    half = portrait.reshape(150, 2, 150, 2, 3).mean((1, 3)).astype(np.uint8)
    here = find_face(half).points
    assert np.abs(here[:, :2] * 2 - there[:, :2]).mean() < 0.03 * eye_distance(there)
    large = np.full((1100, 1400, 3), 120, np.uint8)
    large[780:1080, 1050:1350] = portrait  # a face in a corner
    (face,) = detect_faces(large)
    assert np.abs(face.points[:, :2] - there[:, :2] - (1050, 780)).mean() < 3


def test_of_two_faces_the_one_chosen_is_taken_and_said_so(two):
    largest, second = find_face(two), find_face(two, 1, shown_in="driving video")
    assert second.points[:, 0].max() < 300 < largest.points[:, 0].min()
    assert largest.notes == ("the picture shows 2 faces; the largest was taken",)
    which = "face 1, counted from 0, the largest, was taken"
    assert second.notes == (f"the driving video shows 2 faces; {which}",)


def test_of_two_driving_faces_the_largest_is_taken_and_said_of_the_video(panned):
    both = np.concatenate([panned, panned[:, :, ::-1]], axis=2)[:2]
    assert track_face(both, 10).notes == ("the driving video shows 2 faces; the largest was taken",)


def test_a_driving_video_that_cannot_be_followed_is_refused(panned, portrait, hopper):
    other, blank = hopper[None, 80:380, 120:400], np.zeros_like(panned[:2])
    left = int(find_face(portrait).box[0]) + 14
    over_the_border = np.stack([portrait[:, left : left + 160]] * 3)
    for film, sentence in (
        (panned[:1], "at least 2 frames, but 1 came"),
        (over_the_border, "cut by the driving video's border"),
        (np.concatenate([panned, other.repeat(8, 0)]), r"cut at frame 6 \(0.60 sec.*--face-from"),
        (np.concatenate([panned[:2], blank, other.repeat(2, 0)]), "cut at frame 4"),
    ):
        with pytest.raises(InputError, match=sentence):
            track_face(film, 10)
    with pytest.raises(InputError, match="cut by the driving video's border"):
        check_start(over_the_border)
    check_start(panned)
    check_start(blank)  # a face may come later


def test_a_panning_clip_is_tracked_at_its_speed(panned):
    track = track_face(panned, 10)
    assert track.found.all() and track.notes == () and track.size == (280, 300)
    speed = np.diff(track.landmarks.mean(1), axis=0)
    np.testing.assert_allclose(speed[1:-1], [[-2, 0]] * 3, atol=0.5)


@pytest.mark.parametrize("blank", [[2, 3], [0, 1]])
def test_blank_frames_are_gaps_and_no_cuts(panned, blank):
    holed = panned.copy()
    holed[blank] = 128 * (blank[0] > 0)
    track = track_face(holed, 10)
    assert (~track.found).nonzero()[0].tolist() == blank and len(track.notes) == 1


GAPS = [  # frames of twenty without a face, positions of the first ones around, what is said
    ((2, 3), [1, 2, 3], "0.20 seconds to 0.30 seconds: its landmarks are bridged"),
    ((5, 15), [*[4] * 8, 6.75, 9.5, 12.25, 15], "0.50 seconds to 1.50 seconds: its last pose is"),
    ((0, 7), [7] * 8, "0.00 seconds to 0.70 seconds: its first pose is held"),
    ((7, 20), [6] * 14, "0.70 seconds to the end: its last pose is held"),
]


@pytest.mark.parametrize(("hidden", "positions", "said"), GAPS)
def test_while_a_face_is_hidden_its_pose_is_bridged_or_held_and_a_note_says_so(
    hidden, positions, said
):
    points, found = np.arange(20.0)[:, None, None] * np.ones((1, 478, 3)), np.ones(20, bool)
    points[slice(*hidden)], found[slice(*hidden)] = np.nan, False
    held, notes = bridge_gaps(points, found, np.arange(20) / 10)
    around = held[max(hidden[0] - 1, 0) :, 0, 0]
    np.testing.assert_allclose(around[: len(positions)], positions)
    assert len(notes) == 1 and notes[0].startswith(f"the driving face is hidden from {said}")


def test_a_driving_video_without_any_face_is_refused():
    with pytest.raises(InputError, match="no face was found in any frame"):
        bridge_gaps(np.zeros((20, 478, 3)), np.zeros(20, bool), np.arange(20) / 10)


def lit(frames, at, gain, offset=0):
    """The same frames, `at` some of them in another light."""
    changed = frames.copy()
    changed[at] = np.clip(changed[at].astype(float) * gain + offset, 0, 255).astype(np.uint8)
    return changed


LIGHTS = {  # what happens to the light of a shot
    "a flash": lambda film: lit(film, [4, 5], 1, 120),
    "a flash that blinds": lambda film: lit(film, [4], 1, 400),
    "a lamp goes on": lambda film: lit(film, slice(4), 0.4),
    "a lamp goes off": lambda film: lit(film, slice(4, None), 0.4),
    "two flashes": lambda film: lit(film, [2, 6], 1, 120),
    "something in between": lambda film: np.concatenate([film[:4], 255 - film[4:6], film[6:]]),
}


@pytest.mark.parametrize("light", LIGHTS)
def test_a_change_of_light_is_no_cut(light, panned):
    film = LIGHTS[light](np.concatenate([panned, panned[::-1]]))
    calm, still = track_face(film, 10), track_face(np.concatenate([panned, panned[::-1]]), 10)
    unit = eye_distance(still.points).mean()
    assert np.abs(calm.landmarks - still.landmarks).mean() < 0.05 * unit


def test_a_longer_driving_video_is_cut_and_that_is_said(panned, tmp_path, monkeypatch):
    write_clip(tmp_path / "drive.mp4", panned, 10)
    monkeypatch.setattr(track, "MOST_FRAMES", 4)
    cut = track_video(tmp_path / "drive.mp4")
    assert len(cut.points) == 4 and cut.fps == 10
    assert "only the first 4 frames (0.4 seconds) of the driving video were used" in cut.notes[-1]
    whole = track_video(tmp_path / "drive.mp4", end=1e6)
    assert len(whole.points) == len(panned) and whole.notes == ()
    monkeypatch.setattr(track, "MOST_FRAMES", len(panned))
    assert track_video(tmp_path / "drive.mp4").notes == ()


def test_frames_that_come_one_by_one_are_not_kept(panned):
    alive = []

    def walk():
        for frame in panned:
            assert sum(seen() is not None for seen in alive) <= 1
            fresh = frame.copy()
            alive.append(weakref.ref(fresh))
            yield fresh
            del fresh

    one_by_one = track_face(walk(), 10)
    np.testing.assert_array_equal(one_by_one.points, track_face(panned, 10).points)
    assert len(alive) == len(panned) and one_by_one.size == (280, 300)


def test_smoothing_calms_trembling_and_keeps_a_ramp(rng):
    base = canonical_geometry()[0].astype(np.float64) * (5, -5, -5) + 100
    still = base + rng.normal(0, 0.5, (40, *base.shape))
    assert smooth(still, 25).std(0).mean() < 0.5 * still.std(0).mean()
    ramp = base + np.arange(40.0)[:, None, None] * 3
    inner = slice(5, -5)
    assert np.abs(smooth(ramp, 25) - ramp)[inner].max() < 1.0
    with pytest.raises(InputError, match="positive"):
        smooth(ramp, 0)


def stored(array, write=np.save):
    """The bytes of an array's file."""
    file = io.BytesIO()
    write(file, array)
    return file.getvalue()


def test_files_that_are_no_landmarks_are_told_in_words_of_our_own(tmp_path):
    path, good = tmp_path / "marks.npy", stored(np.zeros((4, 68, 2), np.float32))
    many = good.replace(b"(4, 68, 2), }" + b" " * 10, b"(99999999999, 68, 2), }")
    shapeless, objects = good[:10] + bytes(118) + good[128:], stored(np.array([{}]))
    assert many != good
    for content in (b"[[1, 2]]", b"PK\x03\x04garbage", b"", shapeless, many, good[:-9], objects):
        path.write_bytes(content)
        with pytest.raises(InputError, match="must be one whole array of numbers") as caught:
            read_landmarks(path)
        assert len(str(caught.value)) < 300
    path.write_bytes(stored(np.zeros((4, 68, 2)), np.savez))
    with pytest.raises(InputError, match="must be real numbers"):
        read_landmarks(path)
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        read_landmarks(path)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((3, 70, 2)), r"shape \[frames, 68, 2\] .* but float64 \[3, 70, 2\] came"),
        (np.zeros((68, 2)), "shape"),
        (np.zeros((1, 68, 2)), "at least 2 frames"),
        (np.full((2, 68, 2), np.nan), "NaN or infinite values, first in frame 0"),
        (np.full((2, 68, 2), 500.0), "far or mostly outside the 100x100 picture"),
        (torch.zeros(2, 68, 2), r"real numbers .* but tensor\("),
        (np.full((2, 68, 2), "a"), r"real numbers .* but str32 \[2, 68, 2\] came"),
        (np.full((2, 68, 2), 1j), r"real numbers .* but complex128 \[2, 68, 2\] came"),
        ([[1, 2]], r"\[frames, 68, 2\] .*, but \[\[1, 2\]\] came"),
        (np.zeros((2, 68, 2), np.uint8), "must be pixels .* but span less than 4 pixels"),
        (np.stack([drawn_face()] * 2) / 100, "must be pixels .* but span less than 4 pixels"),
        (np.stack([drawn_face(), 0 * drawn_face()]), "span less than 4 pixels, first in frame 1"),
        (np.stack([drawn_face(), drawn_face() - (60, 0)]), "far or mostly outside the 100x100"),
        (np.stack([drawn_face() * 0.5 - (27, 0)] * 2), "far or mostly outside the 100x100 picture"),
    ],
)
def test_unusable_landmarks_are_refused(array, sentence):
    with pytest.raises(InputError, match=sentence):
        check_landmarks(array, (100, 100))


def test_landmarks_are_drawn_over_the_picture_where_they_are(portrait):
    landmarks = to_68(find_face(portrait).points)
    drawn = landmarks_over(portrait, landmarks)
    changed = (drawn != portrait).any(-1)
    x, y = landmarks.astype(int).T
    assert changed[y, x].mean() > 0.9 and changed.mean() < 0.05


def test_points_whose_times_claim_hours_are_refused_or_cut_to_the_clip():
    points_, times = np.zeros((3, 68, 2)), np.array([0.0, 0.1, 40_000.0])
    with pytest.raises(InputError, match=r"within 400 s, but it lasts 40000 s: follow a part"):
        resampled(points_, times, 25.0)
    assert len(resampled(points_, times, 25.0, most=14)) == 14
