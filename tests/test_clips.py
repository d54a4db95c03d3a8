"""The folder of clips, its index, and what was trained on."""

import json
import os
import shutil
import weakref
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

import cv2
import matplotlib
import numpy as np
import pytest
import skimage
import torch

from mofa_nb.checks import InputError
from mofa_nb.clips.footage.bank import (
    Passage,
    Search,
    films,
    find_passages,
    load_bank,
    random_clips,
    read_index,
    write_index,
)
from mofa_nb.clips.scenes.recipe import PHOTOS
from mofa_nb.clips.scenes.surfaces import cropped, tile
from mofa_nb.media.video import shot_starts

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two shots of 24 frames (blobs gliding 1 px a frame), and one photograph."""
    where = tmp_path_factory.mktemp("clips")
    (where / "videos").mkdir()
    (where / "photos").mkdir()
    rng = np.random.default_rng(0)

    def noise(*size):
        return rng.integers(0, 255, (*size, 3)).astype(np.uint8)

    code = cv2.VideoWriter_fourcc(*"MJPG")
    video = cv2.VideoWriter(str(where / "videos" / "two.avi"), code, 24, (128, 72))
    for _ in range(2):
        blobs = cv2.GaussianBlur(noise(72, 200), (0, 0), 3)
        wide = cv2.normalize(blobs, None, 0, 255, cv2.NORM_MINMAX)
        for t in range(24):
            video.write(wide[:, t : t + 128])
    video.release()
    cv2.imwrite(str(where / "photos" / "noise.png"), noise(90, 120))
    return where


def test_windows_stay_inside_one_shot_and_move_and_step_as_asked(folder):
    video = folder / "videos" / "two.avi"
    windows = find_passages(video, Search(6, 4))
    assert windows
    for window in windows:
        first, last = window.frames(6)[0], window.frames(6)[-1]
        assert (last < 24) or (first >= 24)
        room = 24 - window.start % 24
        assert window.stride == min(2, (room - 1) // 5)  # 8.9, 17.8 or 26.7: 20 wanted
    slow = find_passages(video, Search(6, rate=12.0, motion=(0, 99)))
    assert {window.stride for window in slow} == {2}
    assert not find_passages(video, Search(6, motion=(60, 90)))
    change = np.array([0.01, 0.02, 0.01, 0.30, 0.01, 0.02, 0.05, 0.05])
    assert shot_starts(change) == [0, 4]  # a cut is a change far above its surroundings


SIZES = {"side": 64, "num_frames": 6, "clip_size": (64, 96)}


def test_a_bank_holds_the_photographs_the_stills_and_the_clips(folder):
    bank = load_bank(folder, max_stills=10, tiles_per_photo=3, **SIZES)
    assert bank.photos.shape == (3 + 10, 3, 64, 64)
    assert bank.clips.shape[1:] == (6, 3, 64, 96)
    assert bank.flow.shape == (len(bank.clips), 5, 2, 64, 96)
    middle = bank.flow[:, -1, :, 16:48, 24:60].float().mean((2, 3))
    seen = bank.trusted[:, -1, 0, 16:48, 24:60].float().mean()
    # 1 px a frame, so 5 px per stride to the left, seen at 64/72 and up to 1.5 times nearer
    windows = find_passages(folder / "videos" / "two.avi", Search(6))
    strides = torch.tensor([window.stride for window in windows])
    nearer = torch.tensor([1.0, 1.25, 1.5]).repeat(len(strides))[: len(strides)]
    torch.testing.assert_close(middle[:, 0], -5.0 * strides * nearer * 64 / 72, atol=1.0, rtol=0)
    assert middle[:, 1].abs().max() < 1
    assert seen > 0.9


def test_the_written_index_is_what_the_bank_uses(folder):
    assert len(write_index(folder, Search(6), clips=2)) == 2
    bank = load_bank(folder, max_stills=0, **SIZES)
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
    with patch("mofa_nb.clips.footage.bank._content", side_effect=PermissionError(13, "Denied")):
        assert not write_index(footage, Search(6), report=said.append)
    assert "skipped a/b/two.avi: [Errno 13] Denied" in said[2]
    fewer = write_index(footage, Search(6), clips=1, report=said.append)
    assert len(fewer) == 1 and f"{len(found) - 1} more are left out" in said[-1]


def test_an_index_looks_again_only_at_what_is_new_or_changed(footage, monkeypatch):
    looked = []
    monkeypatch.setattr("mofa_nb.clips.footage.bank.ENDS", 64)
    monkeypatch.setattr(
        "mofa_nb.clips.footage.bank.find_passages",
        lambda file, *a, **k: looked.append(file.name) or find_passages(file, *a, **k),
    )
    first = write_index(footage, Search(6))
    assert sorted(looked) == ["broken.mp4", "two.avi"]
    os.rename(footage / "a/b/two.avi", footage / "three.avi")
    again = write_index(footage, Search(6))
    assert len(looked) == 2 and {window.video for window in again} == {"three.avi"}
    assert [w.start for w in again] == [w.start for w in first]
    data, stat = (footage / "three.avi").read_bytes(), (footage / "three.avi").stat()
    for place in (len(data) // 2, len(data) - 1):  # of the same size, then of the same time, too
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        (footage / "three.avi").write_bytes(changed)
        os.utime(footage / "three.avi", ns=(0, stat.st_mtime_ns + 1))
        looked.clear()
        write_index(footage, Search(6))
        assert looked == ["three.avi"]
    write_index(footage, Search(6, hop=4))
    assert len(looked) == 3
    saved = []
    monkeypatch.setattr("mofa_nb.clips.footage.bank.SAVE_SECONDS", -1)
    monkeypatch.setattr(
        "mofa_nb.clips.footage.bank._save", lambda _, all: saved.append(all["files"])
    )
    write_index(footage, Search(6, hop=4))
    assert all(len(files) == 2 for files in saved) and len(saved) == 3  # what is known stays there


def test_mirrored_clips_mirror_their_flow(folder):
    bank = load_bank(folder, max_stills=0, **SIZES)
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


def test_a_folder_without_clips_or_with_broken_ones_alone_is_refused(tmp_path, caplog):
    with pytest.raises(InputError, match="no videos"):
        write_index(tmp_path)
    for name in (None, "broken.jpg", "broken.mp4"):
        if name:
            (tmp_path / name).write_bytes(b"neither")
        with pytest.raises(InputError, match="nothing to read"):
            load_bank(tmp_path)
        assert not name or name in caplog.text


def test_what_is_broken_is_left_out_of_a_bank_and_told(folder, footage, caplog):
    shutil.copy(folder / "photos/noise.png", footage / "noise.png")
    (footage / "broken.png").write_bytes(b"no picture")
    bank = load_bank(footage, max_stills=4, **SIZES)
    assert len(bank.clips) and len(bank.photos) > 2
    assert all(f"skipped {where}" in caplog.text for where in ("a/broken.mp4", footage / "broken"))


def test_pictures_of_passages_are_cropped_one_by_one(monkeypatch):
    assert not list(films(Path(), [Passage("gone.mp4", 0, 1)], 5, lambda w, picture: picture))
    seen = []

    def pictures(_):
        for _ in range(12):
            seen.append(weakref.ref(picture := np.zeros((72, 128, 3), np.uint8)))
            assert sum(old() is not None for old in seen) < 3  # no others are kept
            yield picture

    monkeypatch.setattr("mofa_nb.clips.footage.bank.video_frames", pictures)
    windows = [Passage("a.mp4", 0, 1), Passage("a.mp4", 2, 2)]
    made = dict(films(Path(), windows, 5, lambda w, picture: picture[: w.start + 4, :6].copy()))
    assert {w: film.shape for w, film in made.items()} == {
        windows[0]: (5, 4, 6, 3), windows[1]: (5, 6, 6, 3)
    }  # fmt: skip


def test_nothing_reserved_was_trained_on():
    document = json.loads((ROOT / "weights" / "mini" / "training_data.json").read_text())
    files = document["files"]
    used = {entry[key] for entry in files for key in ("sha256", "source_sha256")}
    reserved = document["reserved_for_evaluation"] + document["held_out"]
    kept_out = {entry["name"]: entry["sha256"] for entry in reserved}
    assert {"china", "flower", "grace_hopper"} <= set(kept_out)
    assert not (set(kept_out.values()) - {None}) & used
    for name in PHOTOS:
        assert sha256((ROOT / "data" / f"{name}.jpg").read_bytes()).hexdigest() not in used
    for entry in files:
        assert not any(name in entry["file"] for name in kept_out), entry["file"]
        assert entry["licence"] and entry["source"]
        assert "hdri/sunset" not in entry["source"] and "hdri/lobby" not in entry["source"]
    shown = Path(skimage.__file__).parent / "data"
    portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    for place in (portrait, shown / "chelsea.png", shown / "coffee.png"):
        assert sha256(place.read_bytes()).hexdigest() == kept_out[place.stem]
