"""Groups of subjects: effects on their parameters, from their posteriors or from all data."""

from bayesdcm.group.empirical_bayes import EmpiricalBayes, empirical_bayes

__all__ = ["EmpiricalBayes", "empirical_bayes"]
