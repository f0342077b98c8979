"""Make spm_reduction.npz from arrays that SPM wrote; see README.md.

    python tests/data/convert_reduction.py FOLDER

FOLDER holds spm_meeg/numerics.npz, spm_meeg/demo_model_reduction_erp.npz and
spm_fmri/g5_bmr_peb.npz, of made-up posteriors and simulated data.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
DEMONSTRATION = {
    "times": "pst",
    "dt": "dt",
    "onset": "ons",
    "duration": "dur",
    "log_precision_mean": "hE",
    "log_precision_variance": "hC",
    "alpha": "alpha",
    "free_energy": "F_full",
    "terms": "Fterms_full",
    "mean": "Ep_full",
    "spatial_mean": "Eg_full",
    "log_precision": "h_full",
    "iterations": "n_iter",
    "trace": "F_trace",
    "reduced_change": "F_reduced",
    "reduced_mean": "Ep_reduced",
    "landscape_grid": "landscape_beta",
    "landscape": "landscape_F",
}


def main(folder):
    table = {}
    with np.load(Path(folder) / "spm_meeg" / "numerics.npz") as spm:
        for name in ("qE", "qC", "pE", "pC", "rE", "rC", "F", "sE", "sC"):
            table[f"small/{name}"] = spm[f"bmr_{name}"].squeeze()
    with np.load(Path(folder) / "spm_fmri" / "g5_bmr_peb.npz") as spm:
        table["subject/qE"], table["subject/qC"] = spm["sub1_Ep"].ravel(), spm["sub1_Cp"]
        table["subject/pE"], table["subject/pC"] = spm["pE_vec"].ravel(), spm["pC"]
        for i in range(1, 6):
            table[f"subject/{i}/rE"] = spm[f"bmr{i}_rE"].ravel()
            table[f"subject/{i}/rC"] = np.diag(spm[f"bmr{i}_rCdiag"].ravel())
            table[f"subject/{i}/F"] = spm[f"bmr{i}_F"].squeeze()
            table[f"subject/{i}/sE"] = spm[f"bmr{i}_sE"].ravel()
            table[f"subject/{i}/sC"] = spm[f"bmr{i}_sC"]
    with np.load(Path(folder) / "spm_meeg" / "demo_model_reduction_erp.npz") as spm:
        for ours, theirs in DEMONSTRATION.items():
            table[f"demonstration/{ours}"] = spm[theirs].squeeze()
        table["demonstration/signal"] = np.stack([spm["y1"], spm["y2"]])
        table["demonstration/clean"] = np.stack([spm["s1"], spm["s2"]])
        table["demonstration/covariance"] = np.moveaxis(spm["Cp_full"], -1, 0)
        table["demonstration/reduced_covariance"] = np.moveaxis(spm["Cp_reduced"], -1, 0)
    np.savez_compressed(HERE / "spm_reduction.npz", **table)


if __name__ == "__main__":
    main(sys.argv[1])
