"""Make spm_peb.npz from arrays that SPM wrote; see README.md.

    python tests/data/convert_peb.py FOLDER

FOLDER holds spm_fmri/g5_bmr_peb.npz, of made-up posteriors of eight subjects.
"""

import sys
from pathlib import Path

import numpy as np

SUBJECTS = range(1, 9)
EFFECTS = {
    "mean": "Ep",
    "covariance": "Cp",
    "prior_mean": "M_pE",
    "prior_covariance": "M_pC",
    "log_precision": "Eh",
    "log_precision_covariance": "Ch",
    "between_covariance": "Ce",
    "log_evidence": "F",
    "subject1_covariance": "sub1_Cp",
    "subject1_prior_mean": "sub1_rE",
    "subject1_prior_covariance": "sub1_rC",
}
COMPARISON = {
    "on": "K",
    "change": "F",
    "probability": "P",
    "commonalities": "Pw",
    "differences": "Px",
    "mean": "Ep_mc",
}
LEFT_OUT = {"mean": "qE", "variance": "qC", "probability": "Q"}


def main(folder):
    with np.load(Path(folder) / "spm_fmri" / "g5_bmr_peb.npz") as spm:
        table = {
            "subjects/mean": np.stack([spm[f"sub{i}_Ep"].ravel() for i in SUBJECTS]),
            "subjects/covariance": np.stack([spm[f"sub{i}_Cp"] for i in SUBJECTS]),
            "subjects/log_evidence": np.stack([spm[f"sub{i}_F"].item() for i in SUBJECTS]),
            "subjects/prior_mean": spm["pE_vec"].ravel(),
            "subjects/prior_covariance": spm["pC"],
            "design": spm["X"],
            "index": spm["peb_single_Pind"].ravel().astype(int) - 1,
        }
        for case in ("single", "fields", "all"):
            for ours, theirs in EFFECTS.items():
                table[f"{case}/{ours}"] = spm[f"peb_{case}_{theirs}"]
            table[f"{case}/prior_mean"] = table[f"{case}/prior_mean"].reshape(2, -1).T
            for name in ("log_precision", "log_evidence", "subject1_prior_mean"):
                table[f"{case}/{name}"] = table[f"{case}/{name}"].ravel()
            means = [spm[f"peb_{case}_sub{i}_Ep"].ravel() for i in SUBJECTS]
            evidences = [spm[f"peb_{case}_sub{i}_F"].item() for i in SUBJECTS]
            table[f"{case}/subject_mean"] = np.stack(means)
            table[f"{case}/subject_log_evidence"] = np.stack(evidences)
        for ours, theirs in COMPARISON.items():
            table[f"comparison/{ours}"] = spm[f"pebpre_{theirs}"].squeeze()
        table["comparison/mean"] = table["comparison/mean"].reshape(2, -1).T
        for ours, theirs in LEFT_OUT.items():
            table[f"left_out/{ours}"] = spm[f"loo_{theirs}"].squeeze()
    np.savez_compressed(Path(__file__).with_name("spm_peb.npz"), **table)


if __name__ == "__main__":
    main(sys.argv[1])
