"""Two faces of one picture, each after its own source."""

import numpy as np
import pytest
import tiny
import torch

from mofa_nb.checks import InputError
from mofa_nb.media.images import read_image
from mofa_nb.motion.face import Expression, FaceSource
from mofa_nb.motion.motion import Motion
from mofa_nb.paths import data_file
from mofa_nb.pipeline.session import Session

VOICE = str(data_file("speech.wav"))
OPEN, TURNED = Expression(mouth=1.0), Expression(yaw=20)


def test_faces_keep_their_sources_in_the_motion_file_and_older_files_still_load():
    first, second = FaceSource(VOICE), FaceSource(expression=OPEN, choose=1)
    motion = Motion((96, 64), face=first, others=[second])
    assert Motion.from_json(motion.to_json()) == motion and motion.faces == (first, second)
    assert motion.to_json()["face"][1] == {"expression": {"mouth": 1.0}, "choose": 1}
    one = Motion((96, 64), face=first)
    assert one.to_json()["face"] == {"source": VOICE} and one != motion
    with pytest.raises(InputError, match="choose the same face"):
        Motion((96, 64), face=first, others=[FaceSource(expression=OPEN)])


def test_each_face_moves_its_own_part_of_the_picture():
    head = read_image(data_file("astronaut.jpg"))[:256, 96:352]
    session = Session(tiny.models(num_frames=3, short_side=128, steps=1, name="tiny"))
    session.set_image(np.concatenate([head, head], axis=1))
    shown = {}
    faces = [FaceSource(expression=OPEN), FaceSource(expression=TURNED, choose=1)]
    for name, motion in (
        ("both", Motion((512, 256), face=faces[0], others=[faces[1]])),
        *((n, Motion((512, 256), face=face)) for n, face in enumerate(faces)),
    ):
        *_, last = session.animate_steps(motion)
        shown[name] = last.clip
    assert "the picture shows 2 faces; the largest was taken" in shown[0].notes
    where = session.face_motion(Motion((512, 256), face=faces[0])).landmarks[0, :, 0].mean()
    middle = shown["both"].flow.shape[-1] // 2
    sides = slice(0, middle), slice(middle, None)
    mine = sides if where < middle else sides[::-1]
    for number, side in enumerate(mine):
        found, alone = (shown[n].flow[..., side] for n in ("both", number))
        inside = found != 0
        assert inside.any() and torch.equal(found[inside], alone[inside])
