"""The input of evoked responses against SPM's."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from bayesdcm.integrate.evoked_input import stimulus_input


@pytest.fixture(scope="module")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_evoked.npz") as arrays:
        return {k.removeprefix("input/"): v for k, v in arrays.items() if k.startswith("input/")}


@pytest.mark.parametrize("case", [f"c{i}" for i in range(1, 6)])
def test_inputs_are_those_of_spm(spm, case):
    case = {k.split("/")[1]: v for k, v in spm.items() if k.startswith(f"{case}/")}
    u = stimulus_input(
        case["times"], case["onset"], case["duration"], case["timing"], float(case["sustained"])
    )
    np.testing.assert_allclose(u, case["u"], rtol=0, atol=1e-13 * np.abs(case["u"]).max())


def test_the_cases_have_two_inputs_and_a_sustained_one(spm):
    assert spm["c4/u"].shape == (80, 2)
    assert max(spm[f"c{i}/sustained"] for i in range(1, 6)) > 0


def test_parameters_move_and_widen_the_peak():
    times = np.linspace(0, 0.3, 301)
    early, late = (
        np.asarray(stimulus_input(times, 0.06, 0.016, np.array([[shift, width]])))[:, 0]
        for shift, width in ((0.0, 0.0), (0.5, np.log(2)))
    )
    assert times[early.argmax()] == pytest.approx(0.06) and early.max() == pytest.approx(32.0)
    # 128 ms a unit, and twice the standard deviation.
    assert times[late.argmax()] == pytest.approx(0.124) and late.max() == pytest.approx(32.0)
    above = [times[u > 16] for u in (early, late)]
    assert np.ptp(above[1]) == pytest.approx(2 * np.ptp(above[0]), abs=0.003)


@pytest.mark.parametrize("sustained", [0.0, 0.6])
def test_derivatives_by_both_modes(sustained):
    times, timing = np.linspace(0, 0.2, 11), jnp.array([[0.2, -0.1], [-0.1, 0.3]])
    check_grads(
        lambda timing: stimulus_input(times, 0.06, 0.016, timing, sustained),
        (timing,),
        order=1,
        modes=("fwd", "rev"),
        atol=1e-5,
        rtol=1e-5,
    )
