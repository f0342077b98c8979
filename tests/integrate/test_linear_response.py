"""Linear response: rest, stability, delays, and what fluctuations make of a system."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from bayesdcm.integrate import (
    LinearResponse,
    LinearSystem,
    SpmLinearResponse,
    cross_spectra,
    growth_rate,
    is_stable,
    linear_system,
    rest_state,
    transfer_functions,
)
from bayesdcm.integrate.spm_linear_response import moved_eigenvalues
from bayesdcm.neural import CMC, ERP, LFP, NMDA, Endogenous
from bayesdcm.neural.base import from_vector, to_vector
from bayesdcm.observe import BoldSpectra

SWITCHES = (np.array([[0, 0], [1, 0]]), np.array([[0, 1], [0, 0]]), np.zeros((2, 2)))
FREQUENCIES = jnp.array([1.0, 10.0, 40.0])


def means(model, observer=None):
    priors = (*model.priors(), *(() if observer is None else observer.priors(model)))
    return {prior.name: jnp.asarray(prior.mean, float) for prior in priors}


def solve(solver, model, observer, parameters, frequencies):
    design = SimpleNamespace(frequencies=np.asarray(frequencies), conditions=("rest",))
    steps = solver.prepare(model, observer, design, {})
    return jax.jit(lambda p: solver.solve(model, observer, p, steps))(parameters)


@pytest.mark.parametrize("kind", [ERP, CMC, LFP, NMDA])
def test_sources_rest_where_their_flow_vanishes(kind):
    source = kind(*SWITCHES, np.zeros((0, 2, 2)), np.eye(2))
    parameters = means(source)

    @jax.jit
    def found(parameters):
        system = linear_system(source, parameters, "inputs")
        return system, transfer_functions(system, FREQUENCIES), is_stable(system.operator)

    system, transfer, stable = jax.tree.map(np.asarray, found(parameters))
    assert stable
    assert transfer.shape == (3, 2 * len(source.states), 2)
    assert np.isfinite(transfer).all()
    # The definition, without any inverse.
    turns = 2j * np.pi * 10.0
    delayed = system.jacobian * np.exp(-turns * system.delays)
    left = turns * transfer[1] - delayed @ transfer[1] - system.entry
    assert np.abs(left).max() < 1e-9 * np.abs(system.entry).max()


def test_conductance_based_sources_answer_small_sines_as_their_linear_response():
    """NMDA, of which no other software's spectra are known, integrated in time, without delays."""
    one = np.zeros((1, 1))
    source = NMDA(one, one, one, np.zeros((0, 1, 1)), np.eye(1))
    frequency, size = 10.0, 1e-4
    parameters = means(source)
    flow = jax.jit(lambda x, u: to_vector(source.flow(from_vector(x, 1), u, parameters)))

    @jax.jit
    def both(parameters):
        system = linear_system(source, parameters, "inputs")._replace(delays=None)
        start = to_vector(jnp.asarray(source.rest(parameters), float))
        rest = rest_state(lambda x: flow(x, jnp.zeros(1)), start)
        return transfer_functions(system, jnp.array([frequency]))[0, :, 0], rest

    transfer, rest = both(parameters)

    def rates(t, x):
        return np.asarray(flow(x, np.array([size * np.sin(2 * np.pi * frequency * t)])))

    # Whole periods, once what came before has gone.
    times = 1.5 + np.arange(40) / 40 / frequency
    options = {"method": "LSODA", "rtol": 1e-9, "atol": 1e-12, "t_eval": times}
    course = solve_ivp(rates, (0.0, times[-1]), np.asarray(rest), **options).y
    found = 2j * (course * np.exp(-2j * np.pi * frequency * times)).mean(1) / size
    np.testing.assert_allclose(found, transfer, rtol=0, atol=1e-3 * np.abs(transfer).max())


def test_rest_by_newtons_method_has_its_derivative():
    def rest(a):
        return rest_state(lambda x: jnp.array([a - x[0] ** 3, x[0] - jnp.sinh(x[1])]), jnp.ones(2))

    def three(a):
        return rest(a), jax.jacfwd(rest)(a), jax.jacrev(rest)(a)

    value, slope, reverse = jax.jit(three)(8.0)
    np.testing.assert_allclose(value, [2.0, np.arcsinh(2.0)], rtol=1e-12)
    expected = np.array([1 / 12, 1 / 12 / np.sqrt(5)])
    np.testing.assert_allclose(slope, expected, rtol=1e-10)
    np.testing.assert_allclose(reverse, expected, rtol=1e-10)
    assert np.isnan(jax.jit(lambda x: rest_state(lambda x: 1 + x**2, x))(np.ones(1))).all()


def test_growth_is_the_largest_real_part():
    rate = jax.jit(growth_rate)
    for seed in range(4):
        matrix = np.random.default_rng(seed).normal(size=(9, 9))
        largest = np.linalg.eigvals(matrix).real.max()
        assert float(rate(matrix)) == pytest.approx(largest, abs=1e-5)
    # A defective matrix, and rates that differ by six orders of magnitude.
    assert float(rate(np.eye(3, k=1) - np.eye(3))) == pytest.approx(-1, abs=1e-5)
    stiff = np.array([[-1e3, 300.0], [0.0, -1e-3]])
    assert float(rate(stiff)) == pytest.approx(-1e-3, abs=1e-6)
    # An oscillator of second order, whose rate of change is a thousand times its value.
    for damping in (-0.1, 0.1):
        oscillator = np.kron(np.eye(3), [[0.0, 1.0], [-1e6, -damping]])
        assert float(rate(oscillator)) == pytest.approx(-damping / 2, abs=2e-3)
        assert bool(jax.jit(is_stable)(oscillator)) == (damping > 0)


def test_defective_systems_are_solved():
    """Equal rates one after the other, which no eigenvectors span: a cascade of three filters."""
    jacobian = jnp.eye(3, k=-1) - jnp.eye(3)
    system = LinearSystem(jacobian, None, jnp.eye(3)[:, :1], jacobian)
    f = jnp.array([0.0, 0.1, 2.0])
    response = transfer_functions(system, f)[:, 2, 0]
    np.testing.assert_allclose(response, (1 + 2j * np.pi * f) ** -3, rtol=1e-12)


def test_a_delayed_copy_has_the_phase_of_its_delay():
    """Channel 1 receives what channel 0 does 10 ms later: at 10 Hz, 36 degrees, beside its own."""
    jacobian = jnp.array([[-50.0, 0.0], [80.0, -100.0]])
    delays = jnp.array([[0.0, 0.0], [0.01, 0.0]])
    system = LinearSystem(jacobian, delays, jnp.eye(2)[:, :1], jacobian)
    frequencies = jnp.array([10.0])
    transfer = transfer_functions(system, frequencies)
    spectrum = cross_spectra(transfer, jnp.ones((1, 1)))[0]
    own = np.angle(100 + 2j * np.pi * 10)
    assert np.angle(spectrum[0, 1]) == pytest.approx(2 * np.pi * 10 * 0.01 + own)
    np.testing.assert_allclose(spectrum, spectrum.conj().T)


def test_what_is_unstable_has_no_response():
    model, observer = Endogenous(np.ones((2, 2))), BoldSpectra()
    parameters = means(model, observer)
    stable = solve(LinearResponse(), model, observer, parameters, [0.01, 0.1])
    assert stable.shape == (1, 2, 2, 2) and np.isfinite(stable).all()
    parameters["A"] = jnp.array([[0.0, 0.8], [0.8, 0.0]])
    assert not np.isfinite(solve(LinearResponse(), model, observer, parameters, [0.01, 0.1])).any()
    # SPM moves the eigenvalue.
    moved = solve(SpmLinearResponse(), model, observer, parameters, [0.01, 0.1])
    assert np.isfinite(moved).all()


def test_moved_eigenvalues_have_their_derivative():
    generator = np.random.default_rng(1)
    matrix, change = generator.normal(size=(2, 5, 5))
    for fast in (True, False):
        values, vectors = np.linalg.eig(matrix)
        real = values.real - np.exp(values.real) if fast else np.minimum(values.real, -1 / 32)
        expected = (vectors * (real + 1j * values.imag)) @ np.linalg.inv(vectors)

        @jax.jit
        def both(m, fast=fast):
            return jax.jvp(lambda m: moved_eigenvalues(m, fast), (m,), (change,))

        moved, slope = both(matrix)
        np.testing.assert_allclose(moved, expected.real, atol=1e-12)
        up, down = (both(matrix + h * change)[0] for h in (1e-6, -1e-6))
        np.testing.assert_allclose(slope, (up - down) / 2e-6, atol=1e-6)


def test_another_entry_is_refused():
    with pytest.raises(ValueError, match="enters must be one of 'nodes', 'inputs', got 'edges'"):
        LinearResponse("edges")
