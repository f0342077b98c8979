"""Make regression.npz in this folder from arrays that the TAPAS toolbox wrote; see README.md.

    python tests/data/convert_regression.py FOLDER

FOLDER holds rdcm_CASE.npz. Numbers stay as they are.
"""

import sys
from pathlib import Path

import numpy as np

CASES = ("r6", "r6_full", "r6_bil", "r6_f5_s", "r6_tr2", "r6_noiseless", "rest6")
DATA = ("y", "u", "TR", "filter_str", "a", "b", "c", "C_scale", "p0", "h", "Y_valid")
RIGID = ("rigid_A", "rigid_B", "rigid_C", "rigid_baseline", "rigid_a", "rigid_b", "rigid_logF_r")
SPARSE = ("seq_A", "seq_C", "seq_baseline", "seq_zA", "seq_logF_r")
SPECTRA = ("X_y", "X_u", "X_yu", "Y")


# Of r30, counted from 0: where the toolbox's sparse scheme comes to rest elsewhere.
REGION = 24


def one_region(folder):
    """The regression of a region on all signals and the baseline, and the sparse scheme's result.

    No input drives the region.
    """
    given = np.load(folder / "rdcm_r30.npz")
    spectra = {name: given[f"{name}_re"] + 1j * given[f"{name}_im"] for name in ("X_y", "X_u", "Y")}
    rows = given["Y_valid"][:, REGION].astype(bool)
    columns = np.concatenate([spectra["X_y"], spectra["X_u"][:, -1:]], axis=1)[rows]
    rates = spectra["Y"][rows, REGION]
    return {
        "gram": (columns.conj().T @ columns).real,
        "cross": (columns.conj().T @ rates).real,
        "square": (rates.conj() @ rates).real,
        "n_rows": rows.sum(),
        "p0": given["p0"],
        "seq_z": np.append(given["seq_zA"][REGION], 1.0),
        "seq_precision": (given["seq_a"] / given["seq_b"])[REGION, 0],
        "seq_logF": given["seq_logF_r"].ravel()[REGION],
    }


def main(folder):
    table = {}
    for case in CASES:
        given = np.load(folder / f"rdcm_{case}.npz")
        names = [name for name in (*DATA, *RIGID, *SPARSE, "rigid_sN", "rigid_sN_cols")]
        kept = {name: given[name] for name in names if name in given}
        if case == "rest6":
            del kept["u"]
        kept["Y_valid"] = kept["Y_valid"].astype(bool)
        if "u" in kept and np.isin(kept["u"], (0, 1)).all():
            kept["u"] = kept["u"].astype(bool)
        # Responses of one length are the same.
        if case not in ("r6", "r6_tr2", "rest6"):
            del kept["h"]
        if case == "r6_bil":
            for name in SPECTRA:
                kept[name] = given[f"{name}_re"] + 1j * given[f"{name}_im"]
        table |= {f"{case}/{name}": value for name, value in kept.items()}
    table |= {f"r30_region/{name}": value for name, value in one_region(folder).items()}
    np.savez_compressed(Path(__file__).parent / "regression.npz", **table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
