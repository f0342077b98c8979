"""The "nonlinear" integrator against an adaptive solution of the published equations at 1e-10."""

import numpy as np
import pytest

from bayesdcm.models import TaskDCM

ONES = {"A": np.ones((3, 3)), "B": np.ones((2, 3, 3)), "C": np.ones((3, 2))}
MODELS = {
    "bil": TaskDCM(**ONES),
    "two": TaskDCM(**ONES, two_state=True),
    "non": TaskDCM(**ONES, D=np.ones((3, 3, 3))),
}
# Largest error as a part of the peak. The bar is 1e-4; some 1e-6 to 1e-5 is what comes out.
TOLERANCE = 2e-5
SCANS = 45
STAGGERED = np.array([0.3, 1.08, 1.56])
ENDS = np.array([0.0, 2.0, 1.0])


def random_blocks(input_dt, seed=7):
    """Blocks of 4 to 12 s with gaps as long, in bins of a given width."""
    rng = np.random.default_rng(seed)
    inputs = np.zeros((round(2 * SCANS / input_dt), 2))
    for column in inputs.T:
        edges = np.cumsum(np.round(rng.uniform(4, 12, 40) / input_dt)).astype(int)
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            column[start:stop] = 1.0
    return inputs


# Name of the case in SPM's arrays, whose parameters are used, factor on C, inputs, delays (s), and
# the least that the response's peak must be (percent), so that no case is an easy one by mistake.
CASES = {
    "block": ("block_bil1", 1.7, "block", None, 5.5),
    "block staggered": ("block_bil2", 1.0, "block", STAGGERED, 5.0),
    "event": ("event_bil1", 4.0, "event", ENDS, 4.5),
    "event staggered": ("event_bil2", 3.0, "event", STAGGERED, 3.0),
    "bins of 0.5 s": ("block_bil1", 1.7, 0.5, STAGGERED, 5.0),
    "bins of 1 s": ("block_bil2", 1.5, 1.0, ENDS, 5.0),
    "one bin a scan": ("block_bil2", 1.5, 2.0, None, 5.0),
    "two-state block": ("twostate_block", 6.0, "block", STAGGERED, 5.0),
    "two-state event": ("twostate_event", 5.0, "event", None, 3.0),
    "two-state, bins of 1 s": ("twostate_block", 6.0, 1.0, ENDS, 5.0),
    "gated block": ("nonlin_block", 2.0, "block", STAGGERED, 5.0),
    "gated event": ("nonlin_event", 2.0, "event", None, 3.5),
    "gated, bins of 1 s": ("nonlin_block", 2.0, 1.0, ENDS, 5.0),
}


@pytest.mark.parametrize("case", CASES)
def test_nonlinear_integrator(spm, spm_parameters, make_design, solve, case):
    source, factor, inputs, delays, peak = CASES[case]
    kind = next(kind for kind in MODELS if kind in source)
    parameters = spm_parameters(source)
    parameters["C"] = parameters["C"] * factor
    if isinstance(inputs, str):
        design = make_design(spm[f"{inputs}/inputs"][: SCANS * 16], SCANS, delays)
    else:
        design = make_design(random_blocks(inputs), SCANS, delays, input_dt=inputs)
    expected = solve(parameters, design, two_state=kind == "two")
    largest = np.abs(expected).max()
    assert peak < largest < 12
    error = np.abs(np.asarray(MODELS[kind].predict(parameters, design)) - expected).max()
    assert error < TOLERANCE * largest
