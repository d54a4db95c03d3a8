"""A motion says what it holds, comes back from its file, and refuses nonsense in one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mofa_nb.checks import InputError
from mofa_nb.motion.face import Expression, FaceSource, Strengths
from mofa_nb.motion.formats import MOTION_READERS, load_motion
from mofa_nb.motion.motion import Motion, Track


@pytest.fixture
def brush():
    mask = np.zeros((80, 100), np.uint8)
    mask[20:40, 30:70] = 255
    return mask


@pytest.fixture
def full(brush):
    """A motion that uses everything a motion file can hold."""
    track = Track([(10, 20), (30.5, 40), (50, 20)], times=(0, 0.25, 1), speed="ease", end=0.75)
    locked = Track([(5, 5), (6, 6)], start=0.5, locked=True)
    plain = [(1, 2), (99, 79)]
    return Motion(
        (100, 80), tracks=(track, locked, plain), pins=[(0, 0), (99.5, 79.5)], brush=brush
    )


@pytest.fixture
def speaking(full, brush, tmp_path):
    """A motion with a face inside a mask, too."""
    face = FaceSource(tmp_path / "talk.wav", choose=1, begin=1.5, end=4)
    face = replace(face, strengths=Strengths(mouth=1.5))
    return replace(full, face=face, mask=np.roll(brush, 7, 0), after="loop")


def test_a_motion_survives_its_json_and_its_file_wherever_it_lies(speaking, tmp_path):
    (tmp_path / "other").mkdir()
    for file, source in (("m.json", "talk.wav"), ("other/m.json", None)):
        speaking.save(tmp_path / file)
        assert Motion.load(tmp_path / file) == speaking
        written = json.loads((tmp_path / file).read_text())["face"]["source"]
        assert source in (None, written)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "other"]
    expression = speaking.with_face(Expression(mouth=0.5, yaw=-20))
    for motion in (speaking, expression):
        assert Motion.from_json(json.loads(json.dumps(motion.to_json()))) == motion
    assert expression != speaking


def test_only_what_is_new_asks_for_the_new_version(full, speaking):
    assert full.to_json()["version"] == 1 and speaking.to_json()["version"] == 2
    assert full.with_mask(full.brush).to_json()["version"] == 2
    assert replace(full, after="ease").to_json()["version"] == 2


def test_each_part_tells_motions_apart_and_equal_ones_hash_alike(speaking):
    assert not Motion((100, 80)).with_face("talk.wav").is_empty
    again = Motion.from_json(speaking.to_json())
    assert again == speaking and hash(again) == hash(speaking)
    brush = speaking.brush.copy()
    brush[0, 0] = 255
    changed = [
        speaking.with_face(None), speaking.with_mask(None), replace(speaking, after="stop"),
        speaking.with_mask(255 - speaking.mask), speaking.with_brush(None),
        speaking.with_brush(brush), speaking.with_pin(3, 3),
    ]  # fmt: skip
    assert all(one != speaking for one in changed)


def test_resizing_keeps_the_face_and_scales_its_mask(speaking):
    half = speaking.resized((50, 40))
    assert half.face == speaking.face and half.after == "loop"
    assert np.array_equal(half.mask, speaking.mask[::2, ::2]) and half.mask.any()
    moved = speaking.mapped(lambda x, y: (x, y), (100, 80))
    assert moved.face == speaking.face and moved.mask is moved.brush is None


LONG = {  # where a path from 0 to 4 in 3 frames stands in a clip of 7
    "stop": [0, 2, 4, 4, 4, 4, 4],
    "continue": [0, 2, 4, 6, 8, 10, 12],
    "loop": [0, 2, 4, 2, 0, 2, 4],
    "ease": [0, 0.296, 1.037, 2, 2.963, 3.704, 4],
}


@pytest.mark.parametrize("after", LONG)
def test_tracks_go_on_in_longer_clips_as_told(after):
    motion = Motion((100, 80), [[(0, 0), (4, 0)]], after=after)
    np.testing.assert_allclose(motion.paths(7, native=3)[0, :, 0], LONG[after], atol=1e-3)
    assert motion.paths(3, native=3)[0, :, 0].tolist() == [0, 2, 4]
    assert motion.paths(2, native=3)[0, :, 0].tolist() == [0, 4]


def test_a_track_that_ends_slowly_does_not_go_on():
    motion = Motion((100, 80), [Track([(0, 0), (4, 0)], speed="ease_out")], after="continue")
    np.testing.assert_allclose(motion.paths(9, native=3)[0, 2:, 0], 4, atol=2e-3)


def test_a_plain_track_is_written_as_a_bare_list_and_others_with_what_differs_from_the_defaults():
    motion = Motion((100, 80)).with_track([(1, 2), (3.5, 4)]).with_pin(7, 8)
    tracks = {"tracks": [[[1, 2], [3.5, 4]]], "pins": [[7, 8]]}
    assert motion.to_json() == {"version": 1, "size": [100, 80], **tracks}
    track = Track([(1, 2), (3, 4)], speed="hold")
    assert track.to_json() == {"points": [[1, 2], [3, 4]], "speed": "hold"}
    assert Motion.from_json({"size": [100, 80]}) == Motion((100, 80))
    assert Motion.from_json({"size": [100, 80]}).is_empty


@pytest.mark.parametrize("painted", ["white on black", "its opaque part"])
def test_a_brush_may_lie_beside_the_file(painted, brush, tmp_path):
    black = np.zeros((80, 100, 3), np.uint8)
    picture = brush if "white" in painted else np.dstack([black, brush])
    Image.fromarray(picture).save(tmp_path / "brush.png")
    (tmp_path / "m.json").write_text('{"size": [100, 80], "brush": "brush.png"}')
    assert np.array_equal(Motion.load(tmp_path / "m.json").brush, brush)


def test_paths_are_tracks_then_pins_at_one_position_a_frame():
    motion = Motion((100, 80), tracks=[[(0, 0), (8, 4)]], pins=[(7, 6)])
    paths = motion.paths(5)
    assert paths[0].tolist() == [[0, 0], [2, 1], [4, 2], [6, 3], [8, 4]]
    assert paths[1].tolist() == [[7, 6]] * 5
    assert Motion((100, 80)).paths(14).shape == (0, 14, 2)


def test_resizing_scales_points_and_brush_by_each_axis_own_factor(full):
    half = full.resized((50, 160))
    assert half.size == (50, 160)
    assert half.tracks[0].points[1] == (15.25, 80)
    assert half.pins[1] == (49.75, 159)
    assert half.tracks[0].times == full.tracks[0].times
    assert half.brush.shape == (160, 50)
    assert half.brush[40:80, 15:35].all() and half.brush.sum() == 255 * 40 * 20


def test_resizing_there_and_back_is_the_identity_and_keeps_points_inside(full):
    assert full.resized((300, 240)).resized((100, 80)) == full
    x = float(np.nextafter(100, 0))  # the last fraction of a pixel
    assert Motion((100, 80), pins=[(x, 1)]).resized((3, 80)).pins[0][0] < 3


def test_motions_share_a_checked_brush_and_copy_any_other(full):
    brush = full.with_track([(1, 1), (2, 2)]).brush
    assert brush is full.brush and not brush.flags.writeable
    whole, other = np.zeros((2, *brush.shape), np.uint8)
    whole.flags.writeable = False  # but what it is a part of may change
    for mine in (brush.copy(), whole, other == 1):
        kept = full.with_brush(mine).brush
        assert kept is not mine and kept.dtype == np.uint8 and not kept.flags.writeable


SIZE = {"size": [100, 80]}
LINE = [[1, 2], [3, 4]]


def timed(**timing):
    return {**SIZE, "tracks": [LINE, {"points": [*LINE, [5, 6]], **timing}]}


REFUSED = [  # what is written in a file, and what is said of it
    ({**SIZE, "version": 3}, "version must be 1 or 2, but 3 came"),
    ({**SIZE, "colour": 1}, "no key 'colour'"),
    ({**SIZE, "face": 1}, "a face must be an object"),
    ({**SIZE, "face": {}}, "either a source (a file) or an expression"),
    ({**SIZE, "face": {"source": 7}}, "source must be a file"),
    ({**SIZE, "face": {"source": "a.mp4", "speed": 1}}, "a face has no key 'speed'"),
    ({**SIZE, "face": {"expression": {"nose": 1}}}, "an expression has no key 'nose'"),
    ({**SIZE, "face": {"expression": {"yaw": 90}}}, "yaw must lie between -35 and 35"),
    ({**SIZE, "face": {"source": "a.mp4", "choose": -1}}, "choose must be a whole"),
    ({**SIZE, "face": {"source": "a", "begin": 2, "end": 1}}, "ends, but 2 and 1 seconds"),
    ({**SIZE, "face": {"source": "a.mp4", "begin": -1}}, "begin must lie between 0 and"),
    ({**SIZE, "face": {"source": "a.mp4", "end": float("nan")}}, "end must be finite"),
    ({**SIZE, "face": {"expression": {}, "begin": 1}}, "but the face follows sliders"),
    ({**SIZE, "after": ["loop"]}, "after must be one of stop, continue, ease, loop"),
    ({**SIZE, "mask": 7}, "mask must be a PNG"),
    ({"tracks": []}, 'needs "size"'),
    ({"size": [100]}, "[width, height]"),
    ({"size": [100, 0]}, "height in size must be a whole number from 1"),
    ({**SIZE, "tracks": {}}, "tracks must be a list"),
    ({**SIZE, "tracks": [[[1, 2]]]}, "track 1: a track needs two or more points"),
    ({**SIZE, "tracks": [LINE, []]}, "track 2: a track needs two or more"),
    ({**SIZE, "tracks": [[[1, 2], ["a", 4]]]}, "x of point 2 must be a number"),
    ({**SIZE, "tracks": [[[1, 2], [3, True]]]}, "y of point 2 must be a number"),
    ({**SIZE, "tracks": [[[1, float("nan")], [3, 4]]]}, "y of point 1 must be finite"),
    ({**SIZE, "tracks": [[[1, 10**400], [3, 4]]]}, "y of point 1 must be a number"),
    ({**SIZE, "tracks": [[[1, 2, 3], [3, 4]]]}, "point 1 must be [x, y], but [1, 2, 3] came"),
    ({**SIZE, "tracks": [["12", "34"]]}, "point 1 must be [x, y]"),
    ({**SIZE, "tracks": ["12"]}, "track 1: points must be a list"),
    ({**SIZE, "tracks": [7]}, "track 1: points must be a list"),
    ({**SIZE, "tracks": [{"speed": "ease"}]}, 'needs the key "points"'),
    ({**SIZE, "tracks": [[[100, 2], [3, 4]]]}, "track 1 starts at (100, 2), outside"),
    ({**SIZE, "tracks": [[[-1, 2], [3, 4]]]}, "track 1 starts at (-1, 2), outside"),
    ({**SIZE, "tracks": [[[1, 2], [300, 4]]]}, "track 1 runs to (300, 4)"),
    (timed(times=[0, 1]), "track 2: the times (one per point) must be 3 numbers"),
    (timed(times=[0, 5e-324, 1]), "times must increase from point to point, by 1e-09 or more"),
    (timed(times=[0, 0.5, 1.5]), "number 3 of the times (one per point) must lie between 0 and 1"),
    (timed(times="abc"), "times (one per point) must be 3 numbers"),
    (timed(speed=["ease"]), "track 2: speed must be one of linear, ease_in"),
    (timed(start=-0.1), "start must lie between 0 and 1"),
    (timed(end=float("nan")), "end must be finite"),
    (timed(start=0.0, end=5e-324), "track 2: start must come before end"),
    (timed(locked=1), "locked must be true or false"),
    (timed(colour="red"), "no key 'colour'"),
    ({**SIZE, "pins": [[1, 80]]}, "pin 1 lies at (1, 80), outside the 100x80 image"),
    ({**SIZE, "pins": "12"}, "pins must be a list"),
    ({**SIZE, "pins": [1, 2]}, "pin 1 must be [x, y], but 1 came"),
    ({**SIZE, "brush": 7}, "brush must be a PNG"),
    ({**SIZE, "brush": "../up.png"}, "beside the motion file"),
    ({**SIZE, "brush": "data:image/png;base64,%%"}, "not valid base64"),
    ({**SIZE, "brush": "data:image/gif;base64,R0lG"}, "must start with data:image/png;base64,"),
    ({**SIZE, "brush": "data:image/png;base64,AAAA"}, "brush cannot be read (no picture): save it"),
    ([1, 2], "a motion file must be an object"),
    (b"\xff\xfe\x00\x80", "m.json is not valid JSON ("),
    ('{"größe": 1}'.encode("latin-1"), "m.json is not written in UTF-8 ("),
    (b'{"size": [100,\n 80', "not valid JSON (Expecting ',' delimiter: line 2 column 4"),
    (b'{"size": [100, 80], "pins": [[1%s, 2]]}' % (b"0" * 4300), "x of pin 1 must be finite"),
    (b"[" * 100_000, "m.json is not valid JSON, but nested too deeply (maximum recursion"),
    (b" " * 2**25 + b"{}", "is larger than 32 MB"),
]


@pytest.mark.parametrize(("data", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_bad_motion_file_gets_one_sentence(data, sentence, tmp_path):
    path = tmp_path / "m.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    with pytest.raises(InputError) as caught:
        Motion.load(path)
    message = str(caught.value)
    assert sentence in message and str(path) in message
    assert "\n" not in message and len(message) < 300 + len(str(path))


@pytest.mark.parametrize("code", ["utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_a_motion_file_of_any_editor_is_read(code, tmp_path):
    (tmp_path / "m.json").write_bytes('{"size": [100, 80], "pins": [[1, 2]]}'.encode(code))
    assert Motion.load(tmp_path / "m.json") == Motion((100, 80), pins=[(1, 2)])


def test_a_file_that_the_disk_does_not_give_is_told(tmp_path, monkeypatch):
    (tmp_path / "m.json").write_text("{}")
    monkeypatch.setattr(Path, "read_bytes", lambda self: open(tmp_path / "gone", "rb"))
    with pytest.raises(InputError, match=r"m.json cannot be read \(No such .*\): check the disk"):
        Motion.load(tmp_path / "m.json")


def test_a_number_of_thousands_of_digits_from_python_gets_one_sentence():
    with pytest.raises(InputError, match="but a very long int came"):
        Motion((100, 80), pins=[(10**5000, 2)])


def test_a_brush_of_another_size_or_type_is_refused():
    with pytest.raises(InputError, match="brush is 80x100, but the motion's size is 100x80"):
        Motion((100, 80), brush=np.zeros((100, 80), np.uint8))
    with pytest.raises(InputError, match="uint8"):
        Motion((100, 80), brush=np.zeros((80, 100), np.float32))


def test_other_formats_plug_in_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(MOTION_READERS, "still", lambda path: Motion((100, 80), pins=[(1, 1)]))
    assert load_motion(tmp_path / "any.npy", reader="still").pins == ((1, 1),)
    with pytest.raises(InputError, match="motion reader must be one of mofa_nb, still"):
        load_motion(tmp_path / "any.npy", reader="other")
