"""Make `spm_spectra.npz`, SPM's autoregressive cross-spectra, from the reference arrays g4_csd_*.

python convert_spectra.py FOLDER_OF_THE_FMRI_REFERENCE
"""

import sys
from pathlib import Path

import numpy as np

arrays = {}
for n in (3, 4):
    reference = np.load(Path(sys.argv[1]) / f"g4_csd_n{n}.npz")
    arrays[f"signal_{n}"] = reference["in_y"]
    arrays[f"frequencies_{n}"] = reference["Hz"].ravel()
    arrays[f"spectra_{n}"] = reference["csd_re"] + 1j * reference["csd_im"]
np.savez_compressed(Path(__file__).with_name("spm_spectra.npz"), **arrays)
