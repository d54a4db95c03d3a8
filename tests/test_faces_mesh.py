"""The canonical face, its expressions, head pose, and the z-buffer that draws it."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mofa_nb.checks import InputError
from mofa_nb.clips.heads.film import interpolate, rasterise
from mofa_nb.faces import mesh
from mofa_nb.faces.detect import read_bundle
from mofa_nb.faces.mesh import canonical_geometry, rigid_weights

FACE = torch.tensor(canonical_geometry()[0])


def strengths(**values):
    row = torch.zeros(len(mesh.EXPRESSIONS))
    for name, value in values.items():
        row[mesh.EXPRESSIONS.index(name)] = value
    return row


def test_the_canonical_face_is_the_bundles_own():
    def number(value):
        return bytes([value]) if value < 128 else bytes([value % 128 + 128, value // 128])

    vertices, uv, triangles = canonical_geometry()
    assert vertices.shape == (468, 3) and uv.shape == (468, 2) and triangles.shape == (898, 3)
    message = read_bundle()["geometry_pipeline_metadata_landmarks.binarypb"]
    rows = np.concatenate([vertices, uv], 1).astype("<f4").ravel()
    assert b"".join(b"\x1d" + value.tobytes() for value in rows) in message
    assert b"".join(b"\x20" + number(int(index)) for index in triangles.ravel()) in message
    weights = rigid_weights()
    for point in np.flatnonzero(weights):
        one = b"\x08" + number(int(point)) + b"\x15" + np.float32(weights[point]).tobytes()
        assert one in message
    assert np.count_nonzero(weights) == 33


def test_a_damaged_bundle_is_refused(tmp_path):
    broken = tmp_path / "face_landmarker.task"
    broken.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="damaged"):
        read_bundle(broken)
    with pytest.raises(InputError, match="missing"):
        read_bundle(tmp_path / "none.task")


def test_an_open_jaw_lowers_the_lower_lip_alone_and_no_expression_nothing():
    torch.testing.assert_close(mesh.express(FACE, strengths()), FACE)
    moved = mesh.express(FACE, strengths(jaw_open=1.0))
    assert (FACE - moved)[14, 1] > 2  # centimetres
    assert (FACE - moved)[13].norm() < 1e-5
    assert (FACE - moved)[10].norm() < 1e-3  # forehead


EYES = {  # the person's right eye is on the picture's left
    "right": [list(rows[0]) for rows in (mesh.RIGHT_UPPER, mesh.RIGHT_LOWER)],
    "left": [list(rows[0]) for rows in (mesh.LEFT_UPPER, mesh.LEFT_LOWER)],
}


@pytest.mark.parametrize("wide", [0.0, 1.0])
@pytest.mark.parametrize(("side", "other"), [("right", "left"), ("left", "right")])
def test_a_blink_closes_its_own_eye_only_however_wide_it_is(side, other, wide):
    face = mesh.express(FACE, strengths(eyes_wide=wide))
    shut = mesh.express(face, strengths(**{f"blink_{side}": 1.0}))
    upper, lower = EYES[side]
    assert (shut[upper] - shut[lower]).norm(dim=-1).max() < 1e-4
    assert (shut - face)[upper].norm(dim=-1).max() > 0.3
    assert all(torch.equal(shut[rows], face[rows]) for rows in EYES[other])


def test_angles_survive_the_round_trip_and_turn_the_way_they_are_named():
    degrees = torch.tensor([[12.0, -7.0, 5.0], [0.0, 20.0, 0.0], [-30.0, 3.0, -14.0]]).double()
    found = Rotation.from_matrix(mesh.rotation(degrees)).as_euler("xyz", degrees=True)
    np.testing.assert_allclose(found[:, [1, 0, 2]] * (1, -1, -1), degrees)  # yaw, pitch, roll
    nose, top = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])
    yaw, pitch, roll = mesh.rotation(torch.eye(3) * 30)  # right, up, clockwise
    assert (yaw @ nose)[0] > 0.4 and (pitch @ nose)[1] > 0.4 and (roll @ top)[0] > 0.4


def test_a_known_pose_is_found_again():
    turn = mesh.rotation(torch.tensor([20.0, -10.0, 8.0]).double())
    true = mesh.HeadPose(turn, torch.tensor(4.0).double(), torch.tensor([90.0, -70, 5]).double())
    points = mesh.to_picture(FACE.double(), true)
    found = mesh.fit_head(points)
    torch.testing.assert_close(found.rotation, true.rotation)
    torch.testing.assert_close(found.scale, true.scale)
    torch.testing.assert_close(mesh.to_head(points, found), FACE.double())


def test_an_expression_hardly_changes_the_pose():
    smiling = mesh.express(FACE, strengths(smile=1.0, jaw_open=0.6, brows_up=1.0)).double()
    still = mesh.HeadPose(
        torch.eye(3).double(), torch.tensor(5.0).double(), torch.zeros(3).double()
    )
    found = mesh.fit_head(mesh.to_picture(smiling, still))
    assert np.degrees(Rotation.from_matrix(found.rotation).magnitude()) < 1.5


def test_the_nearer_triangle_is_seen_and_one_without_area_not():
    points = torch.tensor([[[0, 0, 5.0], [8, 0, 5], [0, 8, 5], [0, 0, 1], [4, 0, 1], [0, 4, 1]]])
    triangles = torch.tensor([[0, 1, 2], [3, 4, 5]])
    seen = rasterise(points, triangles, (8, 8)).triangle[0]
    assert seen[0, 0] == 1 and seen[0, 6] == 0 and seen[7, 7] == -1
    flat = torch.tensor([[[0, 0, 1.0], [4, 4, 1], [8, 8, 1]]])
    assert not rasterise(flat, triangles[:1], (8, 8)).covered.any()


def test_a_value_is_spread_linearly_over_a_triangle():
    corners = [[-50.0, -50.0, 1.0], [90.0, -50.0, 1.0], [-50.0, 90.0, 1.0]]
    points = torch.tensor([corners])
    triangles = torch.tensor([[0, 1, 2]])
    seen = rasterise(points, triangles, (6, 9))
    place = interpolate(seen, points[..., :2], triangles)
    y, x = torch.meshgrid(torch.arange(6) + 0.5, torch.arange(9) + 0.5, indexing="ij")
    torch.testing.assert_close(place[0], torch.stack([x, y], -1), atol=1e-4, rtol=0)


def test_small_and_large_triangles_cover_the_picture_without_gaps():
    step = torch.tensor([0.0, 1.3, 2.1, 5.0, 17.0, 40.0])
    y, x = torch.meshgrid(step, step, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1).reshape(1, -1, 3)
    corner = torch.arange(36).view(6, 6)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]
    triangles = torch.cat([torch.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (b, d, c))])
    assert rasterise(points, triangles, (40, 40)).covered.all()
