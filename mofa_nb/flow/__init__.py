"""Sparse hints, dense flow, and what is carried along it (paper sections 3.2 and 4)."""

from mofa_nb.flow import samplers
from mofa_nb.flow.dense import dense_flow, grid_features, nearest_flow, thin_plate_flow
from mofa_nb.flow.film import film_motion
from mofa_nb.flow.optical_flow import clip_flow, clip_flows, visible
from mofa_nb.flow.resize import resize_flow, resize_nearest
from mofa_nb.flow.s2d import S2D
from mofa_nb.flow.sparse import Hints, hints_from_flow, motion_hints
from mofa_nb.flow.splat import splat, splat_plan
