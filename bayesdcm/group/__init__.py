"""Groups of subjects: effects on their parameters, from their posteriors or from all data."""

from bayesdcm.group.empirical_bayes import EmpiricalBayes, empirical_bayes
from bayesdcm.group.hierarchy import Hierarchy
from bayesdcm.group.hierarchy_results import compare_with_peb, relabel

__all__ = ["Hierarchy", "compare_with_peb", "relabel", "EmpiricalBayes", "empirical_bayes"]
