"""Make `spm_spectral.npz`, spectral DCM by SPM, from the reference arrays g4_csd_*.

python convert_spectral.py FOLDER_OF_THE_FMRI_REFERENCE
"""

import sys
from pathlib import Path

import numpy as np

FIELDS = {
    "A": "A",
    "transit": "transit",
    "decay": "decay",
    "epsilon": "epsilon",
    "fluctuation": "a",
    "shared_noise": "b",
    "regional_noise": "c",
}


def fields(reference, prefix):
    """Parameters under the names and in the shapes of this package."""
    values = {name: reference[f"{prefix}_{symbol}"] for name, symbol in FIELDS.items()}
    scalars = ("decay", "epsilon")
    return {
        name: value if name == "A" else value.ravel()[0] if name in scalars else value.ravel()
        for name, value in values.items()
    }


def complexes(reference, name):
    return reference[f"{name}_re"] + 1j * reference[f"{name}_im"]


def standard_deviations(reference, n):
    """Of the posterior, by name; SPM's vector holds A, C, then the others."""
    sd = np.sqrt(np.diag(reference["Cp"]))
    table = {"A": sd[: n * n].reshape(n, n, order="F")}
    start = n * n + reference["Ep_C"].size
    for name, size in zip(list(FIELDS)[1:], (n, 1, 1, 2, 2, n), strict=True):
        table[name] = sd[start : start + size].reshape(() if size == 1 else -1)
        start += size
    return table


arrays = {}
for n in (3, 4):
    reference = np.load(Path(sys.argv[1]) / f"g4_csd_n{n}.npz")
    arrays[f"{n}/structure"] = reference["in_a"]
    for case in ("fwd1", "fwd2", "fwd3"):
        if f"{case}_S_re" not in reference:
            continue
        for name, value in fields(reference, f"{case}_P").items():
            arrays[f"{n}/{case}/{name}"] = value
        arrays[f"{n}/{case}/transfer"] = complexes(reference, f"{case}_S")
        arrays[f"{n}/{case}/unsmoothed"] = complexes(reference, f"{case}_yraw")
        arrays[f"{n}/{case}/spectra"] = complexes(reference, f"{case}_y")
    # On the diagonal blocks of one frequency; SPM's order is frequency, row, column.
    whole = complexes(reference, "Q").reshape(n, n, 32, n, n, 32)
    arrays[f"{n}/precision"] = np.einsum("jifdcf->fijcd", whole)[[0, 31]]
    arrays[f"{n}/precision_log_determinant"] = np.linalg.slogdet(complexes(reference, "Q"))[1]
    for name, value in fields(reference, "Ep").items():
        arrays[f"{n}/mean/{name}"] = value
    for name, value in standard_deviations(reference, n).items():
        arrays[f"{n}/sd/{name}"] = value
    arrays[f"{n}/free_energy"] = reference["F"].item()
    arrays[f"{n}/iterations"] = reference["it_n"].item()
np.savez_compressed(Path(__file__).with_name("spm_spectral.npz"), **arrays)
