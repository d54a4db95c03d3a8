"""A short run of the fuzzer (the long one by hand: `python -m tests.fuzz`), and known cases."""

import sys
from pathlib import Path

import pytest

from mofa_nb.checks import InputError
from mofa_nb.motion.formats import load_motion
from tests.fuzz.run import fuzz

CASES = Path(__file__).parent / "cases"
SHORT = {"motions": 80, "pictures": 30, "media": 3}


@pytest.mark.skipif(sys.platform != "linux", reason="it watches memory by /proc")
@pytest.mark.parametrize("kind", SHORT)
def test_whatever_comes_is_taken_or_refused_in_one_sentence(kind):
    report = fuzz(kind, SHORT[kind])
    assert report.failures == [] and report.counts["inputs"] == SHORT[kind], str(report)
    assert report.counts["taken"] and report.counts["refused"]


READ = {"bom.json": None, "points_list.json": (640, 427), "wan_tracks.npy": (640, 427)}


@pytest.mark.parametrize("name", READ)
def test_motion_files_of_any_origin_are_read(name):
    motion = load_motion(CASES / name, size=READ[name])
    assert motion.size == (640, 427) and motion.tracks


REFUSED = {
    "huge_integer.json": "must be finite|must be a number",
    "size_1e308.json": "width in size must be a whole number from 1",
}


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_that_cannot_be_get_one_sentence(name):
    with pytest.raises(InputError, match=REFUSED[name]):
        load_motion(CASES / name)
