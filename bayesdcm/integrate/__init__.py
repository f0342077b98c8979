"""Solvers of neural models, and the pure functions of flows and inputs that they are made of."""

from bayesdcm.integrate.base import HeldInputs, Solver
from bayesdcm.integrate.delayed import Delayed
from bayesdcm.integrate.delayed_relaxation import DelayedRelaxation
from bayesdcm.integrate.euler import Euler, EvenGrid
from bayesdcm.integrate.evoked_input import StimulusDriven
from bayesdcm.integrate.exact_cascade import ExactCascade
from bayesdcm.integrate.expanded_delays import LocalLinear
from bayesdcm.integrate.expansion import (
    BilinearExpansion,
    affine_generators,
    bilinear_generators,
    expand,
)
from bayesdcm.integrate.exponential_euler import ExponentialEuler
from bayesdcm.integrate.grid import TimeGrid, sample_bins, time_grid
from bayesdcm.integrate.linear_response import (
    LinearResponse,
    LinearSystem,
    cross_spectra,
    growth_rate,
    is_stable,
    linear_system,
    rest_state,
    transfer_functions,
)
from bayesdcm.integrate.network_response import (
    NetworkResponse,
    StationaryCovariance,
    stationary_covariance,
)
from bayesdcm.integrate.rate_regression import RateRegression, Regressors
from bayesdcm.integrate.runge_kutta import RungeKutta, runge_kutta
from bayesdcm.integrate.spm_linear_response import SpmLinearResponse

__all__ = [
    "ExponentialEuler",
    "BilinearExpansion",
    "Delayed",
    "DelayedRelaxation",
    "Euler",
    "EvenGrid",
    "ExactCascade",
    "HeldInputs",
    "LinearResponse",
    "LinearSystem",
    "LocalLinear",
    "NetworkResponse",
    "RateRegression",
    "Regressors",
    "RungeKutta",
    "Solver",
    "SpmLinearResponse",
    "StationaryCovariance",
    "StimulusDriven",
    "TimeGrid",
    "affine_generators",
    "bilinear_generators",
    "cross_spectra",
    "expand",
    "growth_rate",
    "is_stable",
    "linear_system",
    "rest_state",
    "runge_kutta",
    "sample_bins",
    "stationary_covariance",
    "time_grid",
    "transfer_functions",
]
