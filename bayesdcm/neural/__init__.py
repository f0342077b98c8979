"""Neural models: state equations with their priors, one model a file."""

from bayesdcm.neural.base import NeuralModel, NodeModel, Prior
from bayesdcm.neural.bilinear import Bilinear
from bayesdcm.neural.cmc import CMC
from bayesdcm.neural.cmm import CMM
from bayesdcm.neural.couplings import (
    Additive,
    Coupling,
    Diffusive,
    KuramotoCoupling,
    Sigmoidal,
    SigmoidalJansenRit,
    Tanh,
)
from bayesdcm.neural.endogenous import Endogenous
from bayesdcm.neural.erp import ERP
from bayesdcm.neural.gamma_precision import GammaPrecision
from bayesdcm.neural.generic_oscillator import Generic2dOscillator
from bayesdcm.neural.hopf import Hopf
from bayesdcm.neural.jansen_rit import JansenRit
from bayesdcm.neural.kuramoto import Kuramoto
from bayesdcm.neural.laminar import LaminarColumn
from bayesdcm.neural.laminar_source import LaminarSource
from bayesdcm.neural.lfp import LFP
from bayesdcm.neural.linear import Linear
from bayesdcm.neural.montbrio_pazo_roxin import MontbrioPazoRoxin
from bayesdcm.neural.network import Network
from bayesdcm.neural.nmda import NMDA
from bayesdcm.neural.node import NetworkNode, constant
from bayesdcm.neural.noise import OrnsteinUhlenbeck, White
from bayesdcm.neural.prior_families import HorseshoePrior, LaplacePrior
from bayesdcm.neural.rate_bilinear import RateBilinear
from bayesdcm.neural.regression_bilinear import RegressionBilinear
from bayesdcm.neural.source import SourceModel
from bayesdcm.neural.spike_and_slab import SpikeAndSlabPrior
from bayesdcm.neural.two_state import TwoState
from bayesdcm.neural.wilson_cowan import WilsonCowan
from bayesdcm.neural.wong_wang import WongWang
from bayesdcm.neural.wong_wang_ei import WongWangEI

__all__ = [
    "GammaPrecision",
    "RegressionBilinear",
    "SpikeAndSlabPrior",
    "LaminarColumn",
    "LaminarSource",
    "CMC",
    "CMM",
    "ERP",
    "LFP",
    "NMDA",
    "Additive",
    "Bilinear",
    "Coupling",
    "Diffusive",
    "Endogenous",
    "HorseshoePrior",
    "JansenRit",
    "KuramotoCoupling",
    "LaplacePrior",
    "Network",
    "NetworkNode",
    "NeuralModel",
    "NodeModel",
    "OrnsteinUhlenbeck",
    "Prior",
    "RateBilinear",
    "Sigmoidal",
    "SigmoidalJansenRit",
    "SourceModel",
    "Tanh",
    "TwoState",
    "White",
    "WilsonCowan",
    "Generic2dOscillator",
    "Hopf",
    "Kuramoto",
    "Linear",
    "MontbrioPazoRoxin",
    "WongWang",
    "WongWangEI",
    "constant",
]
