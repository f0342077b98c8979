"""Data: checked containers in SI units, experimental inputs and readers."""

from bayesdcm.data.bold import BoldData
from bayesdcm.data.design import BoldDesign

__all__ = ["BoldData", "BoldDesign"]
