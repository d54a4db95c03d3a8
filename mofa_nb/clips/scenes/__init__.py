"""Layered scenes with exact flow: training material and a fixed evaluation set.

`random_scenes` makes a batch on the photos' device, `scene` one from a seed,
`evaluation_scenes` the 32 fixed scenes of the benchmark.
"""

from mofa_nb.clips.scenes.evaluation import evaluation_scenes
from mofa_nb.clips.scenes.recipe import random_scenes, scene
from mofa_nb.clips.scenes.render import SceneBatch

__all__ = ["SceneBatch", "evaluation_scenes", "random_scenes", "scene"]
