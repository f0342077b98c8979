"""Make spm_evoked.npz from arrays that SPM wrote; see README.md.

    python tests/data/convert_evoked.py FOLDER

FOLDER holds input.npz, integration_MODEL.npz of two models, inv_erp_2src_lfp.npz,
inv_cmc_2src_lfp.npz and inv_erp_5src_ecd.npz. Axes and names become this package's and times
become s, numbers stay as they are.
"""

import sys
from pathlib import Path

import numpy as np
from convert_sources import SWITCHES, parameters

HERE = Path(__file__).parent
INVERSIONS = ("erp_2src_lfp", "cmc_2src_lfp", "erp_5src_ecd")
# Networks, draws, and every how many samples are kept.
DRAWS = {"one": (("r1",), 4), "two": (("r0", "r1", "r2"), 2), "mmn": (("r1", "r2"), 8)}
STATES = {"gen1": "first", "gen2": "second", "gen2_dx1e6": "second_small_step"}


def inputs(spm):
    """Inputs by `spm_erp_u`, from times and parameters."""
    table = {}
    for case in (f"c{i}" for i in range(1, 6)):
        table[f"{case}/times"] = spm[f"{case}__t"].ravel()
        table[f"{case}/onset"] = spm[f"{case}__ons"].ravel() / 1000
        table[f"{case}/duration"] = spm[f"{case}__dur"].ravel() / 1000
        table[f"{case}/timing"] = spm[f"{case}__R"]
        table[f"{case}/sustained"] = spm[f"{case}__sus"]
        table[f"{case}/u"] = spm[f"{case}__u"]
    return table


def by_source(states, n):
    """States (times, states x sources, the source fastest) as (times, sources, states)."""
    return states.reshape(len(states), -1, n).swapaxes(1, 2)


def integration(spm, model):
    """States of two conditions, by both steps of SPM's differences."""
    table = {"dt": spm["dt"], "n_times": spm["ns"]}
    table |= {"onset": spm["ons"] / 1000, "duration": spm["dur"] / 1000}
    for network, (draws, every) in DRAWS.items():
        for draw in draws:
            prefix = f"{network}__{draw}__"
            found = parameters(spm, f"{prefix}P__", model)
            n = len(found["C"])
            table |= {f"{network}/{draw}/P/{k}": v for k, v in found.items()}
            for old, new in STATES.items():
                states = by_source(spm[prefix + old], n)
                table[f"{network}/{draw}/{new}"] = states[every - 1 :: every]
    return table


def deviations(spm):
    """Posterior standard deviations in the shapes of SPM's parameters."""
    names = [k for k in spm if k.startswith("Ep__") and k != "Ep__vec"]
    sd, start, found = np.sqrt(np.diag(spm["Cp"])), 0, {}
    for name in names:
        shape, size = spm[name].shape, spm[name].size
        found[name.replace("Ep", "sd")] = sd[start : start + size].reshape(shape, order="F")
        start += size
    assert start == len(sd)
    return found


def inversion(spm, model):
    """A simulated data set, and what `spm_dcm_erp` made of it."""
    table = {own: np.atleast_2d(spm[symbol]) for own, symbol in SWITCHES.items()}
    table["modulation"] = table["modulation"][None]
    table |= {"signal": np.stack([spm["y1"], spm["y2"]]), "times": spm["pst"].ravel() / 1000}
    table |= {"onset": spm["onset"] / 1000, "duration": spm["dur"] / 1000}
    table |= {"modes": spm["U_modes"], "n_confounds": np.array(spm["X0"].shape[1])}
    table["features"] = np.stack([spm["yf1"], spm["yf2"]])
    table |= {f"mean/{k}": v for k, v in parameters(spm, "Ep__", model).items()}
    table |= {f"sd/{k}": v for k, v in parameters(deviations(spm), "sd__", model).items()}
    spatial = "moment" if "leadfield_raw" in spm else "gain"
    sd = np.sqrt(np.diag(spm["Cg"]))
    strength, n_positions = spm["Eg__L"], spm["Eg__Lpos"].size
    for name, start, value in (
        (spatial, n_positions, strength),
        ("contribution", n_positions + strength.size, spm["Eg__J"]),
    ):
        deviation = sd[start : start + value.size].reshape(value.shape, order="F")
        for kind, array in (("mean", value), ("sd", deviation)):
            table[f"{kind}/{name}"] = array.ravel() if len(array) == 1 else array.T
    if spatial == "moment":
        table["lead_field"] = np.moveaxis(spm["leadfield_raw"], 2, 0)
    table["accepted"] = spm["trace_accepted"].ravel()
    last = np.flatnonzero(table["accepted"])[-1]
    table |= {"F": spm["F"], "log_precision": spm["trace_h"].ravel()[last]}
    table["free_energies"] = spm["trace_F_eval"].ravel()
    return table


if __name__ == "__main__":
    folder = Path(sys.argv[1])

    def load(name):
        with np.load(folder / f"{name}.npz") as arrays:
            return dict(arrays)

    found = {f"input/{k}": v for k, v in inputs(load("input")).items()}
    for model in ("erp", "cmc"):
        table = integration(load(f"integration_{model}"), model)
        found |= {f"integration/{model}/{k}": v for k, v in table.items()}
    for case in INVERSIONS:
        table = inversion(load(f"inv_{case}"), case[:3])
        found |= {f"inversion/{case}/{k}": v for k, v in table.items()}
    np.savez_compressed(HERE / "spm_evoked.npz", **found)
