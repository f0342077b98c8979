"""Neural models: state equations with their priors, one model a file."""

from bayesdcm.neural.base import NeuralModel, NodeModel, Prior
from bayesdcm.neural.bilinear import Bilinear
from bayesdcm.neural.cmc import CMC
from bayesdcm.neural.couplings import (
    Additive,
    Coupling,
    Diffusive,
    KuramotoCoupling,
    Sigmoidal,
    SigmoidalJansenRit,
    Tanh,
)
from bayesdcm.neural.erp import ERP
from bayesdcm.neural.jansen_rit import JansenRit
from bayesdcm.neural.lfp import LFP
from bayesdcm.neural.network import Network
from bayesdcm.neural.nmda import NMDA
from bayesdcm.neural.node import NetworkNode, constant
from bayesdcm.neural.noise import OrnsteinUhlenbeck, White
from bayesdcm.neural.source import SourceModel
from bayesdcm.neural.two_state import TwoState
from bayesdcm.neural.wilson_cowan import WilsonCowan

__all__ = [
    "CMC",
    "ERP",
    "LFP",
    "NMDA",
    "Additive",
    "Bilinear",
    "Coupling",
    "Diffusive",
    "JansenRit",
    "KuramotoCoupling",
    "Network",
    "NetworkNode",
    "NeuralModel",
    "NodeModel",
    "OrnsteinUhlenbeck",
    "Prior",
    "Sigmoidal",
    "SigmoidalJansenRit",
    "SourceModel",
    "Tanh",
    "TwoState",
    "White",
    "WilsonCowan",
    "constant",
]
