"""Make spm_inversions.npz from arrays that SPM wrote; see README.md.

    python tests/data/convert_inversions.py FOLDER

FOLDER holds g6_nlsi_GN.npz and g3_estimate_sim.npz, both of simulated data.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CASES = ("plain", "hyperprior", "confounds", "twoQ", "twoch", "badstart")


def small_case(spm, case):
    """One problem of `spm_nlsi_GN`: vectors flat, scalars without axes."""
    table = {name: spm[f"{case}_{name}"] for name in ("y", "Cp")}
    table["prior_variance"] = np.diag(spm[f"{case}_pC"])
    table["prior_mean"] = spm[f"{case}_pE"].ravel()
    table |= {name: spm[f"{case}_{name}"].ravel() for name in ("t", "Ep", "Eh")}
    table |= {name: spm[f"{case}_{name}"].reshape(()) for name in ("F", "it_n")}
    for name in ("hE", "hC", "P0"):
        if f"{case}_{name}" in spm:
            table[name] = spm[f"{case}_{name}"].ravel()
    if f"{case}_X0" in spm:
        table["confounds"] = spm[f"{case}_X0"]
    if f"{case}_Q1diag" in spm:
        table["components"] = np.stack([spm[f"{case}_Q{i}diag"].ravel() for i in (1, 2)])
    return {f"{case}/{name}": value for name, value in table.items()}


def own_layout(name, array):
    """Axes of a parameter: from (to, from, input) to (input, to, from); vectors and scalars."""
    if name == "B":
        return np.moveaxis(array, 2, 0)
    if name in ("transit", "decay", "epsilon"):
        return array.reshape(-1 if name == "transit" else ())
    return array


def inversion(spm):
    """The inversion of a simulated fMRI data set by `spm_dcm_estimate`."""
    names = {"y": "signal", "u": "inputs", "X0": "confounds", "a": "A", "c": "C"}
    table = {own: spm[f"dcm_in_{name}"] for name, own in names.items()}
    table["B"] = own_layout("B", spm["dcm_in_b"])
    table["slice_delays"] = spm["dcm_in_delays"].ravel()
    table |= {"TR": spm["dcm_in_TR"].reshape(()), "input_dt": spm["dcm_in_udt"].reshape(())}
    table |= {name: spm[f"dcm_{name}"].reshape(()) for name in ("F", "it_n")}
    table |= {"log_precision": -np.log(spm["dcm_Ce"].ravel())}
    variance, start = np.diag(spm["dcm_Cp"]), 0
    for name in ("A", "B", "C", "transit", "decay", "epsilon"):
        mean = spm[f"dcm_Ep_{name}"]
        block = variance[start : start + mean.size].reshape(mean.shape, order="F")
        table[f"mean_{name}"] = own_layout(name, mean)
        table[f"sd_{name}"] = np.sqrt(own_layout(name, block))
        start += mean.size
    assert start == variance.size and not spm["dcm_in_centre"].item()
    return {f"dcm/{name}": value for name, value in table.items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with np.load(folder / "g6_nlsi_GN.npz") as arrays:
        spm = dict(arrays)
    found = {}
    for case in CASES:
        found |= small_case(spm, case)
    with np.load(folder / "g3_estimate_sim.npz") as arrays:
        found |= inversion(dict(arrays))
    np.savez_compressed(HERE / "spm_inversions.npz", **found)
