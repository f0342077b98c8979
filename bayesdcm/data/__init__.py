"""Data: checked containers in SI units, experimental inputs and readers."""

from bayesdcm.data.bold import BoldData

__all__ = ["BoldData"]
