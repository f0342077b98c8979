"""The "bilinear" integrator against predictions that SPM's integrators wrote."""

import numpy as np
import pytest
import scipy.linalg

from bayesdcm.models import TaskDCM
from bayesdcm.observe import bold_signal

# Compiled as users compile: rounding decides whether a step is the last.
pytestmark = pytest.mark.usefixtures("optimized_file")

CASES = ("block_bil1", "block_bil2", "event_bil1", "event_bil2")
ONES = {"A": np.ones((3, 3)), "B": np.ones((2, 3, 3)), "C": np.ones((3, 2))}
BILINEAR = TaskDCM(**ONES, integrator="bilinear")
# SPM's forward differences move predictions by some 5e-4 of the peak; ours are exact.
AS_SHIPPED = 2e-3
EXACT = 1e-11


def relative(prediction, expected):
    """Largest difference as a part of the largest value."""
    return np.abs(np.asarray(prediction) - expected).max() / np.abs(expected).max()


@pytest.fixture
def inputs(spm):
    return lambda case: spm["event/inputs" if "event" in case else "block/inputs"]


@pytest.mark.parametrize("case", CASES)
def test_exact_derivatives(spm, spm_parameters, make_design, inputs, case):
    prediction = BILINEAR.predict(spm_parameters(case), make_design(inputs(case), 120))
    assert relative(prediction, spm[f"{case}/y_halfTR_exactderiv"]) < EXACT


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("setting", ["default", "halfTR", "regional", "TR"])
def test_delays(spm, spm_parameters, make_design, inputs, case, setting):
    delays = None if setting == "default" else spm[f"{case}/delays_{setting}"]
    design = make_design(inputs(case), 120, delays)
    prediction = BILINEAR.predict(spm_parameters(case), design)
    np.testing.assert_array_equal(design.slice_delays, spm[f"{case}/delays_{setting}"])
    assert relative(prediction, spm[f"{case}/y_{setting}"]) < AS_SHIPPED
    if setting == "TR":  # what SPM does where no delays are given
        assert relative(prediction, spm[f"{case}/y_nodelays"]) < AS_SHIPPED


@pytest.mark.parametrize("case", CASES)
def test_centred_inputs(spm, spm_parameters, make_design, inputs, case):
    design = make_design(inputs(case), 120).centred_inputs()
    prediction = BILINEAR.predict(spm_parameters(case), design)
    assert relative(prediction, spm[f"{case}/y_halfTR_centred"]) < AS_SHIPPED


def test_bins_that_do_not_divide_the_scans(spm, spm_parameters, make_design):
    design = make_design(spm["nonint/inputs"], 63, spm["nonint/delays"], input_dt=0.15)
    prediction = BILINEAR.predict(spm_parameters("nonint"), design)
    assert relative(prediction, spm["nonint/y"]) < AS_SHIPPED


@pytest.mark.parametrize("design", ["block", "event"])
def test_two_states(spm, spm_parameters, make_design, design):
    model = TaskDCM(**ONES, two_state=True, integrator="bilinear")
    case = f"twostate_{design}"
    prediction = model.predict(spm_parameters(case), make_design(spm[f"{design}/inputs"], 120))
    assert relative(prediction, spm[f"{case}/y"]) < AS_SHIPPED


def gated_model(integrator="bilinear"):
    with pytest.warns(UserWarning, match="linear neuronal term acts twice"):
        return TaskDCM(**ONES, D=np.ones((3, 3, 3)), integrator=integrator)


@pytest.mark.parametrize("design", ["block", "event"])
def test_gating(spm, spm_parameters, make_design, design):
    case = f"nonlin_{design}"
    made = make_design(spm[f"{design}/inputs"], 120)
    parameters = spm_parameters(case)
    assert relative(gated_model().predict(parameters, made), spm[f"{case}/y"]) < AS_SHIPPED
    # D plays no part in the expansion about rest: SPM's other integrator ignores it.
    without = {name: value for name, value in parameters.items() if name != "D"}
    assert relative(BILINEAR.predict(without, made), spm[f"{case}/y_bilinear"]) < AS_SHIPPED


def spm_int_D(operators, design, delays):
    """SPM's scheme for gating in plain NumPy: operators M0, M1 (inputs), M2 (regions)."""
    M0, M1, M2 = operators
    inputs, dt, n_scans, n = design.inputs, design.input_dt, design.n_scans, design.n_regions
    n_bins = len(inputs)
    offset = max(round(delays[0] / dt), 1)
    starts = [-(-k * n_bins // n_scans) for k in range(n_scans)]
    updates = n_scans * round(max(design.repetition_time, 1))
    grid = {-(-k * n_bins // updates) + offset - 1 for k in range(updates)}
    changes = {b for b in range(1, n_bins) if (inputs[b] != inputs[b - 1]).any()}
    samples = [s + offset - 1 for s in starts]
    events = sorted({0} | changes | grid | set(samples))
    z, read = np.zeros(len(M0)), {}
    z[0] = 1.0
    for event, following in zip(events, [*events[1:], events[-1]], strict=True):
        read[event] = z
        generator = M0 + np.tensordot(inputs[event], M1, 1) + np.tensordot(z[1 : n + 1], M2, 1)
        z = scipy.linalg.expm(generator * (following - event) * dt) @ z
    states = np.array([read[s][1:].reshape(-1, n) for s in samples])
    return np.exp(states[:, 3]), np.exp(states[:, 4])


@pytest.mark.exhaustive
def test_gating_differs_from_spm_by_its_finite_differences_only(
    spm, spm_parameters, make_design, operators
):
    """SPM's operators give SPM's signal and exact operators ours, by one and the same scheme."""
    design = make_design(spm["event/inputs"][:640], 40)
    parameters = spm_parameters("nonlin_event")
    expected = spm["nonlin_event/y"][:40]
    shipped = [spm["nonlin_event/M0"]]
    shipped.append(np.stack([spm[f"nonlin_event/M1_{j}"] for j in (1, 2)]))
    shipped.append(np.stack([spm[f"nonlin_event/M2_{i}"] for i in (1, 2, 3)]))
    v, q = spm_int_D(shipped, design, [1.0])
    assert relative(bold_signal(v, q, parameters["epsilon"]), expected) < EXACT
    v, q = spm_int_D(operators(parameters, None), design, [1.0])
    ours = gated_model().predict(parameters, design)
    assert relative(ours, bold_signal(v, q, parameters["epsilon"])) < EXACT
    plain = gated_model().response(parameters, gated_model().time_grid(design))  # not compiled
    assert relative(plain, ours) < EXACT


@pytest.mark.parametrize("case", ["nonlin_block", "nonlin_event", *CASES])
def test_operators(spm, spm_parameters, operators, case):
    """SPM's own step of differentiation, applied to our equations, gives SPM's operators."""
    prefix = f"{case}/" if "nonlin" in case else f"{case}/bireduce_"
    made = operators(spm_parameters(case), np.exp(-8))
    names = {"M0": [""], "M1": ["_1", "_2"], "M2": ["_1", "_2", "_3"]}
    for (name, suffixes), operator in zip(names.items(), made, strict=True):
        stack = operator.reshape(-1, 16, 16)
        for suffix, matrix in zip(suffixes, stack, strict=True):
            key = f"{prefix}{name}{suffix}"
            if key in spm:
                np.testing.assert_allclose(matrix, spm[key], rtol=0, atol=1e-9)
    assert f"{prefix}M0" in spm


@pytest.mark.parametrize("design", ["block", "event"])
def test_nonlinear_integrator_against_local_linearisation(spm, spm_parameters, make_design, design):
    """SPM's spm_int_J solves the published equations; its own error is about 1e-5 here."""
    case = f"{design}_bil1"
    parameters = spm_parameters(case)
    parameters |= {"C": parameters["C"] * 0.2}
    made = make_design(spm[f"{design}/inputs"], 120)
    assert relative(TaskDCM(**ONES).predict(parameters, made), spm[f"{case}/yJ_smallC"]) < 2e-5
    assert relative(BILINEAR.predict(parameters, made), spm[f"{case}/y_smallC"]) < AS_SHIPPED
