"""Observation: haemodynamics, BOLD, and the Gaussian likelihood with confounds."""

from bayesdcm.observe.balloon import bold_signal, haemodynamic_flow, haemodynamic_priors
from bayesdcm.observe.gaussian import (
    ConfoundBasis,
    GaussianObservation,
    confound_basis,
    gaussian,
)
from bayesdcm.observe.haemodynamics import balloon_response, linearised_response
from bayesdcm.observe.temporal_precision import TemporalPrecision, temporal_precision

__all__ = [
    "ConfoundBasis",
    "GaussianObservation",
    "TemporalPrecision",
    "balloon_response",
    "bold_signal",
    "confound_basis",
    "gaussian",
    "haemodynamic_flow",
    "haemodynamic_priors",
    "linearised_response",
    "temporal_precision",
]
