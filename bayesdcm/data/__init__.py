"""Data: checked containers in SI units, experimental inputs, head models and readers."""

from bayesdcm.data.bold import BoldData
from bayesdcm.data.connectome import Connectome
from bayesdcm.data.connectome_examples import load_connectome
from bayesdcm.data.covariance import CovarianceData
from bayesdcm.data.design import BoldDesign
from bayesdcm.data.dipole import DipoleData
from bayesdcm.data.dipole_readers import read_dipole
from bayesdcm.data.drive import Drive
from bayesdcm.data.evoked import EvokedData
from bayesdcm.data.head import GridHead, SphereHead, SurfaceHead
from bayesdcm.data.spectral import SpectralData

__all__ = [
    "BoldData",
    "BoldDesign",
    "Connectome",
    "CovarianceData",
    "DipoleData",
    "Drive",
    "EvokedData",
    "GridHead",
    "SpectralData",
    "SphereHead",
    "SurfaceHead",
    "load_connectome",
    "read_dipole",
]
