"""Make the reference arrays in this folder from arrays that SPM wrote; see README.md.

    python tests/data/convert.py FOLDER

FOLDER holds g1_pointwise.npz and g2_integration.npz. Axes and names become this package's, numbers
stay as they are.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
PARAMETERS = ("A", "B", "C", "D", "transit", "decay", "epsilon")


def own_layout(name, array):
    """Axes of a parameter: from (to, from, input) to (input, to, from); vectors and scalars."""
    if name in ("B", "D"):
        return {name: np.moveaxis(array, 2, 0)}
    if name == "A" and array.ndim == 3:
        return {"A": array[:, :, 0], "A_backward": array[:, :, 1]}
    if name == "transit":
        return {name: array.ravel()}
    return {name: array.reshape(()) if array.size == 1 else array}


def parameters(spm, prefix):
    found = {}
    for name in PARAMETERS:
        if f"{prefix}_{name}" in spm:
            found |= own_layout(name, spm[f"{prefix}_{name}"])
    return found


def by_region(vector, n):
    """SPM stacks states column by column: (states * regions, ...) to (regions, states, ...)."""
    return np.swapaxes(vector.reshape(-1, n, *vector.shape[1:]), 0, 1)


def prior(spm, variant):
    prefix = f"prior_{variant}_pE"
    table = {f"{k}_mean": v for k, v in parameters(spm, prefix).items()}
    variances, start = spm[f"prior_{variant}_pCdiag"].ravel(), 0
    for name in PARAMETERS:
        mean = spm.get(f"{prefix}_{name}")
        if mean is None:
            continue
        entries = variances[start : start + mean.size].reshape(mean.shape, order="F")
        table |= {f"{k}_variance": v for k, v in own_layout(name, entries).items()}
        start += mean.size
    assert start == variances.size
    return table


def pointwise_case(spm, case):
    prefix, n = f"fx_{case}", len(spm[f"fx_{case}_x"])
    columns = spm[f"{prefix}_f"].size
    analytic = {"dfdx_analytic": "dfdx"} if case.startswith(("bilinear", "nob")) else {}
    table = parameters(spm, f"{prefix}_P")
    table |= {"x": spm[f"{prefix}_x"], "u": spm[f"{prefix}_u"].ravel()}
    table |= {"f": by_region(spm[f"{prefix}_f"][:, 0], n), "g": spm[f"{prefix}_g"].ravel()}
    for name, source in {"dfdx": "dfdx_central", **analytic}.items():
        rows = by_region(spm[f"{prefix}_{source}"], n).reshape(-1, columns)
        table[name] = by_region(rows.T, n).reshape(n, -1, n, columns // n).transpose(2, 3, 0, 1)
    table["dfdu"] = by_region(spm[f"{prefix}_dfdu_central"], n)
    table["dgdx"] = np.moveaxis(by_region(spm[f"{prefix}_dgdx"].T, n), 2, 0)
    return table


def convert_pointwise(spm):
    result = {}
    for variant in ("bilinear", "nonlinear", "twostate", "twostate_backwards", "nob"):
        for i in range(1, 6):
            case = f"{variant}_{i}"
            result |= {f"{case}/{k}": v for k, v in pointwise_case(spm, case).items()}
    for variant in ("bilinear", "nonlinear", "twostate", "twostate_backwards"):
        result |= {f"prior_{variant}/{k}": v for k, v in prior(spm, variant).items()}
    result |= {f"switches/{k}": own_layout(k, spm[f"adj_{k.lower()}"])[k] for k in "ABCD"}
    return result


def convert_predictions(spm):
    result = {}
    for design in ("block", "event"):
        result |= {f"{design}/inputs": spm[f"u_{design}"]}
        for case in (f"{design}_bil1", f"{design}_bil2", f"nonlin_{design}", f"twostate_{design}"):
            result |= {f"{case}/{k}": v for k, v in parameters(spm, f"{case}_P").items()}
    result |= {f"nonint/{k}": v for k, v in parameters(spm, "nonint_P").items()}
    result["nonint/inputs"] = spm["nonint_u"]
    # Predictions at every micro-time bin are left out for their size.
    wanted = ("y", "yJ", "bireduce", "delays", "M0", "M1", "M2")
    for key, value in spm.items():
        words = key.split("_")
        case = "nonint" if words[0] == "nonint" else "_".join(words[:2])
        rest = key.removeprefix(case + "_")
        if not rest.startswith(wanted) or "micro" in rest or f"{case}/A" not in result:
            continue
        result[f"{case}/{rest}"] = value.ravel() if rest.startswith("delays") else value
    return result


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for source, target, convert in (
        ("g1_pointwise", "spm_pointwise", convert_pointwise),
        ("g2_integration", "spm_predictions", convert_predictions),
    ):
        with np.load(folder / f"{source}.npz") as arrays:
            np.savez_compressed(HERE / f"{target}.npz", **convert(dict(arrays)))
