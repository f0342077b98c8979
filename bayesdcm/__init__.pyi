__version__: str

__all__ = [
    "AmortisedEstimator",
    "AmortisedPosterior",
    "BoldData",
    "BoldDesign",
    "Connectome",
    "CovarianceData",
    "CrossSpectralDCM",
    "DCM",
    "DipoleData",
    "Drive",
    "EvokedDCM",
    "EvokedData",
    "Evolution",
    "Fit",
    "Generic2dOscillator",
    "Gradient",
    "GroupEffects",
    "GroupFit",
    "Hierarchy",
    "HnnSimulator",
    "Hopf",
    "HorseshoePrior",
    "JansenRit",
    "Kuramoto",
    "LaminarDCM",
    "Laplace",
    "LaplacePrior",
    "Linear",
    "MontbrioPazoRoxin",
    "NUTS",
    "NetworkModel",
    "RecurrentDCM",
    "RegressionDCM",
    "SVI",
    "SimulationObjective",
    "SpectralDCM",
    "SpectralData",
    "SpikeAndSlabPrior",
    "TaskDCM",
    "TruncatedBackpropagation",
    "VariationalBayes",
    "WholeBrainDCM",
    "WilsonCowan",
    "WongWang",
    "WongWangEI",
    "compare",
    "compare_posteriors",
    "data",
    "fit",
    "fit_group",
    "functional_connectivity",
    "functional_connectivity_dynamics",
    "group",
    "infer",
    "integrate",
    "leave_one_out",
    "load_connectome",
    "load_example",
    "load_fit",
    "load_group",
    "log_evidence",
    "models",
    "neural",
    "observe",
    "peb",
    "plot",
    "power_spectrum",
    "read_dipole",
    "read_hnn",
    "read_spm_dcm",
    "read_spm_group",
    "read_spm_voi",
    "reduce",
    "search_reduced",
    "select_models",
    "spectral_measures",
    "stack_modes",
    "train_amortised",
    "write_hnn",
]

from . import compare, data, group, infer, integrate, models, neural, observe, plot
from .compare.evidence import log_evidence
from .compare.posteriors import compare_posteriors
from .compare.reduction import reduce
from .compare.search import search_reduced
from .compare.selection import select_models
from .compare.stacking import stack_modes
from .data.bold import BoldData
from .data.connectome import Connectome
from .data.connectome_examples import load_connectome
from .data.covariance import CovarianceData
from .data.design import BoldDesign
from .data.dipole import DipoleData
from .data.dipole_readers import read_dipole
from .data.drive import Drive
from .data.evoked import EvokedData
from .data.hnn_network import write_hnn
from .data.hnn_parameters import read_hnn
from .data.spectral import SpectralData
from .data.spm_voi import read_spm_voi
from .group.effects import peb
from .group.group_effects import GroupEffects
from .group.group_fit import GroupFit, load_group
from .group.hierarchy import Hierarchy
from .group.leave_one_out import leave_one_out
from .group.many_fits import fit_group
from .infer.amortised import AmortisedPosterior
from .infer.amortised_estimator import AmortisedEstimator, train_amortised
from .infer.evolution import Evolution
from .infer.fitting import fit
from .infer.gradient import Gradient
from .infer.loading import load_fit
from .infer.nuts import NUTS
from .infer.results import Fit
from .infer.spectral_measures import spectral_measures
from .infer.svi import SVI
from .infer.truncated_backpropagation import TruncatedBackpropagation
from .infer.variational_bayes import VariationalBayes
from .infer.variational_laplace import Laplace
from .models.cross_spectral import CrossSpectralDCM
from .models.dcm import DCM
from .models.evoked import EvokedDCM
from .models.examples import load_example
from .models.hnn_simulator import HnnSimulator
from .models.laminar import LaminarDCM
from .models.network import NetworkModel
from .models.recurrent import RecurrentDCM
from .models.regression import RegressionDCM
from .models.simulation_objective import SimulationObjective
from .models.spectral import SpectralDCM
from .models.spm import read_spm_dcm
from .models.spm_group import read_spm_group
from .models.task import TaskDCM
from .models.whole_brain import WholeBrainDCM
from .neural.generic_oscillator import Generic2dOscillator
from .neural.hopf import Hopf
from .neural.jansen_rit import JansenRit
from .neural.kuramoto import Kuramoto
from .neural.linear import Linear
from .neural.montbrio_pazo_roxin import MontbrioPazoRoxin
from .neural.prior_families import HorseshoePrior, LaplacePrior
from .neural.spike_and_slab import SpikeAndSlabPrior
from .neural.wilson_cowan import WilsonCowan
from .neural.wong_wang import WongWang
from .neural.wong_wang_ei import WongWangEI
from .observe.functional_connectivity import functional_connectivity
from .observe.functional_connectivity_dynamics import functional_connectivity_dynamics
from .observe.power_spectrum import power_spectrum
