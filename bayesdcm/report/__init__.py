"""One self-contained HTML page on a study: what was fitted, whether to trust it, what came out."""

from bayesdcm.report.group_page import write_group_report
from bayesdcm.report.page import write_report

__all__ = ["write_group_report", "write_report"]
