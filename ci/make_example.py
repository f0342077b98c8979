"""Make bayesdcm/data/examples/attention.npz, simulated data on attention to motion.

    python ci/make_example.py [FILE]

Every number in the file follows from this script, so that anyone can make it again.
"""

import sys
from pathlib import Path

import numpy as np

from bayesdcm.data import BoldDesign
from bayesdcm.models import TaskDCM

FILE = Path(__file__).parents[1] / "bayesdcm" / "data" / "examples" / "attention.npz"
# The signal then spans less than 4 %, so that scaling leaves it as it is and the posterior can be
# held against the parameters, and the posterior is neither lucky nor unlucky.
SEED = 9
REGIONS = ("V1", "V5", "SPC")
INPUTS = ("Photic", "Motion", "Attention")
REPETITION_TIME = 3.22  # s
SCANS_PER_BLOCK = 10
SIGNAL_TO_NOISE = 2.0
DRIFTS = 6

# One letter a block: fixation, static dots, moving dots, moving dots attended to.
BLOCKS = "FMSAFASMFFAMSFSAMFFSMAFMASFFMAFSAMSF"
ON = {"Photic": "SMA", "Motion": "MA", "Attention": "A"}

# Vision drives V1; the three regions form a chain in both directions; motion opens the way from V1
# to V5, attention that from SPC back to V5.
STRUCTURE = {
    "A": np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]]),
    "B": np.zeros((3, 3, 3)),
    "C": np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]]),
}
STRUCTURE["B"][1, 1, 0] = STRUCTURE["B"][2, 1, 2] = 1
PARAMETERS = {
    "A": np.array([[0.0, -0.15, 0.0], [0.1, -0.05, 0.05], [0.0, 0.4, 0.05]]),
    "B": np.zeros((3, 3, 3)),
    "C": np.array([[0.9, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    "transit": np.array([0.05, -0.03, 0.02]),
    "decay": np.array(0.04),
    "epsilon": np.array(-0.03),
}
PARAMETERS["B"][1, 1, 0] = 0.3
PARAMETERS["B"][2, 1, 2] = 0.25


def events():
    """Onsets and durations (s) of the blocks in which each input is on."""
    length = SCANS_PER_BLOCK * REPETITION_TIME
    rows = [
        (i * length, length, name)
        for name, letters in ON.items()
        for i, block in enumerate(BLOCKS)
        if block in letters
    ]
    onset, duration, trial_type = zip(*rows, strict=True)
    return {
        "onset": np.array(onset),
        "duration": np.array(duration),
        "trial_type": np.array(trial_type),
    }


def slow_cosines(n_scans):
    """A constant and cosines of up to so many half periods in the run, (scans, 1 + DRIFTS)."""
    scan = np.arange(n_scans)[:, None] + 0.5
    return np.cos(np.pi * scan * np.arange(DRIFTS + 1) / n_scans)


def arrays():
    """Everything that the file holds."""
    n_scans = len(BLOCKS) * SCANS_PER_BLOCK
    table, confounds = events(), slow_cosines(n_scans)
    design = BoldDesign.from_events(
        n_scans, REPETITION_TIME, table | {"trial_type": table["trial_type"].tolist()}, REGIONS
    )
    model = TaskDCM(**STRUCTURE)
    simulated = model.simulate(PARAMETERS, design, seed=SEED, snr=SIGNAL_TO_NOISE)
    drifts = np.random.default_rng(SEED + 1).normal(size=(DRIFTS + 1, len(REGIONS)))
    drifts *= 0.1 / (1 + np.arange(DRIFTS + 1))[:, None]
    return {
        "signal": simulated.signal + confounds @ drifts,
        "repetition_time": np.array(REPETITION_TIME),
        "confounds": confounds,
        "region_names": np.array(REGIONS),
        "input_names": np.array(INPUTS),
        **{f"events_{name}": column for name, column in table.items()},
        **{f"structure_{name}": switches.astype(float) for name, switches in STRUCTURE.items()},
        **{f"parameters_{name}": value for name, value in PARAMETERS.items()},
    }


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    np.savez_compressed(file, **arrays())
