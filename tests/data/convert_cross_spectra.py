"""Make `spm_cross_spectra.npz` from the reference arrays csd_forward_* and inv_csd_*.

python convert_cross_spectra.py FOLDER_OF_THE_MEEG_REFERENCE
"""

import sys
from pathlib import Path

import numpy as np

folder, arrays = Path(sys.argv[1]), {}


def joined(reference, name):
    return reference[f"{name}_re"] + 1j * reference[f"{name}_im"]


for neural in ("erp", "cmc", "lfp"):
    reference = np.load(folder / f"csd_forward_{neural}.npz")
    arrays[f"forward/{neural}/frequencies"] = reference["Hz"].ravel()
    for network in ("one", "two"):
        for draw in ("r0", "r1", "r2"):
            source, target = f"{network}__{draw}", f"forward/{neural}/{network}/{draw}"
            for name in ("csd", "mtf"):
                arrays[f"{target}/{name}"] = joined(reference, f"{source}__{name}")
            for key in reference.files:
                if key.startswith(f"{source}__P__") and not key.endswith("vec"):
                    arrays[f"{target}/P/{key.split('__')[-1]}"] = reference[key]
        for i in (1, 2, 3):
            arrays[f"forward/{neural}/{network}/A{i}"] = reference[f"{network}__A{i}"]

reference = np.load(folder / "pointwise_cmm.npz")
for network in ("one", "two"):
    for i in (1, 2, 3):
        arrays[f"pointwise/cmm/{network}/A{i}"] = reference[f"{network}__A{i}"]
    for draw in ("r1", "r2"):
        for key in reference.files:
            source = f"{network}__{draw}__"
            if key.startswith(source) and not key.endswith("vec"):
                name = key[len(source) :].replace("__", "/")
                if name.startswith("P/") or name in ("x", "u", "f", "J", "D"):
                    arrays[f"pointwise/cmm/{network}/{draw}/{name}"] = reference[key]

for name in ("erp_1src", "erp_2src", "cmc_1src"):
    reference = np.load(folder / f"inv_csd_{name}.npz")
    target = f"inversion/{name}"
    arrays[f"{target}/frequencies"] = reference["Hz"].ravel()
    for key in ("csd_data", "csd_scaled", "csd_pred"):
        arrays[f"{target}/{key}"] = joined(reference, key)
    for key in reference.files:
        if key.startswith("Ep__") and key != "Ep__vec":
            arrays[f"{target}/Ep/{key.split('__')[-1]}"] = reference[key]
    # In the order of the fields.
    arrays[f"{target}/order"] = np.array(
        [k.split("__")[-1] for k in reference.files if k.startswith("Ep__") and k != "Ep__vec"]
    )
    arrays[f"{target}/sd"] = np.sqrt(np.diag(reference["Cp"]))
    arrays[f"{target}/iterations"] = np.asarray(len(reference["trace_F_eval"]))
    for key in ("F", "Eh", "A1", "A2", "A3"):
        arrays[f"{target}/{key}"] = reference[key]
np.savez_compressed(Path(__file__).with_name("spm_cross_spectra.npz"), **arrays)
