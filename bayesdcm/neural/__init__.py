"""Neural models: state equations with their priors, one model a file."""

from bayesdcm.neural.base import NeuralModel, Prior
from bayesdcm.neural.bilinear import Bilinear
from bayesdcm.neural.two_state import TwoState

__all__ = ["Bilinear", "NeuralModel", "Prior", "TwoState"]
