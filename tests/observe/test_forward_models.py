"""Forward models of series: haemodynamic kernels, Balloon, lead fields."""

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jax.test_util import check_grads

from bayesdcm import observe
from bayesdcm.infer.plain_objects import PlainWriter, from_plain
from bayesdcm.observe import Balloon, Haemodynamics, HrfConvolution, Kernel
from bayesdcm.observe.balloon import (
    FRISTON_2003,
    HAEMODYNAMICS,
    bold_signal,
    haemodynamic_rates,
)

UPDATE = jax.jit(lambda observer, *given: observer.update(*given), static_argnums=0)
KERNELS = ("FirstOrderVolterra", "Gamma", "DoubleExponential", "MixtureOfGammas")
OBSERVERS = {
    "convolution": HrfConvolution("mixture_of_gammas", 0.6),
    "convolution from silence": HrfConvolution("first_order_volterra", 0.6, before=0.0),
    "balloon": Balloon(repetition_time=0.6),
    "balloon of Friston": Balloon(haemodynamics="friston2003", repetition_time=0.6),
}


@pytest.fixture(scope="module")
def reference():
    """Arrays that brainmass wrote."""
    with np.load(Path(__file__).parents[1] / "data" / "forward_models.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def activity():
    """Smooth activity of two regions for 9 s in steps of 5 ms, the second silent."""
    time = 5e-3 * np.arange(1, 1801)
    return np.stack([0.3 + 0.2 * np.sin(2 * np.pi * 0.3 * time), np.zeros(1800)], axis=1)


@pytest.fixture(params=OBSERVERS.values(), ids=OBSERVERS)
def observer(request):
    return request.param


@pytest.mark.parametrize("name", KERNELS)
def test_kernels(reference, name):
    t, h = (reference[f"hrf/{name}/{key}"] for key in "th")
    found = getattr(observe, name)()(t)
    if name in ("Gamma", "DoubleExponential"):
        # There the peak is the largest sample, here that of the function.
        assert found.max() == pytest.approx(0.1, rel=1e-3) and found.max() <= 0.1
        found = 0.1 * found / found.max()
    np.testing.assert_allclose(found, h, rtol=0, atol=1e-10)


@dataclass(frozen=True)
class OnBrainmassGrid(Kernel):
    """Values that brainmass gives to parts of 20 ms; here they have that of their middle."""

    kernel: Kernel
    duration: float = 20.0

    def __call__(self, t):
        samples = round(self.duration / 0.02)
        grid = np.linspace(0, self.duration, samples)
        values = self.kernel(grid)
        if isinstance(self.kernel, observe.Gamma | observe.DoubleExponential):
            values *= 0.1 / values.max()
        return values[np.round(t / 0.02 - 0.5).astype(int) % samples]


@pytest.mark.parametrize("name", KERNELS)
def test_convolution(reference, name):
    """Of brainmass' number: a sum that lacks the step, from silence, less one that is left."""
    kernel = getattr(observe, name)()
    observer = HrfConvolution(OnBrainmassGrid(kernel, kernel.duration), 0.72, before=0.0)
    found = observer.series(reference["hrf/activity"], step=0.02)
    theirs = 5.6 * 0.02 * (found / 0.02 - 1)
    np.testing.assert_allclose(theirs, reference[f"hrf/{name}/bold"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("start", ["rest", "default"])
def test_balloon(reference, start):
    given = {key: reference[f"bold/{start}/{key}"] for key in ("state0", "z")}
    observer = Balloon(haemodynamics="friston2003", repetition_time=0.2)
    course, static = observer.start(given["z"].shape, 0.01)
    course = course._replace(states=jnp.asarray(given["state0"].T))
    carry, all_states = (course, static), []
    for part in given["z"].reshape(2, 1000, -1):
        carry = UPDATE(observer, carry, part)
        all_states.append(carry[0].states.T)
    signal = observer.finish(carry)
    np.testing.assert_allclose(signal, reference[f"bold/{start}/bold_documented"], atol=1e-12)
    expected = reference[f"bold/{start}/states"][[49, 99]]
    np.testing.assert_allclose(all_states, expected, rtol=1e-10)


def test_signal_of_whole_brains_has_the_published_weights():
    v, q, rho = 1.2, 0.8, 0.34
    classical = 7 * rho * (1 - q) + 2 * (1 - q / v) + (2 * rho - 0.2) * (1 - v)
    found = bold_signal(v, q, 0.0, FRISTON_2003)
    assert float(found) == pytest.approx(0.02 * classical, rel=1e-14)


@pytest.mark.parametrize("name", HAEMODYNAMICS)
def test_logarithms_of_states_have_the_same_equation(name):
    h = jnp.array([[0.1, 0.2, -0.1, 0.05], [-0.2, -0.3, 0.1, 0.2]])
    parameters = {"decay": jnp.asarray(0.1), "transit": jnp.array([-0.1, 0.2]), "epsilon": 0.0}
    observer, activity = Balloon(haemodynamics=name), jnp.array([0.5, -0.2])
    states = h.at[:, 1:].set(jnp.exp(h[:, 1:]))
    rates = haemodynamic_rates(
        activity, states, parameters["decay"], parameters["transit"], HAEMODYNAMICS[name]
    )
    expected = rates.at[:, 1:].divide(states[:, 1:])
    np.testing.assert_allclose(observer.flow(activity, h, parameters), expected, rtol=1e-13)
    percent = 100 if name == "friston2003" else 1
    signal = bold_signal(states[:, 2], states[:, 3], 0.0, HAEMODYNAMICS[name])
    np.testing.assert_allclose(observer.read(h, parameters), percent * signal, rtol=1e-13)
    assert (observer.longest_step is None) == (name == "friston2003")
    assert observer.units["transit"].endswith(f"of {HAEMODYNAMICS[name].transit_time:g} s")


def test_constants_of_a_users_own_are_kept_in_files():
    own = Balloon(haemodynamics=replace(FRISTON_2003, transit_time=1.2), repetition_time=2.0)
    assert isinstance(own.haemodynamics, Haemodynamics)
    writer = PlainWriter()
    assert from_plain(writer.plain(own), writer.arrays) == own


def test_blocks_make_no_difference(observer, activity):
    expected = observer.series(activity, 5e-3)
    carry = observer.start(activity.shape, 5e-3)
    for block in np.split(activity, [37, 400, 763, 1126, 1489, 1490]):
        carry = UPDATE(observer, carry, block)
    np.testing.assert_allclose(observer.finish(carry), expected, rtol=1e-10, atol=1e-15)
    assert expected.shape == (15, 2)
    # Silence is silent.
    np.testing.assert_allclose(expected[:, 1], 0, atol=1e-14)
    assert float(jnp.abs(expected[:, 0]).max()) > 1e-3


def test_steps_make_no_difference(observer, activity):
    coarse = observer.series(activity, 5e-3)
    time = 1e-3 * (np.arange(9000) + 0.5)
    fine = (0.3 + 0.2 * np.sin(2 * np.pi * 0.3 * (time + 2.5e-3)))[:, None]
    found = observer.series(fine, 1e-3)[:, 0]
    np.testing.assert_allclose(found, coarse[:, 0], rtol=0, atol=1e-4 * float(coarse.max()))


def test_coarse_series_drive_a_balloon_in_shorter_steps():
    observer = Balloon(repetition_time=1.0)
    drive = np.array([[0.2], [0.0], [0.5], [0.5]])
    found = observer.series(drive, 0.5)
    np.testing.assert_allclose(
        found, observer.series(np.repeat(drive, 50, axis=0), 0.01), rtol=1e-9
    )


def test_a_balloon_sees_activity_relative_to_rest_and_has_a_floor(activity):
    usual = Balloon(repetition_time=0.6)
    other = replace(usual, gain=0.5, baseline=2.0)
    np.testing.assert_allclose(
        other.series(2 + 2 * activity, 5e-3), usual.series(activity, 5e-3), rtol=1e-9, atol=1e-14
    )
    # Where activity would take blood flow below 0.
    assert np.isfinite(usual.series(activity - 4, 5e-3)).all()


def test_steady_activity_has_a_steady_response():
    observer = HrfConvolution("gamma", 0.5)
    found = np.asarray(observer.series(np.full((400, 1), 2.0), 0.1)[:, 0])
    # Of (t/tau)^2 exp(-t/tau), scaled to a peak of 0.1: the integral to infinity.
    np.testing.assert_allclose(found, 2 * 0.1 * 1.08 * np.exp(2) / 2, rtol=1e-4)
    np.testing.assert_allclose(found, found[0], rtol=1e-12)
    ramp = HrfConvolution("gamma", 0.5, before=0.0).series(np.full((400, 1), 2.0), 0.1)
    assert float(ramp[0, 0]) < 0.01 and float(ramp[-1, 0]) == pytest.approx(found[-1], rel=1e-9)
    held = HrfConvolution("gamma", 0.5, before=2.0).series(np.full((400, 1), 2.0), 0.1)
    np.testing.assert_allclose(held[:, 0], found, rtol=1e-12)


def test_an_instant_of_activity_leaves_the_kernel():
    instant = np.zeros((3000, 1))
    instant[1000] = 1 / 0.01
    found = HrfConvolution("mixture_of_gammas", 0.5, before=0.0).series(instant, 0.01)[:, 0]
    expected = observe.MixtureOfGammas()(0.5 * np.arange(40) + 0.495)
    np.testing.assert_allclose(found[20:], expected, rtol=1e-9, atol=1e-12)
    assert np.abs(found[:20]).max() == 0


@pytest.mark.parametrize("name", ["convolution", "balloon"])
def test_derivatives(name, activity):
    part, observer = activity[:600:2], OBSERVERS[name]
    check_grads(lambda x: observer.series(x, 0.01), (part,), 1, ("rev",), 1e-6, 1e-6, 1e-4)


def test_labels_are_kept(activity):
    series = xr.DataArray(
        np.stack([activity, activity[:, ::-1]]),
        dims=("simulation", "time", "region"),
        coords={"time": 1 + 5e-3 * np.arange(1, 1801), "region": ["a", "b"]},
    )
    observer = OBSERVERS["balloon"]
    found = observer.series(series)
    assert found.dims == ("simulation", "time", "region") and found.name == "bold"
    assert found.attrs == {"units": "percent"} and found.time.attrs == {"units": "s"}
    np.testing.assert_allclose(found.time, 1 + 0.6 * np.arange(1, 16))
    np.testing.assert_allclose(found[0], observer.series(activity, 5e-3), rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(found[0, :, 0], found[1, :, 1])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda x: HrfConvolution("canonical", 0.5), "kernel is 'canonical'; expected one of"),
        (lambda x: HrfConvolution("gamma", 0.5, before="first"), "before is 'first'; expected"),
        (lambda x: HrfConvolution("gamma", 30.0).series(x, 0.1), "30 s, but the series lasts 18"),
        (lambda x: Balloon(repetition_time=0.25).series(x, 0.1), "repetition_time is 0.25 s; exp"),
        (lambda x: Balloon().series(x), "step is missing: arrays do not tell their times"),
        (lambda x: Balloon(haemodynamics="canine"), "haemodynamics is 'canine'; expected one of"),
        (lambda x: observe.FirstOrderVolterra(tau_f=4.0), "expected 0 < tau_f < 4 tau_s"),
    ],
)
def test_what_cannot_be_is_refused(activity, make, text):
    with pytest.raises(ValueError, match=text):
        make(activity[::10])
