"""Make spm_selection.npz from arrays that SPM wrote; see README.md.

    python tests/data/convert_selection.py FOLDER

FOLDER holds spm_fmri/g5_bmr_peb.npz, of made-up posteriors and evidences.
"""

import sys
from pathlib import Path

import numpy as np

SELECTION = {
    "evidence": "lme",
    "dirichlet": "alpha",
    "frequency": "exp_r",
    "exceedance": "xp",
    "protected": "pxp",
    "omnibus_risk": "bor",
}
SEARCH = {
    "change": "F",
    "probability": "P",
    "present": "Pp",
    "mean": "Ep_mc",
    "variance": "Cpdiag_mc",
}


def main(folder):
    with np.load(Path(folder) / "spm_fmri" / "g5_bmr_peb.npz") as spm:
        table = {
            f"{case}/{ours}": spm[f"{case}_{theirs}"].squeeze()
            for case in ("bms2", "bms4")
            for ours, theirs in SELECTION.items()
        }
        for case, theirs in (("subject", "bmrall"), ("group", "pebbmc")):
            for ours, name in SEARCH.items():
                table[f"{case}/{ours}"] = spm[f"{theirs}_{name}"].squeeze()
            table[f"{case}/off"] = spm[f"{theirs}_K"].astype(bool)
            table[f"{case}/searched"] = spm[f"{theirs}_k"].ravel().astype(int) - 1
        table["subject/qE"], table["subject/qC"] = spm["sub2_Ep"].ravel(), spm["sub2_Cp"]
        table["subject/pE"], table["subject/pC"] = spm["pE_vec"].ravel(), spm["pC"]
        table["group/qE"], table["group/qC"] = spm["peb_single_Ep"].ravel("F"), spm["peb_single_Cp"]
        table["group/pE"], table["group/pC"] = (
            spm["peb_single_M_pE"].ravel(),
            spm["peb_single_M_pC"],
        )
    np.savez_compressed(Path(__file__).with_name("spm_selection.npz"), **table)


if __name__ == "__main__":
    main(sys.argv[1])
