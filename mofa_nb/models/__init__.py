"""A whole model: its parts, where their weights are found, and loading them strictly."""

from mofa_nb.models.load import load_models
from mofa_nb.models.models import Models
from mofa_nb.models.parts import default_device, model_dtypes

__all__ = [
    "Models",
    "default_device",
    "load_models",
    "model_dtypes",
]
