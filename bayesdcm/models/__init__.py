"""Models that users name: generative programs assembled from the other parts."""

from bayesdcm.models.cross_spectral import CrossSpectralDCM
from bayesdcm.models.dcm import DCM
from bayesdcm.models.evoked import EvokedDCM
from bayesdcm.models.examples import Example, load_example
from bayesdcm.models.hnn_simulator import HnnResponse, HnnSimulator
from bayesdcm.models.laminar import LaminarDCM
from bayesdcm.models.network import NetworkModel
from bayesdcm.models.recurrent import RecurrentDCM
from bayesdcm.models.regression import RegressionDCM
from bayesdcm.models.simulation_objective import SimulationObjective
from bayesdcm.models.spectral import SpectralDCM
from bayesdcm.models.task import TaskDCM
from bayesdcm.models.whole_brain import WholeBrainDCM

__all__ = [
    "LaminarDCM",
    "CrossSpectralDCM",
    "DCM",
    "EvokedDCM",
    "Example",
    "HnnResponse",
    "HnnSimulator",
    "NetworkModel",
    "RecurrentDCM",
    "RegressionDCM",
    "SimulationObjective",
    "SpectralDCM",
    "TaskDCM",
    "WholeBrainDCM",
    "load_example",
]
