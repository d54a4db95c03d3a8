"""The folder of clips, its index, and what was trained on."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mofa_nb.checks import InputError
from mofa_nb.clips import Search, find_windows, load_bank, random_clips, write_index
from mofa_nb.clips.footage import index
from mofa_nb.clips.footage.index import read_index
from mofa_nb.clips.scenes.surfaces import cropped, tile
from mofa_nb.media.shots import shot_starts

ROOT = Path(__file__).parents[1]
MANIFEST = ROOT / "weights" / "mini" / "training_data.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two shots of 24 frames (blobs gliding 1 px a frame), and one photograph."""
    where = tmp_path_factory.mktemp("clips")
    (where / "videos").mkdir()
    (where / "photos").mkdir()
    rng = np.random.default_rng(0)
    wide = [
        cv2.GaussianBlur(rng.integers(0, 255, (72, 200, 3)).astype(np.uint8), (0, 0), 3)
        for _ in range(2)
    ]
    wide = [cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX) for picture in wide]
    code = cv2.VideoWriter_fourcc(*"MJPG")
    video = cv2.VideoWriter(str(where / "videos" / "two.avi"), code, 24, (128, 72))
    for picture in wide:
        for t in range(24):
            video.write(picture[:, t : t + 128])
    video.release()
    cv2.imwrite(
        str(where / "photos" / "noise.png"), rng.integers(0, 255, (90, 120, 3)).astype(np.uint8)
    )
    return where


def test_a_cut_is_a_change_far_above_its_surroundings():
    change = np.array([0.01, 0.02, 0.01, 0.30, 0.01, 0.02, 0.05, 0.05])
    assert shot_starts(change) == [0, 4]


def test_windows_stay_inside_one_shot_and_move_enough(folder):
    windows = find_windows(folder / "videos" / "two.avi", Search(6, 4))
    assert windows
    for window in windows:
        first, last = window.frames(6)[0], window.frames(6)[-1]
        assert (last < 24) or (first >= 24)
        room = 24 - window.start % 24
        assert window.stride == min(2, (room - 1) // 5)  # 8.9, 17.8 or 26.7: 20 wanted


def test_a_bank_holds_the_photographs_the_stills_and_the_clips(folder):
    bank = load_bank(
        folder, side=64, num_frames=6, clip_size=(64, 96), max_stills=10, tiles_per_photo=3
    )
    assert bank.photos.shape == (3 + 10, 3, 64, 64)
    assert bank.clips.shape[1:] == (6, 3, 64, 96)
    assert bank.flow.shape == (len(bank.clips), 5, 2, 64, 96)
    middle = bank.flow[:, -1, :, 16:48, 24:60].float().mean((2, 3))
    seen = bank.trusted[:, -1, 0, 16:48, 24:60].float().mean()
    # 1 px a frame, so 5 px per stride to the left, seen at 64/72 and up to 1.5 times nearer
    strides = torch.tensor(
        [w.stride for w in find_windows(folder / "videos" / "two.avi", Search(6))]
    )
    nearer = torch.tensor([1.0, 1.25, 1.5]).repeat(len(strides))[: len(strides)]
    torch.testing.assert_close(middle[:, 0], -5.0 * strides * nearer * 64 / 72, atol=1.0, rtol=0)
    assert middle[:, 1].abs().max() < 1
    assert seen > 0.9


def test_the_written_index_is_what_the_bank_uses(folder):
    assert len(write_index(folder, Search(6), clips=2)) == 2
    bank = load_bank(folder, side=64, num_frames=6, clip_size=(64, 96), max_stills=0)
    assert len(bank.clips) <= 2
    (folder / "index.json").unlink()


@pytest.fixture
def footage(folder, tmp_path):
    """A video in a subfolder, a macOS companion of it, and a broken one."""
    (tmp_path / "a/b").mkdir(parents=True)
    shutil.copy(folder / "videos/two.avi", tmp_path / "a/b/two.avi")
    (tmp_path / "a/b/._two.avi").write_bytes(b"companion")
    (tmp_path / "a/broken.mp4").write_bytes(b"no video")
    return tmp_path


def test_an_index_covers_subfolders_and_lists_what_it_skips(footage):
    said = []
    found = write_index(footage, Search(6), report=said.append)
    assert {window.video for window in found} == {"a/b/two.avi"} and read_index(footage, 6) == found
    assert "skipped a/broken.mp4: " in said[0] and f"{len(found)} clips in" in said[1]
    fewer = write_index(footage, Search(6), clips=1, report=said.append)
    assert len(fewer) == 1 and f"{len(found) - 1} more are left out" in said[-1]


def test_an_index_looks_again_only_at_what_is_new_or_changed(footage, monkeypatch):
    looked = []
    real = index.find_windows
    monkeypatch.setattr(
        index, "find_windows", lambda file, *a, **k: looked.append(file.name) or real(file, *a, **k)
    )
    first = write_index(footage, Search(6))
    assert sorted(looked) == ["broken.mp4", "two.avi"]
    os.rename(footage / "a/b/two.avi", footage / "three.avi")
    again = write_index(footage, Search(6))
    assert len(looked) == 2 and {window.video for window in again} == {"three.avi"}
    assert [w.start for w in again] == [w.start for w in first]
    with (footage / "three.avi").open("ab") as file:
        file.write(b"\0")
    write_index(footage, Search(6))
    write_index(footage, Search(6, hop=4))
    assert looked[2] == "three.avi" and len(looked) == 5


def test_frame_rate_and_motion_are_as_asked(folder):
    video = folder / "videos/two.avi"
    slow = find_windows(video, Search(6, rate=12.0, motion=(0, 99)))
    assert {window.stride for window in slow} == {2}
    assert not find_windows(video, Search(6, motion=(60, 90)))


def test_an_older_index_is_still_read(folder):
    windows = [{"video": "two.avi", "start": 3, "stride": 1}]
    older = {"version": 1, "num_frames": 6, "windows": windows}
    (folder / "index.json").write_text(json.dumps(older))
    assert [w.video for w in read_index(folder, 6)] == ["videos/two.avi"]
    assert len(load_bank(folder, side=64, num_frames=6, clip_size=(64, 96)).clips) == 1
    (folder / "index.json").unlink()


def test_mirrored_clips_mirror_their_flow(folder):
    bank = load_bank(folder, side=64, num_frames=6, clip_size=(64, 96), max_stills=0)
    batch = random_clips(bank, 8, (64, 96), torch.Generator().manual_seed(0))
    along = batch.flow[:, -1, 0, 16:48, 30:60].mean((1, 2))
    assert (along < -8).any() and (along > 8).any()
    assert batch.visible.shape == (8, 5, 1, 64, 96)
    assert not batch.visible[along < -8][:, -1, :, 16:48, :4].any()  # leaves on the left


def test_crops_show_the_place_asked_for():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = 200
    left = cropped(image, (40, 40), 1.0, np.array([0.0, 0.0]))
    right = cropped(image, (40, 40), 1.0, np.array([1.0, 0.0]))
    assert left.max() == 0 and right.min() == 200
    assert tile(image, 20, 1.5, np.random.default_rng(0)).shape == (3, 20, 20)


def test_an_empty_folder_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(InputError, match="nothing to read"):
        load_bank(tmp_path)
    with pytest.raises(InputError, match="no videos"):
        write_index(tmp_path)


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        load_bank(tmp_path)


def test_nothing_reserved_was_trained_on():
    manifest = json.loads(MANIFEST.read_text())
    kept_out = manifest["reserved_for_evaluation"] + manifest["held_out"]
    names = {entry["name"] for entry in kept_out}
    assert {"china", "flower", "grace_hopper"} <= names
    hashes = {entry["sha256"] for entry in kept_out} - {None}
    used = {entry["sha256"] for entry in manifest["files"]}
    used |= {entry["source_sha256"] for entry in manifest["files"]}
    assert not hashes & used
    for entry in manifest["files"]:
        assert not any(name in entry["file"] for name in names), entry["file"]
        assert entry["licence"] and entry["source"]


def test_the_reserved_hashes_are_those_of_the_photographs():
    from hashlib import sha256

    import matplotlib
    import skimage

    manifest = json.loads(MANIFEST.read_text())
    kept_out = manifest["reserved_for_evaluation"] + manifest["held_out"]
    known = {entry["name"]: entry["sha256"] for entry in kept_out}
    places = {
        "grace_hopper": Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
        "chelsea": Path(skimage.__file__).parent / "data" / "chelsea.png",
        "coffee": Path(skimage.__file__).parent / "data" / "coffee.png",
    }
    for name, place in places.items():
        assert sha256(place.read_bytes()).hexdigest() == known[name]


def test_the_evaluation_photographs_are_all_kept_out():
    from hashlib import sha256

    from mofa_nb.clips.scenes.evaluation import PHOTOS

    manifest = json.loads(MANIFEST.read_text())
    used = {entry["sha256"] for entry in manifest["files"]}
    used |= {entry["source_sha256"] for entry in manifest["files"]}
    for name in PHOTOS:
        assert sha256((ROOT / "data" / f"{name}.jpg").read_bytes()).hexdigest() not in used
    for source in (entry["source"] for entry in manifest["files"]):
        assert "hdri/sunset" not in source and "hdri/lobby" not in source
