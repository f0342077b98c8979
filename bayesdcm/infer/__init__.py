"""Inference: `fit`, its result, one method a file, diagnosis, storage."""

from bayesdcm.infer.amortised import AmortisedPosterior
from bayesdcm.infer.amortised_estimator import AmortisedEstimator, Calibration, train_amortised
from bayesdcm.infer.diagnosis import Diagnosis, diagnose
from bayesdcm.infer.evolution import Evolution
from bayesdcm.infer.fitting import fit
from bayesdcm.infer.gradient import Gradient
from bayesdcm.infer.loading import load_fit
from bayesdcm.infer.method import Method
from bayesdcm.infer.network_check import NetworkCheck
from bayesdcm.infer.nuts import NUTS
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.results import Fit
from bayesdcm.infer.spectral_measures import spectral_measures
from bayesdcm.infer.storage import save_fit
from bayesdcm.infer.svi import SVI
from bayesdcm.infer.truncated_backpropagation import TruncatedBackpropagation
from bayesdcm.infer.variational_bayes import VariationalBayes
from bayesdcm.infer.variational_laplace import Laplace

__all__ = [
    "NUTS",
    "SVI",
    "AmortisedEstimator",
    "AmortisedPosterior",
    "Calibration",
    "Diagnosis",
    "Evolution",
    "Fit",
    "Gradient",
    "Laplace",
    "Method",
    "NetworkCheck",
    "Posterior",
    "TruncatedBackpropagation",
    "VariationalBayes",
    "diagnose",
    "fit",
    "load_fit",
    "save_fit",
    "spectral_measures",
    "train_amortised",
]
