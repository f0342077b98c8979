"""One self-contained HTML page on a study: what was fitted, whether to trust it, what came out."""

from bayesdcm.report.group_page import write_group_report
from bayesdcm.report.page import write_report
from bayesdcm.report.simulation_page import simulation_measures, write_simulation_report

__all__ = [
    "simulation_measures",
    "write_group_report",
    "write_report",
    "write_simulation_report",
]
