"""Integrators: pure functions of a flow, initial states, inputs and parameters."""

from bayesdcm.integrate.expansion import affine_generators, bilinear_generators, expand
from bayesdcm.integrate.grid import TimeGrid, sample_bins, time_grid
from bayesdcm.integrate.runge_kutta import runge_kutta

__all__ = [
    "TimeGrid",
    "affine_generators",
    "bilinear_generators",
    "expand",
    "runge_kutta",
    "sample_bins",
    "time_grid",
]
