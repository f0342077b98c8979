"""Observation: haemodynamics and BOLD, lead fields of EEG and MEG, the Gaussian likelihood."""

from bayesdcm.observe.balloon import bold_signal, haemodynamic_flow, haemodynamic_priors
from bayesdcm.observe.base import Observer
from bayesdcm.observe.bold import Balloon, BoldObserver, linearised_response
from bayesdcm.observe.channel_modes import average_reference, channel_modes, field_derivatives
from bayesdcm.observe.channels import (
    ChannelObserver,
    ChannelSpace,
    Dipoles,
    Electrodes,
    LeadField,
    Patches,
)
from bayesdcm.observe.evoked_preparation import (
    dct_basis,
    feature_scale,
    residual_matrix,
    window_samples,
)
from bayesdcm.observe.gaussian import (
    ConfoundBasis,
    GaussianObservation,
    confound_basis,
    gaussian,
)
from bayesdcm.observe.haemodynamics import balloon_response
from bayesdcm.observe.lead_field import dipole_lead_field, patches, power_of_ten
from bayesdcm.observe.sphere import eeg_sphere_lead_field, meg_sphere_lead_field
from bayesdcm.observe.streaming import (
    SeriesObserver,
    StreamedCorrelation,
    WindowMeans,
    streamed,
)
from bayesdcm.observe.temporal_precision import TemporalPrecision, temporal_precision

__all__ = [
    "Balloon",
    "BoldObserver",
    "ChannelObserver",
    "ChannelSpace",
    "Dipoles",
    "Electrodes",
    "LeadField",
    "Observer",
    "SeriesObserver",
    "StreamedCorrelation",
    "WindowMeans",
    "streamed",
    "Patches",
    "ConfoundBasis",
    "GaussianObservation",
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
    "gaussian",
    "haemodynamic_flow",
    "haemodynamic_priors",
    "linearised_response",
    "meg_sphere_lead_field",
    "patches",
    "power_of_ten",
    "residual_matrix",
    "temporal_precision",
    "window_samples",
]
