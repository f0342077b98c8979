"""The laminar column and its DCM, against plain NumPy, simple cases and hnn-core's dipoles."""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from bayesdcm import BoldData, DipoleData, Drive, LaminarDCM, fit
from bayesdcm.data.drive import CELLS
from bayesdcm.integrate.exponential_euler import ExponentialEuler, jitter
from bayesdcm.neural import LaminarColumn
from bayesdcm.neural import laminar_equations as equations

PROXIMAL = [[0.0036, 0.0039, 0.0019, 0.002], [0.0029, 0.0005, 0.003, 0.0019]]
DISTAL = [[0.0043, 0.0032, None, 0.0009], [0.0029, 0.0051, None, 0.001]]


def drive(name, location, time, spread=0.0, **options):
    """A drive with the weights of hnn-core's somatosensory example."""
    ampa, nmda = (
        {cell: weight for cell, weight in zip(CELLS, kind, strict=True) if weight}
        for kind in (PROXIMAL if location == "proximal" else DISTAL)
    )
    return Drive(name, location, time, spread, ampa, nmda, **options)


TWO = (drive("first", "proximal", 25.0), drive("second", "distal", 70.0))


def empty(times=None, **options):
    """Data of which only times, noise and smoothing count."""
    times = np.arange(-0.03, 0.171, 0.001) if times is None else times
    return DipoleData(1e-12 * np.sin(40 * times), times, **({"noise_sd": 1e-13} | options))


def means(model):
    return {prior.name: np.asarray(prior.mean) for prior in model.priors}


@cache
def peak(tau1, tau2):
    """Largest difference of two exponentials."""
    found = minimize_scalar(
        lambda t: np.exp(-t / tau1) - np.exp(-t / tau2), bounds=(0, 50), options={"xatol": 1e-9}
    )
    return -found.fun


def plain_step(x, u, constants, h):
    """One step in loops over compartments and synapses, from the equations as they are written."""
    names, synapses = equations.COMPARTMENTS, equations.SYNAPSES
    voltage = dict(zip(names, x[:6], strict=True))
    gate = dict(zip(equations.PYRAMIDAL, x[6:10], strict=True))
    rise, decay = x[10:30], x[30:50]
    value = dict(zip(equations.NAMES, constants, strict=True))

    def sigmoid(v, kind, of):
        threshold, slope = value[f"{kind}threshold: {of}"], value[f"{kind}slope: {of}"]
        at_rest = 1 / (1 + np.exp(threshold / slope))
        more = max(1 / (1 + np.exp(-(v + 65 - threshold) / slope)) - at_rest, 0.0)
        return more**2 / (more + 0.01)

    somata = dict(zip(equations.POPULATIONS, ("L2 soma", "L5 soma", *names[4:]), strict=True))
    fired = {p: value[f"highest rate: {p}"] * sigmoid(voltage[s], "", p) for p, s in somata.items()}
    conductance = {}
    for k, synapse in enumerate(synapses):
        conductance[synapse] = (decay[k] - rise[k]) / peak(
            *equations.RECEPTORS[synapse.split()[-1]]
        )
    new = np.zeros(50)
    for i, name in enumerate(names):
        excitation = sum(conductance[f"drive to {name} {kind}"] for kind in ("AMPA", "NMDA"))
        inhibition = 0.0
        for target, synapse in equations.EXCITATORY:
            if target == name:
                excitation += value[f"excitation: {synapse} to {name}"] * conductance[synapse]
        for target, synapse in equations.INHIBITORY:
            if target == name:
                inhibition += value[f"inhibition: {synapse} to {name}"] * conductance[synapse]
        total, towards = 1 + excitation + inhibition, -65.0 - 80 * inhibition
        if name in gate:
            other = name.replace("soma", "x").replace("apical", "soma").replace("x", "apical")
            coupling = value[f"coupling: {name}"]
            m = value[f"M-current: {name}"] * (gate[name] - 1 / (1 + np.exp(35 / 9)))
            total, towards = total + coupling + m, towards + coupling * voltage[other] - 77 * m
        rate = total / value[f"time constant: {name}"]
        new[i] = towards / total + (voltage[name] - towards / total) * np.exp(-h * rate)
    for i, name in enumerate(equations.PYRAMIDAL):
        v, layer = voltage[name], name.split()[0]
        speed = 0.249e-3 * (v + 30) / np.tanh((v + 30) / 18)
        event = fired[f"{layer} pyramidal"]
        if "apical" in name:
            event = 0.05 * sigmoid(v, "apical ", name)
        kick = value[f"opening: {name}"] * event
        target = (speed / (1 + np.exp(-(v + 30) / 9)) + kick) / (speed + kick)
        new[6 + i] = target + (gate[name] - target) * np.exp(-h * (speed + kick))
    for k, synapse in enumerate(synapses):
        tau1, tau2 = equations.RECEPTORS[synapse.split()[-1]]
        if synapse.startswith("drive"):
            _, _, *place, kind = synapse.split()
            i = names.index(" ".join(place)) + 6 * (kind == "NMDA")
            source = u[i] * value[f"drive {kind}: {' '.join(place)}"]
        else:
            source = fired[" ".join(synapse.split()[:2])]
        new[10 + k] = tau1 * source + (rise[k] - tau1 * source) * np.exp(-h / tau1)
        new[30 + k] = tau2 * source + (decay[k] - tau2 * source) * np.exp(-h / tau2)
    return new


def test_steps_are_those_of_the_equations_in_plain_numpy():
    column = LaminarColumn(TWO)
    at = {prior.name: jnp.asarray(prior.mean) for prior in column.priors()}
    at["column"] = jnp.asarray(0.3 * np.random.default_rng(0).normal(size=len(equations.NAMES)))
    solver, design = ExponentialEuler(), empty(np.arange(0, 0.08, 0.002))
    arrays = solver.prepare(column, None, design, {})
    states = jax.jit(lambda at: solver.solve(column, None, at, arrays))(at)
    steps = np.arange(0.25, 78, 0.5)
    inputs = np.asarray(column.input_series(1e-3 * steps, at, jnp.zeros(2)))
    constants = equations.calibration().values * np.exp(at["column"])
    x, rest = column.rest()[0], column.rest()[0]
    for k, u in enumerate(inputs):
        x = plain_step(x, u, constants, 0.5)
        np.testing.assert_allclose(states[k, 0], x - rest, rtol=0, atol=1e-8)
    assert np.abs(states[:, 0, :6]).max() > 1


def test_the_flow_is_what_steps_approach():
    column = LaminarColumn(TWO)
    parameters = {prior.name: jnp.asarray(prior.mean) for prior in column.priors()}
    x = jnp.asarray(column.rest() + np.random.default_rng(1).random((1, 50)))
    u, h = jnp.full(12, 1e-3), 1e-6
    step = plain_step(np.asarray(x[0]), np.asarray(u), equations.calibration().values, h)
    function = jax.jit(lambda x, u: column.flow(x, u, parameters))
    flow = function(x, u)[0]
    np.testing.assert_allclose(1e-3 * flow, (step - x[0]) / h, rtol=1e-4, atol=1e-4)
    assert np.abs(function(column.rest(), 0 * u)).max() < 1e-9


def test_rest_is_stable_and_firing_never_negative():
    """Nothing grows out of rest, and the column comes back to it; conductances stay positive."""
    column = LaminarColumn(TWO)
    parameters = {prior.name: jnp.asarray(prior.mean) for prior in column.priors()}
    still = jnp.zeros(column.n_inputs)
    jacobian = jax.jit(jax.jacfwd(lambda x: column.flow(x[None], still, parameters)[0]))(
        jnp.asarray(column.rest()[0])
    )
    # Slowest are gates of M-currents, some 0.3 s.
    assert np.linalg.eigvals(np.asarray(jacobian)).real.max() < -1.0

    times = np.arange(0.0, 0.8, 0.001)
    data = DipoleData(1e-12 * np.sin(40 * times), times, noise_sd=1e-13)
    with pytest.warns(UserWarning, match="calibrated on the first 170 ms"):
        model = LaminarDCM(TWO)
        response = np.abs(model.predict(means(model), data))
    assert response[-50:].max() < 0.02 * response.max()

    above = jnp.full((1, 6), -20.0)
    constants = equations.constants_of(jnp.asarray(equations.calibration().values))
    assert (equations.firing(above, constants) == 0).all()


def test_events_of_drives_carry_their_weights_after_their_delays():
    column = LaminarColumn((drive("first", "proximal", 20.0, n_events=2), TWO[1]))
    at = {prior.name: jnp.asarray(prior.mean) for prior in column.priors()}
    times = jnp.arange(0, 0.1, 1e-5)
    series = np.asarray(column.input_series(times, at, jnp.zeros(3)))
    area = 0.01 * series.sum(0)
    expected = np.zeros(12)
    expected[[0, 2, 4, 5]] = 2 * np.array(PROXIMAL[0])[[1, 3, 0, 2]]
    expected[[6, 8, 10, 11]] = 2 * np.array(PROXIMAL[1])[[1, 3, 0, 2]]
    expected[[1, 3]] = DISTAL[0][1], DISTAL[0][3]
    expected[[7, 9]] = DISTAL[1][1], DISTAL[1][3]
    expected[[4, 10]] += DISTAL[0][0], DISTAL[1][0]
    np.testing.assert_allclose(area, expected, rtol=1e-9, atol=1e-12)
    peaks = 1e3 * np.asarray(times)[series.argmax(0)]
    np.testing.assert_allclose(peaks[[0, 2, 1]], [20.1, 21.0, 70.1], atol=0.006)


def test_jitter_has_mean_zero_variance_one_and_is_uncorrelated():
    table = jitter(8, np.array([True, False, True, True, True]))
    assert (table[:, 1] == 0).all()
    moving = table[:, [0, 2, 3, 4]]
    np.testing.assert_allclose(moving.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(moving.std(0), 1, atol=1e-12)
    assert np.abs(np.corrcoef(moving.T) - np.eye(4)).max() < 0.2
    assert jitter(8, np.array([False])).shape == (1, 1)


def test_the_response_is_the_mean_over_trials():
    spread = LaminarDCM([drive("first", "proximal", 30.0, 4.0)])
    still = LaminarDCM([drive("first", "proximal", 30.0)])
    data = empty()
    deviates = jitter(8, np.array([True]))[:, 0]
    loop = [still.predict(means(still) | {"time": [30.0 + 4 * z]}, data) for z in deviates]
    np.testing.assert_allclose(
        spread.predict(means(spread), data), np.mean(loop, axis=0), rtol=0, atol=1e-20
    )
    # Cells that draw their own events see a pulse in every trial, which is another thing.
    pulse = LaminarDCM([drive("first", "proximal", 30.0, 4.0, cell_specific=True)])
    difference = pulse.predict(means(pulse), data) - spread.predict(means(spread), data)
    assert np.abs(difference).max() > 1e-13


def test_a_prediction_is_smoothed_as_the_data():
    model = LaminarDCM(TWO)
    fine = empty(np.arange(0.0005, 0.17, 0.0005))
    response = fine.replace(dipole=np.asarray(model.predict(means(model), fine)))
    smoothed = response.smooth(0.02)
    seen = np.asarray(model.predict(means(model), smoothed))
    inside = slice(25, -25)
    np.testing.assert_allclose(seen[inside], smoothed.dipole[inside], rtol=0, atol=1e-18)
    layers = np.asarray(model.layers(means(model), smoothed))
    np.testing.assert_allclose(layers.sum(1), seen, rtol=0, atol=1e-20)


def test_derivatives_agree_in_both_modes_with_differences():
    model = LaminarDCM([each.replace(spread=2.0).free(time=5.0, spread=0.3) for each in TWO])
    data = empty().smooth(0.02)
    prepared, point = model.prepare(data), means(model)
    neural, solver, observer = model.parts

    def loss(moved):
        at = {name: jnp.asarray(value) for name, value in point.items()}
        at |= {"time": at["time"] + moved[:2], "spread": moved[2:4], "scale": moved[4]}
        solution = solver.solve(neural, observer, at, prepared.steps)
        return (observer.predict(solution[..., :4], at, prepared.space) ** 2).sum()

    @jax.jit
    def three(moved):
        value, tangent = jax.linearize(loss, moved)
        return value, jax.vmap(tangent)(np.eye(5)), jax.linear_transpose(tangent, moved)(1.0)[0]

    start = np.array([0.3, -0.4, 0.1, 0.2, 0.1])
    _, forward, reverse = three(start)
    np.testing.assert_allclose(forward, reverse, rtol=1e-10)
    step = 1e-4
    central = [(three(start + e)[0] - three(start - e)[0]) / (2 * step) for e in step * np.eye(5)]
    np.testing.assert_allclose(reverse, central, rtol=1e-5)


def test_drives_are_found_in_a_response_of_the_column():
    free = [each.free(time=6.0, weights_ampa=0.3) for each in TWO]
    model = LaminarDCM(free, model_error=0.0)
    truth = means(model) | {"time": np.array([29.0, 64.0]), "scale": np.array(0.4)}
    data = model.simulate(truth, empty().smooth(0.02), seed=3, snr=10.0)
    found = fit(model, data, "laplace", progress=False)
    assert np.abs(found.mean["time"] - truth["time"]).max() < 1.0
    z = (found.mean["time"] - truth["time"]) / found.sd["time"]
    assert np.abs(z).max() < 4
    first = model.drives_at(found.mean)[0]
    assert first.time == pytest.approx(found.mean["time"][0])
    weight = 0.0036 * np.exp(found.mean["weights_ampa"][0, 0])
    assert first.centre("weights_ampa")[0] == pytest.approx(weight)
    assert float(found.idata.posterior["pyramidal_cells"].mean()) == pytest.approx(
        200 * np.exp(0.4), rel=0.2
    )


def test_the_network_is_explained_where_the_calibration_did_not_look():
    """Means of five trials of hnn-core 0.6.1, smoothed by 20 ms; see tests/data/README.md."""
    table = np.load(Path(__file__).parents[1] / "data" / "hnn_dipoles.npz")
    shares = []
    for name in table["settings"]:
        events, proximal, weights = (
            table[f"{name}_{k}"] for k in ("events", "proximal", "weights")
        )
        drives = [
            drive(f"drive{k}", "proximal" if near else "distal", float(time)).at(
                weights_ampa=each[:, 0], weights_nmda=each[:, 1]
            )
            for k, (time, near, each) in enumerate(zip(events[0], proximal, weights, strict=True))
        ]
        model, design = LaminarDCM(drives), empty(1e-3 * table["times"])
        trials = [model.predict(means(model) | {"time": times}, design) for times in events]
        seen = DipoleData.from_arrays(table[name], table["times"], "nAm", "ms").smooth(0.02)
        predicted = seen.replace(dipole=np.mean(trials, axis=0), smoothing=0.0).smooth(0.02)
        error = ((seen.dipole - predicted.dipole) ** 2).sum()
        shares.append(1 - error / ((seen.dipole - seen.dipole.mean()) ** 2).sum())
    assert min(shares) > 0.5 and np.mean(shares) > 0.8, shares


def test_noise_is_as_smooth_as_the_data():
    observer = LaminarDCM(TWO, model_error=0.0).observer
    rng, times = np.random.default_rng(0), np.arange(0, 0.17, 0.001)
    draws = [DipoleData(1e-9 * rng.normal(size=170), times, noise_sd=1e-9) for _ in range(2000)]
    smooth = [each.smooth(0.02) for each in draws]
    seen = np.cov(np.array([each.dipole for each in smooth]).T)[40:130, 40:130]
    said = np.mean([observer.covariance(each) for each in smooth[:20]], axis=0)[40:130, 40:130]
    assert np.abs(seen - said).max() < 0.12 * said.max()
    white = draws[0].replace(smoothing=0.02)
    with pytest.warns(UserWarning, match="of the noise were white"):
        observer.covariance(white)


def test_the_error_of_the_column_grows_with_the_data():
    model, data = LaminarDCM(TWO), empty().smooth(0.02)
    small, large = (
        model.observer.covariance(data.replace(dipole=k * data.dipole)) for k in (1, 10)
    )
    without = LaminarDCM(TWO, model_error=0.0).observer.covariance(data)
    assert np.trace(large - without) == pytest.approx(100 * np.trace(small - without), rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drives": []}, "drives is empty"),
        ({"drives": [TWO[0], TWO[0]]}, "names that repeat"),
        ({"scale": 0.0}, "scale must be a number, positive"),
        ({"model_error": -1.0}, "model_error must be a number, at least 0"),
        ({"trials": 1}, "trials must be a whole number of at least 2"),
    ],
)
def test_malformed_models(change, message):
    with pytest.raises(ValueError, match=message):
        LaminarDCM(**({"drives": TWO} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.replace(dipole=3000 * d.dipole), "give scale=.*or check the unit"),
        (lambda d: d.crop(None, 0.05), "data end at 50 ms, but drives come at 70 ms"),
        (lambda d: d.crop(0.0, None).replace(noise_sd=None), "the noise is not known"),
    ],
)
def test_data_that_do_not_fit(change, message):
    data = empty().replace(dipole=1e-11 * np.sin(40 * empty().times))
    with pytest.raises(ValueError, match=message):
        LaminarDCM(TWO).program(change(data))


def test_other_data_are_refused():
    bold = BoldData(np.random.default_rng(0).normal(size=(20, 1)), 2.0)
    with pytest.raises(TypeError, match="data must be DipoleData"):
        LaminarDCM(TWO).program(bold)


def test_drives_outside_the_box_are_told():
    strong = TWO[0].replace(weights_ampa=dict.fromkeys(CELLS, 0.1))
    with pytest.warns(UserWarning, match="weights_ampa of first to L5_basket is 0.1 uS"):
        LaminarDCM([strong])
    with pytest.warns(UserWarning, match="first comes at 400 ms"):
        LaminarDCM([TWO[0].replace(time=400.0)])


def test_windows_longer_than_the_calibration_are_told():
    with pytest.warns(UserWarning, match="data end at 250 ms.*first 170 ms"):
        LaminarDCM(TWO).check(empty(np.arange(-0.03, 0.2505, 0.001)))


@pytest.mark.exhaustive
@pytest.mark.usefixtures("optimized")
def test_intervals_hold_drives_as_often_as_they_say():
    """Forty responses of the column with drives drawn from the prior."""
    free = [each.free(time=4.0) for each in TWO]
    model, rng, inside = LaminarDCM(free, model_error=0.0), np.random.default_rng(5), []
    for seed in range(40):
        truth = means(model) | {"time": np.array([25.0, 70.0]) + 4 * rng.normal(size=2)}
        data = model.simulate(truth, empty().smooth(0.02), seed=seed, snr=5.0)
        found = fit(model, data, "laplace", progress=False)
        inside.append(np.abs(found.mean["time"] - truth["time"]) < 1.645 * found.sd["time"])
    assert 0.8 < np.mean(inside) < 0.98
