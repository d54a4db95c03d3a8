"""Where lids and lips part, a face shows what its photograph does not."""

import torch

from mofa_nb.faces.draw import unopened

SIZE = (96, 96)
LIPS, LEFT_LID = [65, 66, 67], [40, 41]  # points below their openings


def a_face() -> torch.Tensor:
    """68 points, of which only eyes and mouth matter."""
    points = torch.zeros(68, 2)
    lids = torch.tensor([(0, 3), (4, 0), (8, 0), (12, 3), (8, 6), (4, 6)])
    points[36:42], points[42:48] = lids + torch.tensor([20, 30]), lids + torch.tensor([60, 30])
    outer = [(0, 5), (4, 2), (8, 0), (12, 1), (16, 0), (20, 2), (24, 5)]
    outer += [(20, 8), (16, 10), (12, 10), (8, 10), (4, 8)]
    inner = [(2, 5), (8, 4), (12, 4), (16, 4), (22, 5), (16, 6), (12, 6), (8, 6)]
    points[48:68] = torch.tensor(outer + inner) + torch.tensor([36, 66])
    return points


def test_what_moves_without_opening_is_the_photograph():
    face = a_face()
    turned = torch.stack([face, face + 5, face * torch.tensor([0.8, 1.0])])
    assert unopened(turned, face, SIZE).min() == 1


def test_lips_that_part_are_not_and_the_rest_is():
    first, opened = a_face(), a_face()
    opened[LIPS, 1] += 3
    before, after = unopened(torch.stack([first, opened]), first, SIZE)[:, 0]
    assert before.min() == 1
    assert after[69:74, 44:53].max() < 0.05  # between the lips
    assert after[:50].min() == 1 and after[:, :20].min() == 1


def test_the_farther_they_part_the_less_is_kept():
    first = a_face()
    frames = torch.stack([first] * 4)
    for frame, gap in zip(frames, (0.0, 0.4, 0.8, 5.0), strict=True):
        frame[LIPS, 1] += gap
    kept = unopened(frames, first, SIZE)[:, 0, 71, 48]
    torch.testing.assert_close(kept, torch.tensor([1.0, 0.6, 0.2, 0.0]), atol=0.02, rtol=0)


def test_a_lid_that_closes_counts_as_well():
    first, shut = a_face(), a_face()
    shut[LEFT_LID, 1] -= 5
    kept = unopened(shut[None], first, SIZE)[0, 0]
    assert kept[32, 26] < 0.05 and kept[:, 50:].min() == 1
