"""Layered scenes with exact flow: training material and a fixed evaluation set."""

from mofa_nb.clips.scenes.recipe import evaluation_scenes, random_scenes, scene
from mofa_nb.clips.scenes.render import SceneBatch
