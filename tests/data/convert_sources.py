"""Make the reference arrays of the models of sources from arrays that SPM wrote; see README.md.

    python tests/data/convert_sources.py FOLDER

FOLDER holds pointwise_MODEL.npz of four models, integration_erp.npz and integration_cmc.npz. Axes
and names become this package's, numbers stay as they are.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
NETWORKS = ("one", "two", "mmn")
MODELS = ("erp", "cmc", "lfp", "nmda")
SWITCHES = {"forward": "A1", "backward": "A2", "lateral": "A3", "modulation": "B1", "inputs": "C"}
NAMES = {
    "erp": {
        "T": "time_constant",
        "G": "synaptic_gain",
        "S": "activation",
        "H": "intrinsic",
        "D": "delay",
        "R": "input_timing",
    },
    "cmc": {
        "M": "modulatory",
        "N": "modulatory_effect",
        "T": "time_constant",
        "G": "intrinsic",
        "D": "delay",
        "S": "activation",
        "R": "input_timing",
    },
    "lfp": {
        "R": "activation",
        "T": "time_constant",
        "G": "synaptic_gain",
        "H": "intrinsic",
        "D": "delay",
        "I": "intrinsic_delay",
    },
    "nmda": {
        "S": "activation",
        "T": "time_constant",
        "G": "intrinsic",
        "R": "input_timing",
        "D": "delay",
        "U": "background",
        "CV": "capacitance",
    },
}
# Vectors that SPM keeps as a row or a column, and arrays that it stores as scalars.
VECTORS = {
    "erp": {"activation", "intrinsic"},
    "cmc": {"time_constant"},
    "lfp": {"activation", "synaptic_gain"},
    "nmda": {"time_constant", "intrinsic", "delay"},
}
SCALARS = {"cmc": {"activation"}, "nmda": {"activation", "background", "capacitance"}}


def parameters(spm, prefix, model):
    """A set of parameters under this package's names and shapes."""
    fields = {k.removeprefix(prefix): v for k, v in spm.items() if k.startswith(prefix)}
    result = {}
    for own, symbol in (("A", "A"), ("B", "B"), ("modulatory_effect", "N")):
        parts = sorted(k for k in fields if k[:1] == symbol and k[1:].isdigit())
        if parts:
            result[own] = np.stack([np.atleast_2d(fields[k]) for k in parts])
    result["C"] = np.atleast_2d(fields["C"])
    for symbol, own in NAMES[model].items():
        if symbol in fields:
            value = fields[symbol]
            if own in VECTORS[model]:
                value = value.ravel()
            elif own not in SCALARS.get(model, ()) and own != "intrinsic_delay":
                value = np.atleast_2d(value)
            result[own] = value
    return result


def pointwise(spm, model):
    result = {}
    for network in NETWORKS:
        for kind, name in (("pE", "mean"), ("pC", "variance")):
            for own, value in parameters(spm, f"{network}__{kind}__", model).items():
                result[f"{model}/{network}/{name}/{own}"] = value
        result[f"{model}/{network}/rest"] = spm[f"{network}__x0"].ravel()
        for draw in ("r0", "r1", "r2"):
            prefix = f"{network}__{draw}__"
            for own, value in (
                parameters(spm, f"{prefix}P__", model).items() if draw != "r0" else ()
            ):
                result[f"{model}/{network}/{draw}/P/{own}"] = value
            for name in ("x", "u", "f", "J", "D", "Jexact"):
                if prefix + name in spm:
                    value = spm[prefix + name]
                    vector = name in ("x", "u", "f")
                    result[f"{model}/{network}/{draw}/{name}"] = value.ravel() if vector else value
    return result


def conditions(spm, model):
    """Parameters before and after spm_gen_Q added the first effect."""
    result = {}
    for network in NETWORKS:
        for draw in ("r1", "r2"):
            if f"{network}__{draw}__Q2__vec" not in spm:
                continue
            for kind, name in (("P__", "P"), ("Q2__", "Q")):
                prefix = f"{network}__{draw}__{kind}"
                # SPM takes the effects out of the parameters of a condition.
                for own, value in parameters(spm, prefix, model).items():
                    if not (name == "Q" and own in ("B", "modulatory_effect")):
                        result[f"condition/{model}/{network}/{draw}/{name}/{own}"] = value
    return result


if __name__ == "__main__":
    folder, table = Path(sys.argv[1]), {}
    for model in MODELS:
        with np.load(folder / f"pointwise_{model}.npz") as arrays:
            spm = dict(arrays)
        table |= pointwise(spm, model)
    # All models have the same networks.
    for network in NETWORKS:
        for own, symbol in SWITCHES.items():
            value = np.atleast_2d(spm[f"{network}__{symbol}"])
            table[f"switches/{network}/{own}"] = value[None] if symbol == "B1" else value
    for model in ("erp", "cmc"):
        with np.load(folder / f"integration_{model}.npz") as arrays:
            table |= conditions(dict(arrays), model)
    np.savez_compressed(HERE / "spm_sources.npz", **table)
