"""Clips that play in step, as HTML."""

import numpy as np
import pytest
import torch

from mofa_nb.motion.motion import Motion
from mofa_nb.show.players import Played, carried_colours, players


def test_a_flows_colours_lie_where_it_has_carried_things():
    flow = torch.zeros(2, 2, 16, 48)
    flow[0, 0, :, 4:8], flow[1, 0, :, 4:8] = 10, 20
    seen = carried_colours(flow)
    assert seen.shape == (3, 16, 48, 3) and (seen[0] == 255).all()
    coloured = (seen != 255).any(-1)[:, 8]
    assert coloured[1].nonzero()[0].tolist() == [14, 15, 16, 17]
    assert coloured[2].nonzero()[0].tolist() == [24, 25, 26, 27]


@pytest.mark.parametrize(("count", "flow", "videos"), [(1, False, 1), (1, True, 2), (2, True, 5)])
def test_one_clip_is_compared_with_its_photograph_and_others_with_it(count, flow, videos):
    frames = np.zeros((3, 16, 32, 3), np.uint8)
    moved = torch.zeros(2, 2, 16, 32) if flow else None
    page = players([Played(f"<{n}>", frames, 8, moved) for n in range(count)], frames[0])
    assert page.count("<video") == videos and page.count("<img") == 1
    assert "1 of 3" in page and ("Flow" in page) is flow
    assert "photograph ◂ ▸ &lt;0&gt;" in page and ("&lt;0&gt; ◂ ▸ &lt;1&gt;" in page) is (
        count == 2
    )


def test_the_gallery_compares_the_clips_whose_buttons_are_down(make_pad):
    board = make_pad(motion=Motion((400, 300)).with_track([(100, 100), (200, 100)]))
    for _ in range(2):
        board.animate()
        assert board.wait(10)
    gallery = board.gallery
    second, first = (card.children[2].children[0] for card in gallery.cards.children)
    first.value = second.value = True
    assert "clip 1 ◂ ▸ clip 2" in gallery.players.value
    first.value = False
    assert "photograph ◂ ▸ clip 2" in gallery.players.value
    second.value = False
    assert gallery.players.layout.display == "none"
