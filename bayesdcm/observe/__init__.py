"""Observation: haemodynamics, lead fields, the Gaussian likelihood, measures of series."""

from bayesdcm.observe.balloon import (
    Haemodynamics,
    bold_signal,
    haemodynamic_flow,
    haemodynamic_priors,
    haemodynamic_rates,
)
from bayesdcm.observe.base import Observer
from bayesdcm.observe.bold import Balloon, BoldObserver, linearised_response
from bayesdcm.observe.bold_rates import BoldRates
from bayesdcm.observe.bold_spectra import BoldSpectra
from bayesdcm.observe.channel_modes import average_reference, channel_modes, field_derivatives
from bayesdcm.observe.channel_spectra import ChannelSpectra
from bayesdcm.observe.channels import (
    ChannelObserver,
    ChannelSpace,
    Dipoles,
    Electrodes,
    Patches,
)
from bayesdcm.observe.column_dipole import ColumnDipole
from bayesdcm.observe.covariance import RegionalCovariance
from bayesdcm.observe.evoked_preparation import (
    dct_basis,
    feature_scale,
    residual_matrix,
    window_samples,
)
from bayesdcm.observe.filtered_spectra import FilteredSpectra
from bayesdcm.observe.functional_connectivity import (
    functional_connectivity,
    matrix_correlation,
    structure_function_coupling,
    upper_triangle,
)
from bayesdcm.observe.functional_connectivity_dynamics import (
    functional_connectivity_dynamics,
    functional_connectivity_dynamics_distance,
    kolmogorov_smirnov,
    wasserstein,
)
from bayesdcm.observe.gaussian import (
    ConfoundBasis,
    GaussianObservation,
    confound_basis,
    gaussian,
)
from bayesdcm.observe.given_lead_field import LeadField, parcel_lead_field
from bayesdcm.observe.haemodynamic_kernels import (
    DoubleExponential,
    FirstOrderVolterra,
    Gamma,
    Kernel,
    MixtureOfGammas,
)
from bayesdcm.observe.haemodynamics import balloon_response
from bayesdcm.observe.hrf_convolution import HrfConvolution
from bayesdcm.observe.lagged_correlation import LaggedCorrelation
from bayesdcm.observe.lead_field import dipole_lead_field, patches, power_of_ten
from bayesdcm.observe.linear_functional_connectivity import linear_functional_connectivity
from bayesdcm.observe.loss_likelihood import LossLikelihood
from bayesdcm.observe.network_spectra import NetworkSpectra
from bayesdcm.observe.power_spectrum import PowerSpectrum, power_spectrum
from bayesdcm.observe.regional_balloon import RegionalBalloon
from bayesdcm.observe.sensor_recordings import to_evoked, to_raw
from bayesdcm.observe.spectra import SpectralObserver, power_law
from bayesdcm.observe.spectral_precision import SpectralPrecision, spectral_precision
from bayesdcm.observe.sphere import eeg_sphere_lead_field, meg_sphere_lead_field
from bayesdcm.observe.streamed_spectrum import StreamedSpectrum
from bayesdcm.observe.streaming import (
    SeriesObserver,
    StreamedCorrelation,
    WindowMeans,
    streamed,
)
from bayesdcm.observe.synchrony import metastability, phase_coherence, synchrony
from bayesdcm.observe.temporal_precision import TemporalPrecision, temporal_precision
from bayesdcm.observe.wishart import WishartObservation, wishart_constant

__all__ = [
    "ColumnDipole",
    "Balloon",
    "BoldObserver",
    "BoldSpectra",
    "ChannelSpectra",
    "NetworkSpectra",
    "RegionalCovariance",
    "BoldRates",
    "ChannelObserver",
    "ChannelSpace",
    "Dipoles",
    "DoubleExponential",
    "Electrodes",
    "FilteredSpectra",
    "FirstOrderVolterra",
    "Gamma",
    "Haemodynamics",
    "HrfConvolution",
    "Kernel",
    "LaggedCorrelation",
    "LeadField",
    "LossLikelihood",
    "MixtureOfGammas",
    "Observer",
    "RegionalBalloon",
    "SeriesObserver",
    "SpectralObserver",
    "SpectralPrecision",
    "StreamedCorrelation",
    "StreamedSpectrum",
    "WindowMeans",
    "streamed",
    "Patches",
    "ConfoundBasis",
    "GaussianObservation",
    "PowerSpectrum",
    "WishartObservation",
    "TemporalPrecision",
    "average_reference",
    "balloon_response",
    "bold_signal",
    "channel_modes",
    "confound_basis",
    "dct_basis",
    "dipole_lead_field",
    "eeg_sphere_lead_field",
    "feature_scale",
    "field_derivatives",
    "functional_connectivity",
    "functional_connectivity_dynamics",
    "functional_connectivity_dynamics_distance",
    "gaussian",
    "haemodynamic_flow",
    "haemodynamic_priors",
    "haemodynamic_rates",
    "kolmogorov_smirnov",
    "linearised_response",
    "matrix_correlation",
    "meg_sphere_lead_field",
    "metastability",
    "parcel_lead_field",
    "patches",
    "phase_coherence",
    "linear_functional_connectivity",
    "power_of_ten",
    "power_law",
    "power_spectrum",
    "residual_matrix",
    "structure_function_coupling",
    "synchrony",
    "temporal_precision",
    "to_evoked",
    "to_raw",
    "upper_triangle",
    "wasserstein",
    "spectral_precision",
    "window_samples",
    "wishart_constant",
]
