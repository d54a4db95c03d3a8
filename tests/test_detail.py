"""The finest detail of a clip is the photograph's, where the flow takes it."""

from dataclasses import replace

import pytest
import tiny
import torch
from moving import FRAMES, SIZE, moving_right, picture

from mofa_nb.flow.resize import blurred
from mofa_nb.flow.warp import carried
from mofa_nb.pipeline.layers import Layer, detail_layers, stacked
from mofa_nb.pipeline.settings import ClipSettings
from mofa_nb.sampling.anchor import DetailLayer, with_detail


@pytest.fixture(scope="module")
def image():
    """A picture in [-1, 1]."""
    return picture()


def still() -> torch.Tensor:
    """A flow of zeros."""
    return torch.zeros(FRAMES - 1, 2, *SIZE)


def detailed(parts, image, *courses) -> torch.Tensor:
    """The whole clip."""
    return torch.cat(list(with_detail(parts, image, courses)))


def test_detail_goes_where_the_flow_takes_it(image):
    clip = (image * 0.5).expand(FRAMES, -1, -1, -1)
    course = DetailLayer(moving_right(16)[0])
    made = detailed([clip[:1], clip[1:3], clip[3:]], image, course)
    torch.testing.assert_close(made, detailed([clip], image, course))
    torch.testing.assert_close(made[0], image[0])
    coarse = blurred(clip[:1], 1.5)[0]
    fine, added = image[0] - coarse, made[-1] - coarse
    torch.testing.assert_close(added[:, :, 20:28], fine[:, :, 4:12], atol=1e-5, rtol=0)
    torch.testing.assert_close(added[:, :, 52:], fine[:, :, 52:], atol=1e-5, rtol=0)


def test_a_hole_gets_the_detail_of_what_it_is_filled_with_or_stays_as_it_is(image):
    clip = (image * 0.5).expand(FRAMES, -1, -1, -1)
    torn, skin = (
        detailed([clip], image, DetailLayer(moving_right(16)[0], tears=tears))[-1, :, :, :12]
        for tears in (True, False)
    )
    filled = carried(image, moving_right(16))[0][-1:]
    around = blurred(clip[-1:], 1.5) + filled - blurred(filled, 1.5)
    torch.testing.assert_close(torn, around[0, :, :, :12], atol=1e-5, rtol=0)
    torch.testing.assert_close(skin, clip[-1, :, :, :12])


def test_the_grain_of_a_decoder_gives_way_to_the_photograph(image):
    """It repeats from cell to cell and stays where it is, while the photograph moves."""
    photo, flow = blurred(image, 1.0), moving_right(18)
    clip = torch.cat([photo, carried(photo, flow)[0]])
    grain = 0.2 * torch.tensor([1.0, 0, -1, 0]).repeat(16).expand_as(clip)
    made = detailed([clip + grain], photo, DetailLayer(flow[0]))[-1, :, 4:-4, 22:46]
    off = (made - clip[-1, :, 4:-4, 22:46]).abs().mean()
    assert off < 0.15 * grain.abs().mean()


def test_two_courses_share_a_clip(image):
    clip, left = torch.zeros(FRAMES, 3, *SIZE), torch.zeros(1, 1, *SIZE)
    left[..., :32] = 0.25
    made = detailed(
        [clip], image, DetailLayer(still(), left), DetailLayer(still(), left * 2, tears=False)
    )
    torch.testing.assert_close(made, (image * left * 3).expand_as(made))


def test_a_share_may_be_another_one_in_every_frame(image):
    clip, shares = torch.zeros(FRAMES, 3, *SIZE), torch.rand(FRAMES, 1, 1, 1)
    course = DetailLayer(still(), lambda begin, end: shares[begin:end].expand(-1, 1, *SIZE))
    made = detailed([clip[:1], clip[1:]], image, course)
    torch.testing.assert_close(made, image * shares)


def test_a_clip_has_the_detail_of_motions_that_are_anchored(image):
    models = tiny.models()
    own = replace(models.settings, detail=1.0, trajectory_anchor=1.0, landmark_anchor=0.5)
    models, mask = replace(models, settings=own), torch.zeros(1, 1, *SIZE)
    mask[..., :8] = 1
    landmarks = torch.zeros(FRAMES, 68, 2)
    tracks = [Layer("trajectory", still())]
    face = [Layer("landmark", still(), landmarks=landmarks)]
    both = stacked([*tracks, replace(face[0], mask=mask)])
    usual = {"trajectory_anchor": 1.0, "trajectory_scale": 2.0, "landmark_anchor": 0.5}

    def made(layers, **changes):
        settings = ClipSettings.of(own, True, usual | changes)
        parts = iter([torch.zeros(FRAMES, 3, *SIZE)])
        detail = detail_layers(models, layers, image, settings)
        return torch.cat(list(with_detail(parts, image, detail)))[1]

    for whole in (tracks, face, both):
        torch.testing.assert_close(made(whole), image[0])
    torch.testing.assert_close(
        made(tracks, trajectory_anchor=0.5, trajectory_scale=0.5), image[0] / 4
    )
    torch.testing.assert_close(made(face, landmark_anchor=0.25, landmark_scale=0.5), image[0] / 4)
    torch.testing.assert_close(made(both, landmark_anchor=0), (image * (1 - mask))[0])
    torch.testing.assert_close(made(both, trajectory_scale=0.0), (image * mask)[0])
    landmarks[1, 61:64] += 30.0  # lips part
    assert made(face)[:, 15, 15].abs().max() < 0.1 * made(tracks)[:, 15, 15].abs().max()
    late = (0.5, 1.0)
    for free in (
        *(
            made(tracks, **change)
            for change in ({"trajectory_anchor": 0}, {"trajectory_span": late})
        ),
        *(made(face, **change) for change in ({"landmark_anchor": 0}, {"landmark_span": late})),
        made([]),
    ):
        assert free.abs().max() == 0
