"""Make spm_conditional.npz from arrays that SPM wrote; see README.md.

    python tests/data/convert_conditional.py FOLDER

FOLDER holds nlsi_generic.npz, of simulated data.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TRACE = {
    "free_energy": "F_eval",
    "predicted_change": "dF_pred",
    "log_step": "v_after",
    "accepted": "accepted",
    "observer_steps": "ig",
    "precision_steps": "ih",
}


def main(folder):
    with np.load(Path(folder) / "nlsi_generic.npz") as arrays:
        spm = dict(arrays)
    table = {name: spm[name].ravel() for name in ("t", "u")}
    table["confounds"] = spm["X0"]
    # Trials side by side, as columns of one array.
    table["y"] = np.concatenate([spm["N_y1"], spm["N_y2"]], axis=1)
    for name, ours in (("p", "parameters"), ("g", "observer")):
        table[f"{ours}_mean"] = spm[f"N_{name}E"].ravel()
        table[f"{ours}_variance"] = np.diag(spm[f"N_{name}C"])
        table[f"{ours}_posterior_mean"] = spm[f"N_E{name}"].ravel()
        table[f"{ours}_posterior_covariance"] = spm[f"N_C{name}"]
    for name in ("hE", "hC", "F"):
        table[name] = spm[f"N_{name}"].reshape(())
    table["terms"] = spm["N_Fterms"].ravel()
    table |= {f"trace/{ours}": spm[f"N_trace_{name}"].ravel() for ours, name in TRACE.items()}
    table["trace/parameters"] = spm["N_trace_Ep_eval"]
    np.savez_compressed(HERE / "spm_conditional.npz", **table)


if __name__ == "__main__":
    main(sys.argv[1])
