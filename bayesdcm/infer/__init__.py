"""Inference: `fit`, its result, one method a file, diagnosis, storage."""

from bayesdcm.infer.diagnosis import Diagnosis, diagnose
from bayesdcm.infer.fitting import fit
from bayesdcm.infer.results import Fit
from bayesdcm.infer.storage import load_fit, save_fit

__all__ = ["Diagnosis", "Fit", "diagnose", "fit", "load_fit", "save_fit"]
