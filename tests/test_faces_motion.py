"""Retargeting, expressions set by hand, and whatever else drives a portrait."""

import numpy as np
import pytest
import torch

from mofa_nb.checks import InputError
from mofa_nb.faces import mesh
from mofa_nb.faces.detect import find_face
from mofa_nb.faces.draw import face_region
from mofa_nb.faces.drive import drive_face, resampled
from mofa_nb.faces.expression import hand_set
from mofa_nb.faces.mesh import HeadPose, canonical_geometry, fit_head, to_picture
from mofa_nb.faces.points import eye_distance, to_68
from mofa_nb.faces.retarget import neutral_frame, retarget, without_retargeting
from mofa_nb.motion.face import Expression, FaceSource, Strengths

FRAMES = 9
MODES = (  # of a head's shape, in the order of `identity_modes`
    *("width", "height", "depth", "jaw_width", "chin", "nose_width", "nose_length", "nose_out"),
    *("eye_size", "eye_gap", "brow_height", "mouth_width"),
)


def person(scale, centre, **shape):
    """A head of some shape whose mouth opens, eyes close and head turns: points [T, 478, 3]."""
    neutral = torch.from_numpy(canonical_geometry()[0]).double()
    modes = torch.from_numpy(mesh.identity_modes()).double()
    for name, amount in shape.items():
        neutral = neutral + amount * modes[MODES.index(name)]
    share = torch.linspace(0, 1, FRAMES).double()
    strengths = torch.zeros(FRAMES, len(mesh.EXPRESSIONS)).double()
    for name in ("jaw_open", "blink_right", "blink_left", "brows_up"):
        strengths[:, mesh.EXPRESSIONS.index(name)] = share * (1 if name == "brows_up" else 0.8)
    degrees = share[:, None] * torch.tensor([15.0, 0, -8]).double()
    skin = mesh.express(neutral.expand(FRAMES, -1, -1), strengths)
    irises = neutral[None, [468 - 1]].expand(FRAMES, 10, -1)  # any points that keep still will do
    head = mesh.posed(torch.cat([skin, irises], 1), degrees)
    centre = torch.tensor(centre).double().expand(FRAMES, -1)
    turn = torch.eye(3).double().expand(FRAMES, 3, 3)
    return to_picture(head, HeadPose(turn, torch.full((FRAMES,), scale).double(), centre)).numpy()


@pytest.fixture(scope="module")
def narrow():
    return person(5.0, (200.0, -150.0, 0.0), width=-2.0, jaw_width=-1.0, nose_length=1.0)


@pytest.fixture(scope="module")
def wide():
    return person(4.0, (100.0, -90.0, 0.0), width=2.0, jaw_width=1.5, mouth_width=1.0, eye_size=1.0)


def distance(a, b):
    """Mean gap of landmarks over the distance between the eyes."""
    gap = np.linalg.norm(to_68(a) - to_68(b), axis=-1).mean()
    return gap / eye_distance(b).mean()


def test_a_face_driven_by_itself_moves_as_it_did(narrow):
    again = retarget(narrow[0], narrow, neutral=0)
    np.testing.assert_allclose(again[4:, :468], narrow[4:, :468], atol=1e-6)


def test_a_wide_face_driven_by_a_narrow_one_keeps_its_own_shape(narrow, wide):
    driven = retarget(wide[0], narrow, neutral=0)
    still = distance(wide[:1].repeat(FRAMES, 0)[-1], wide[-1])
    assert still > 0.15
    assert distance(driven[-1], wide[-1]) < 0.12 * still
    assert distance(without_retargeting(wide[0], narrow)[-1], wide[-1]) > 0.5 * still


def test_the_first_frame_is_the_portrait_itself(narrow, wide):
    np.testing.assert_array_equal(retarget(wide[0], narrow, neutral=4)[0], wide[0])
    np.testing.assert_array_equal(without_retargeting(wide[0], narrow)[0], wide[0])


def test_without_strength_nothing_moves(narrow, wide):
    still = retarget(wide[0], narrow, Strengths(0, 0, 0, 0), neutral=0)
    np.testing.assert_allclose(still, np.broadcast_to(wide[0], still.shape), atol=1e-9)


def test_each_strength_governs_its_own_region(narrow, wide):
    def moved(**strengths):
        off = dict.fromkeys(("pose", "mouth", "eyes", "brows"), 0.0)
        change = retarget(wide[0], narrow, Strengths(**(off | strengths)), neutral=0)[-1] - wide[0]
        return np.linalg.norm(change[:, :2], axis=-1)

    chin, lid, brow = 152, 159, 105
    mouth, eyes, brows, pose = (moved(**{k: 1.0}) for k in ("mouth", "eyes", "brows", "pose"))
    assert mouth[chin] > 3 and mouth[lid] < 0.1 and mouth[brow] < 0.1
    assert eyes[lid] > 1 and eyes[chin] < 0.1 and eyes[brow] < 0.5
    assert brows[brow] > 1.5 and brows[chin] < 0.1 and brows[lid] < 0.1
    assert pose[1] > 3 and pose[10] > 1


def test_half_the_pose_strength_is_half_the_turn(narrow, wide):
    half = retarget(wide[0], narrow, Strengths(pose=0.5, mouth=0, eyes=0, brows=0), neutral=0)
    whole = retarget(wide[0], narrow, Strengths(mouth=0, eyes=0, brows=0), neutral=0)
    poses = [fit_head(torch.from_numpy(points[-1])) for points in (half, whole)]
    angles = [float(torch.asin(-pose.rotation[2, 0])) for pose in poses]
    assert angles[0] == pytest.approx(angles[1] / 2, rel=0.1)


def test_lips_and_lids_do_not_pass_through_each_other(narrow, wide):
    closing = retarget(wide[0], narrow[::-1], neutral=0)[-1]  # from an open mouth to a closed one
    for upper, lower in ((13, 14), (159, 145)):
        assert closing[lower, 1] - closing[upper, 1] > -0.05  # pixels, y down


def test_the_neutral_frame_is_the_one_with_the_mouth_shut_and_the_eyes_open(narrow):
    assert neutral_frame(narrow) == 0
    assert neutral_frame(narrow[::-1]) == FRAMES - 1


def test_too_few_driving_frames_and_another_neutral_frame_are_refused(narrow, wide):
    with pytest.raises(InputError, match=r"driving frames must be .* from 2 .* 1 came"):
        retarget(wide[0], narrow[:1])
    with pytest.raises(InputError, match="neutral frame must be a whole number from 0 to 8"):
        retarget(wide[0], narrow, neutral=99)


def test_sliders_move_what_they_say(portrait):
    points = find_face(portrait).points
    unit = float(eye_distance(points))

    def last(**sliders):
        return (hand_set(points, Expression(**sliders), 5)[-1] - points)[:, :2] / unit

    assert np.abs(last()).max() < 1e-8  # no expression is the portrait
    assert last(mouth=1.0)[152, 1] > 0.12 and np.abs(last(mouth=1.0)[10]).max() < 0.01
    assert last(smile=1.0)[61, 1] < -0.03 < 0.03 < last(smile=-1.0)[61, 1]
    assert last(brows=1.0)[105, 1] < -0.05 and last(eyelids=1.0)[159, 1] > 0.03
    assert last(yaw=20.0)[1, 0] > 0.1 and last(pitch=15.0)[1, 1] < -0.1
    assert last(roll=20.0)[10, 0] > 0.1


def test_resampling_reads_positions_off_in_time():
    points = np.arange(11.0)[:, None, None] * np.ones((1, 2, 2))
    np.testing.assert_allclose(resampled(points, 25, 12.5)[:, 0, 0], [0, 2, 4, 6, 8, 10])
    np.testing.assert_allclose(resampled(points, 10, 15)[:4, 0, 0], [0, 2 / 3, 4 / 3, 2])


def test_an_expression_and_a_landmark_file_drive_a_portrait(portrait, tmp_path):
    posed = drive_face(portrait, Expression(smile=1.0), num_frames=6)
    assert posed.landmarks.shape == (6, 68, 2) and posed.face is not None
    np.save(tmp_path / "there.npy", posed.landmarks.numpy())
    taken = drive_face(portrait, tmp_path / "there.npy", num_frames=4)
    torch.testing.assert_close(taken.landmarks, posed.landmarks[:4])


def test_strengths_that_change_nothing_are_told(portrait, tmp_path):
    file, weak = tmp_path / "marks.npy", Strengths(eyes=0, brows=2)
    np.save(file, np.stack([to_68(find_face(portrait).points)] * 2))
    assert drive_face(portrait, FaceSource(file, strengths=weak, choose=1)).notes == (
        "landmarks are taken as they are: eyes strength, brows strength changed nothing",
    )
    sliders = FaceSource(expression=Expression(), strengths=Strengths(pose=0))
    assert drive_face(portrait, sliders, num_frames=2).notes == (
        "an expression set by hand is taken as it is: pose strength changed nothing",
    )
    assert drive_face(portrait, file).notes == ()


@pytest.mark.parametrize(
    ("drives", "count", "sentence"),
    [
        ("notes.txt", None, "cannot drive a face"),
        ("none.mp4", None, "does not exist"),
        ("far.npy", None, "far or mostly outside the 300x300 picture"),
        (Expression(smile=1.0), 1, "the number of frames must be a"),
        (Expression(smile=1.0), "many", "the number of frames must be a"),
    ],
)
def test_what_cannot_drive_a_face_is_refused(drives, count, sentence, portrait, tmp_path):
    np.save(tmp_path / "far.npy", np.full((4, 68, 2), 900.0))
    drives = tmp_path / drives if isinstance(drives, str) else drives
    with pytest.raises(InputError, match=sentence):
        drive_face(portrait, drives, num_frames=count)


def test_the_face_region_covers_the_face_in_every_frame(portrait):
    points = hand_set(find_face(portrait).points, Expression(yaw=20.0, mouth=1.0), 3)
    for given in (points, to_68(points)):
        region = face_region(given, (300, 300))
        x, y = to_68(points).reshape(-1, 2).T.astype(int)
        assert (region[y, x] == 255).all()
        assert 0.03 < (region > 0).mean() < 0.4
