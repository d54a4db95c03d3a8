"""Dense flow comes from files of several kinds, checked, onto the fitted picture."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from mofa_nb.checks import InputError
from mofa_nb.flow.files import fitted_flow, read_flow
from mofa_nb.motion.fit import plan_fit

FLOW = np.random.default_rng(0).normal(size=(3, 2, 8, 12)).astype(np.float32)


def flo(array):
    height, width = array.shape[:2]
    return b"PIEH" + np.array([width, height], "<i4").tobytes() + array.astype("<f4").tobytes()


def test_every_kind_of_file_gives_the_same_flow(tmp_path):
    np.save(tmp_path / "a.npy", FLOW)
    np.save(tmp_path / "b.npy", FLOW.transpose(0, 2, 3, 1).astype(np.float64))
    np.savez(tmp_path / "c.npz", flow=FLOW, backward=-FLOW)
    np.savez(tmp_path / "d.npz", FLOW)
    np.save(tmp_path / "e.npy", np.concatenate([0 * FLOW[:1], FLOW]))
    for name in ("a.npy", "b.npy", "c.npz", "d.npz", "e.npy"):
        assert_allclose(read_flow(tmp_path / name), FLOW, err_msg=name)
    (tmp_path / "f.flo").write_bytes(flo(FLOW[0].transpose(1, 2, 0)))
    assert_allclose(read_flow(tmp_path / "f.flo"), FLOW[:1])


def test_flow_of_the_image_is_scaled_and_cropped_as_the_image_is():
    fit = plan_fit((80, 60), 16, size=(32, 16))
    flow = torch.zeros(1, 2, 60, 80)
    flow[:, 0], flow[:, 1] = 10, torch.arange(60.0)[:, None] / 2
    fitted = fitted_flow(flow, fit)
    assert fit.scaled == (32, 24) and fitted.shape == (1, 2, 16, 32)
    assert_allclose(fitted[0, 0], 4, atol=1e-5)
    rows = (torch.arange(16.0) + fit.offset[1] + 0.5) / 0.4 - 0.5
    assert_allclose(fitted[0, 1, 1:-1, 0], (rows / 2 * 0.4)[1:-1], atol=1e-2)
    own = torch.ones(2, 2, 16, 32)
    assert fitted_flow(own, fit, 3).equal(own)


def test_a_single_flow_is_the_last_frames_and_grows_evenly():
    fit = plan_fit((32, 16), 16, size=(32, 16))
    spread = fitted_flow(torch.ones(1, 2, 16, 32), fit, 5)
    assert spread[:, 0, 0, 0].tolist() == [0.25, 0.5, 0.75, 1]


REFUSED = [
    (None, r"flow file .* does not exist"),
    (b"text", "is no .flo, .npy or .npz"),
    (b"PIEH\1\0", "is no .flo, .npy or .npz"),
    (np.ones((3, 5)), r"\[T, 2, H, W\] or .*, but shape \[3, 5\] came"),
    (np.ones((3, 5, 5, 3)), r"\[T, 2, H, W\] or .*, but shape \[3, 5, 5, 3\] came"),
    (np.full((2, 8, 8), "a"), "must be numbers"),
    (np.full((1, 2, 8, 8), np.nan), "unknown or infinite values"),
    (np.full((1, 2, 8, 8), 1e10), "unknown or infinite values"),
    ({"backward": FLOW}, "`backward` leads to frame 0"),
    ({"a": FLOW, "b": FLOW}, "one array, or one named `flow`"),
]


@pytest.mark.parametrize(("content", "sentence"), REFUSED)
def test_a_file_that_holds_no_flow_gets_one_sentence(content, sentence, tmp_path):
    path = tmp_path / "a.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    elif content is not None:
        with path.open("wb") as file:
            np.save(file, content)
    with pytest.raises(InputError, match=sentence):
        read_flow(path)


def test_flow_of_another_shape_is_refused_and_a_swap_is_seen():
    with pytest.raises(InputError, match=r"60x80, but the image 80x60: .*swapped"):
        fitted_flow(torch.zeros(1, 2, 80, 60), plan_fit((80, 60), 16, size=(32, 16)))
