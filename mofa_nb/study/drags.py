"""What drawings do to a picture before any sampling: flow and warped picture beside each other."""

from collections.abc import Mapping

from mofa_nb.motion.motion import Motion
from mofa_nb.pipeline.session import Session
from mofa_nb.show.drawing import draw_tracks
from mofa_nb.show.sheets import Picture, flow_sheet


def drag_sheet(
    session: Session,
    motions: Mapping[str, Motion],
    *,
    title: str,
    scale: float | int | None = None,
    height: int = 140,
) -> Picture:
    """One column per drawing: the tracks, the last frame's flow, the picture warped along it.

    A single drawing gets one row instead.

    Args:
        session: with its picture set.
        motions: in pixels of that picture, by caption.
        scale: pixels of motion that get full colour; default: the longest of all.
    """
    image = session.image
    flows = {name: session.dense_flow(motion, num_frames=2) for name, motion in motions.items()}
    parts = {name: draw_tracks(image, each, min_side=256) for name, each in motions.items()}
    parts |= {_of("flow", name, motions): flow[-1] for name, flow in flows.items()}
    warped = {name: session.warp_preview(flow)[-1] for name, flow in flows.items()}
    parts |= {_of("warped", name, motions): picture for name, picture in warped.items()}
    columns = len(motions) if len(motions) > 1 else 3
    return flow_sheet(parts, title=title, scale=scale, height=height, columns=columns)


def _of(what: str, name: str, motions: Mapping[str, Motion]) -> str:
    return what if len(motions) == 1 else f"{what}: {name}"
