"""Figures, one a file: each function returns what it drew and never shows it."""

from bayesdcm.plot.comparison import plot_comparison
from bayesdcm.plot.connection_evidence import plot_connection_evidence
from bayesdcm.plot.connectivity import plot_connectivity
from bayesdcm.plot.connectome import plot_connectome
from bayesdcm.plot.data_fit import plot_fit
from bayesdcm.plot.drive_parameters import plot_drive_parameters
from bayesdcm.plot.drive_sensitivity import plot_drive_sensitivity
from bayesdcm.plot.drives import plot_drives
from bayesdcm.plot.free_energy import plot_free_energy
from bayesdcm.plot.functional_connectivity import plot_functional_connectivity
from bayesdcm.plot.functional_connectivity_dynamics import plot_functional_connectivity_dynamics
from bayesdcm.plot.group_effects import plot_group_effects
from bayesdcm.plot.layers import plot_layers
from bayesdcm.plot.model_probabilities import plot_model_probabilities
from bayesdcm.plot.model_search import plot_model_search
from bayesdcm.plot.network import plot_network
from bayesdcm.plot.posterior import plot_posterior
from bayesdcm.plot.power_spectrum import plot_power_spectrum
from bayesdcm.plot.regional_map import plot_regional_map
from bayesdcm.plot.residuals import plot_residuals
from bayesdcm.plot.simulated_series import plot_simulated_series
from bayesdcm.plot.source_activity import plot_source_activity
from bayesdcm.plot.spectra import plot_coherence
from bayesdcm.plot.strengths import plot_connection_strengths
from bayesdcm.plot.subject_parameters import plot_subject_parameters
from bayesdcm.plot.subjects import plot_subjects
from bayesdcm.plot.topographies import plot_topographies

__all__ = [
    "plot_coherence",
    "plot_comparison",
    "plot_connection_evidence",
    "plot_connection_strengths",
    "plot_connectivity",
    "plot_connectome",
    "plot_drive_parameters",
    "plot_drive_sensitivity",
    "plot_drives",
    "plot_fit",
    "plot_free_energy",
    "plot_functional_connectivity",
    "plot_functional_connectivity_dynamics",
    "plot_group_effects",
    "plot_layers",
    "plot_model_probabilities",
    "plot_model_search",
    "plot_network",
    "plot_posterior",
    "plot_power_spectrum",
    "plot_regional_map",
    "plot_residuals",
    "plot_simulated_series",
    "plot_source_activity",
    "plot_subject_parameters",
    "plot_subjects",
    "plot_topographies",
]
