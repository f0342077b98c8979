"""Make spm_observer.npz in this folder from arrays that SPM wrote; see README.md.

    python tests/data/convert_observer.py FOLDER

FOLDER holds observer.npz, numerics.npz, inv_erp_2src_lfp.npz and inv_erp_5src_ecd.npz. Axes and
names become this package's, numbers stay as they are.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
NAMES = {"Lpos": "position", "L": "strength", "J": "contribution"}


def columns(array):
    """Parameters of sources, (axis, source) in SPM, as (source, axis); vectors as they are."""
    array = np.atleast_2d(array)
    return array.ravel() if len(array) == 1 else array.T


def prior(spm, case):
    table = {}
    for old, new in NAMES.items():
        table[f"{new}_mean"] = columns(spm[f"{case}__gE__{old}"])
        table[f"{new}_variance"] = columns(spm[f"{case}__gC__{old}"])
    return table


def values(spm, prefix):
    return {new: columns(spm[f"{prefix}__{old}"]) for old, new in NAMES.items()}


def lead_fields(array):
    """(channels, 3, sources) to (sources, channels, 3)."""
    return np.moveaxis(array.reshape(len(array), 3, -1), 2, 0)


def convert_lfp(spm, case):
    table = prior(spm, case) | values(spm, f"{case}__g")
    channels = table["strength"].size
    table["state_field"] = spm[f"{case}__L"].reshape(channels, -1)
    table["modes"] = spm[f"{case}__U"].reshape(channels, channels)
    return table


def convert_img(spm, case, n):
    table = prior(spm, case) | values(spm, f"{case}__g")
    table["patches"] = np.stack([spm[f"{case}__G{i + 1}"] for i in range(n)])
    table["source_field"], table["state_field"] = spm[f"{case}__Lsrc"], spm[f"{case}__L"]
    table["modes"], table["x"] = spm[f"{case}__U"], spm[f"{case}__x"].reshape(-1, n).T
    table["sensors"] = spm[f"{case}__gx_noU"].ravel()
    table["features"] = spm[f"{case}__gx"].ravel()
    return table


def convert_ecd(spm, case, draw):
    prefix = f"{case}__{draw}"
    table = {k: v.reshape(-1, 3) for k, v in values(spm, f"{prefix}__g").items() if v.size % 3 == 0}
    table["contribution"] = spm[f"{prefix}__g__J"].ravel()
    table["lead_field"] = lead_fields(spm[f"{prefix}__leadfield_raw"])
    table["scale"] = spm[f"{prefix}__leadfield_scale"]
    table["source_field"], table["state_field"] = spm[f"{prefix}__Lsrc"], spm[f"{prefix}__L"]
    return table


def convert_inversion(spm):
    table = {k: np.stack([spm[f"{v}{c}"] for c in (1, 2)]) for k, v in SERIES.items()}
    n = spm["A1"].shape[0]
    states = table["states"]
    table["states"] = states.reshape(*states.shape[:2], -1, n).swapaxes(2, 3)
    table |= values(spm, "Eg")
    for name in ("X0", "R", "scale", "U_modes"):
        table[name] = spm[name]
    if "leadfield_raw" in spm:
        table["lead_field"] = lead_fields(spm["leadfield_raw"])
        table["lead_field_scale"] = spm["leadfield_scale"]
        table["electrodes"] = spm["elec"]
    return table


SERIES = {"raw": "y_raw", "features": "yf", "response": "H", "residual": "Rres", "states": "xpred"}


def convert(folder):
    spm, result = dict(np.load(folder / "observer.npz")), {}

    def add(case, table):
        result.update({f"{case}/{k}": v for k, v in table.items()})

    for model in ("erp", "cmc", "lfp", "nmm", "cmm"):
        for n in (1, 2, 5):
            add(f"lfp_{model}_n{n}", convert_lfp(spm, f"lfp_{model}_n{n}"))
    for n in (2, 5):
        add(f"img_n{n}", convert_img(spm, f"img_n{n}", n))
    for n in (1, 2, 5):
        add(f"ecd_n{n}", prior(spm, f"ecd_n{n}") | {"modes": spm[f"ecd_n{n}__U"]})
        for draw in ("r1", "r2"):
            add(f"ecd_n{n}__{draw}", convert_ecd(spm, f"ecd_n{n}", draw))
    geometry = {"electrodes": "elec", "radii": "r", "conductivities": "cond", "reference": "tra"}
    add("ecd", {k: spm[f"ecd__{v}"].squeeze() for k, v in geometry.items()})
    add("ecd", {"mni_to_head": spm["ecd__fromMNI"]})
    numerics = np.load(folder / "numerics.npz")
    add("numerics", {"dct": numerics["dct10_3"], "precision": numerics["Q_prec8"]})
    for case in ("erp_2src_lfp", "erp_5src_ecd"):
        add(f"inversion_{case}", convert_inversion(dict(np.load(folder / f"inv_{case}.npz"))))
    return result


if __name__ == "__main__":
    np.savez_compressed(HERE / "spm_observer.npz", **convert(Path(sys.argv[1])))
