"""Rendered and animated faces: what is claimed about their motion is what the pictures show."""

import pytest
import tiny
import torch
from torch.nn import functional

from mofa_nb.checks import InputError
from mofa_nb.clips.heads.head import still_curves
from mofa_nb.clips.heads.render import animate_portrait, render_faces
from mofa_nb.faces.detect import detect_faces, find_face, portrait_crop
from mofa_nb.faces.mesh import EXPRESSIONS
from mofa_nb.faces.points import eye_distance, to_68
from mofa_nb.media.images import read_image, to_uint8
from mofa_nb.paths import data_file
from tests.benchmarks.face_scenes import evaluation_curves


@pytest.fixture(scope="module")
def photos():
    return tiny.photos()


@pytest.fixture(scope="module")
def clips(photos):
    return render_faces(3, 3, (80, 128), photos, torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def portrait():
    return portrait_crop(read_image(data_file("astronaut.jpg")), 200)


def fetched(image, flow):
    """Each frame-0 pixel's colour where the flow says that it went."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x = (x + 0.5 + flow[:, 0]) / width * 2 - 1
    y = (y + 0.5 + flow[:, 1]) / height * 2 - 1
    return functional.grid_sample(image, torch.stack([x, y], -1), align_corners=False)


def test_clips_have_the_promised_shapes_and_ranges(clips):
    assert clips.frames.shape == (3, 3, 3, 80, 128)
    assert clips.flow.shape == (3, 2, 2, 80, 128) and clips.visible.shape == (3, 2, 1, 80, 128)
    assert clips.landmarks.shape == (3, 3, 68, 2) and clips.layers.shape == (3, 80, 128)
    assert 0 <= clips.frames.min() and clips.frames.max() <= 1
    assert clips.visible.dtype == torch.bool and 0.02 < clips.layers.float().mean() < 0.5


def test_flow_leads_each_visible_pixel_to_its_own_colour(clips):
    for t in (1, 2):
        flow, first, later = clips.flow[:, t - 1], clips.frames[:, 0], clips.frames[:, t]
        seen = clips.visible[:, t - 1, 0]
        missed, change = ((x - first).abs().mean(1) for x in (fetched(later, flow), later))
        assert missed[seen].mean() < 0.02
        moving = seen & (flow.norm(dim=1) > 0.5)
        assert missed[moving].median() < 0.5 * change[moving].median()


def test_flow_carries_landmarks_to_landmarks(clips):
    inner = clips.landmarks[:, :, 27:48]  # nose and eyes: seldom covered
    size = inner.new_tensor((128, 80))
    place = inner[:, 0] / size * 2 - 1
    flow = functional.grid_sample(clips.flow[:, 1], place[:, :, None], align_corners=False)
    moved = inner[:, 2] - inner[:, 0]
    assert (flow[..., 0].transpose(1, 2) - moved).norm(dim=-1).median() < 0.1


def test_the_same_seed_gives_the_same_clip(photos):
    first, again, other = (
        render_faces(1, 2, (48, 48), photos, torch.Generator().manual_seed(s)) for s in (5, 5, 6)
    )
    assert torch.equal(again.frames, first.frames) and torch.equal(again.flow, first.flow)
    assert (other.frames - first.frames).abs().mean() > 0.02


def test_the_detector_finds_rendered_faces_where_they_are(photos):
    generator = torch.Generator().manual_seed(1)
    clips = render_faces(10, 2, (128, 128), photos, generator)
    errors = []
    for frame, true in zip(to_uint8(clips.frames[:, 1]), clips.landmarks[:, 1], strict=True):
        faces = detect_faces(frame)
        if faces:
            gap = to_68(faces[0].points) - true.numpy()
            errors.append(((gap**2).sum(-1) ** 0.5).mean() / eye_distance(true.numpy()))
    assert len(errors) >= 8  # of 10
    assert sorted(errors)[len(errors) // 2] < 0.08


def test_still_curves_give_a_still_clip(photos):
    curves = still_curves(1, 2)
    clip = render_faces(1, 2, (64, 64), photos, torch.Generator().manual_seed(2), curves=curves)
    torch.testing.assert_close(clip.frames[:, 0], clip.frames[:, 1])
    assert clip.flow.abs().max() < 1e-4
    assert clip.visible.float().mean() > 0.995  # but for slivers at edges
    with pytest.raises(InputError, match="2 frames"):
        render_faces(1, 1, (64, 64), photos, torch.Generator())


def test_an_animated_portrait_begins_as_the_photograph(portrait):
    photo, points = portrait
    clip = animate_portrait(photo, points, still_curves(1, 2))
    assert ((clip.frames - photo).abs() > 0.02).float().mean() < 0.002
    expected = torch.from_numpy(to_68(points.numpy()))
    torch.testing.assert_close(clip.landmarks[0, 0], expected, atol=1e-2, rtol=0)


@pytest.fixture(scope="module")
def turned(portrait):
    """The portrait whose mouth opens while the head turns."""
    curves = still_curves(1, 2)
    curves.strengths[:, 1, EXPRESSIONS.index("jaw_open")] = 1.0
    curves.degrees[:, 1, 0] = 15
    return animate_portrait(*portrait, curves)


def test_a_moved_portrait_is_detected_where_it_was_sent(turned):
    shown, sent = to_uint8(turned.frames[0, 1]), turned.landmarks[0]
    found = torch.from_numpy(to_68(find_face(shown).points))
    unit = float(eye_distance(sent[0].numpy()))
    assert (found - sent[1]).norm(dim=-1).mean() / unit < 0.06
    assert (sent[0] - sent[1]).norm(dim=-1).mean() / unit > 0.25


def test_an_opened_mouth_is_dark_inside(portrait, turned):
    lip = turned.landmarks[0, 1, 66].long()  # middle of the lower lip's inner edge
    above = turned.frames[0, 1, :, lip[1] - 5, lip[0]]
    assert above.mean() < 0.25 < portrait[0][:, lip[1] - 5, lip[0]].mean()


def test_far_from_the_face_a_portrait_stays_still(portrait, turned):
    corner = (slice(None), slice(190, 200), slice(0, 8))
    torch.testing.assert_close(turned.frames[0, 1][corner], portrait[0][corner], atol=1e-4, rtol=0)
    assert turned.flow[0, 0][corner].abs().max() < 1e-4


def test_a_portrait_crop_shows_the_face_at_half_its_width(portrait):
    photo, points = portrait
    assert photo.shape == (3, 200, 200) and points.shape == (478, 3)
    wide = float((points.amax(0) - points.amin(0))[:2].max())
    assert 85 < wide < 115
    with pytest.raises(InputError, match="points of a portrait must be"):
        animate_portrait(photo, points[:68], still_curves(1, 2))
    with pytest.raises(InputError, match="no face"):
        portrait_crop(read_image(data_file("coffee.jpg")), 64)


def test_the_evaluation_motions_are_large_enough_to_judge(portrait):
    for name, curves in evaluation_curves(2).items():
        landmarks = animate_portrait(*portrait, curves).landmarks[0]
        moved = (landmarks[1] - landmarks[0]).norm(dim=-1).mean()
        assert moved / float(eye_distance(landmarks[0].numpy())) > 0.1, name
