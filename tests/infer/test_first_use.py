"""What a first use compiles, and how progress is shown."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm.infer import progress
from bayesdcm.infer.evaluation import _predictive, _values, predictive, prior_sample, site_values
from bayesdcm.infer.problem import make_problem
from bayesdcm.infer.progress import Progress

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: compiled.append(name.endswith("backend_compile_duration"))
)


def programs_of(call):
    """How many programs a call compiles, and what it returns."""
    compiled.clear()
    value = call()
    return sum(compiled), value


def line(data):
    level = numpyro.sample("level", dist.Normal(0, 10))
    slope = numpyro.sample("slope", dist.Normal(0, 10).expand([2]))
    noise = numpyro.sample("noise", dist.Normal(0, 1), infer={"role": "precision"})
    mean = level + slope[0] * np.arange(len(data)) + slope[1] * np.arange(len(data)) ** 2
    numpyro.sample("y", bayesdcm.observe.gaussian(mean, noise), obs=data)


@pytest.mark.slow
def test_nothing_is_compiled_twice():
    jax.clear_caches()
    data = np.random.default_rng(0).normal(size=23)
    n, fit = programs_of(lambda: bayesdcm.fit(line, data, starts=3))
    # The prior mean, keys and draws of the prior, variational Laplace.
    assert n <= 4
    # Keys and responses at draws, values of sites, moments of the prior.
    n, _ = programs_of(fit.diagnose)
    assert n <= 4
    for use in (fit.diagnose, fit.summary, fit.predict, lambda: fit.idata, lambda: fit.mean):
        assert programs_of(use)[0] == 0


@pytest.mark.slow
def test_svi_compiles_its_steps_and_little_else():
    data = np.random.default_rng(0).normal(size=24)
    bayesdcm.fit(line, data, draws=50).diagnose()
    n, fit = programs_of(lambda: bayesdcm.fit(line, data, "svi", steps=1000))
    # Keys, the first state, steps, draws, and what JAX makes of given arrays; checks of the guide's
    # constants alone would be twenty.
    assert n <= 10
    # Densities of draws are by the program that fits need.
    assert programs_of(lambda: bayesdcm.log_evidence(fit, "importance"))[0] == 0


def test_one_program_serves_all_numbers_of_draws():
    problem = make_problem(line, np.zeros(21))
    draws = np.random.default_rng(1).normal(size=(300, 4))
    predictive(problem, draws[:1], 0), site_values(problem, draws[:1]), prior_sample(problem, 1, 0)
    sizes = [function.n_compiled for function in (_predictive, _values)]
    few, many = (predictive(problem, draws[:n], 0)["stats"]["lp"] for n in (7, 300))
    values = [site_values(problem, draws[:n])["level"] for n in (7, 300)]
    assert [function.n_compiled for function in (_predictive, _values)] == sizes
    np.testing.assert_allclose(few, many[:7], rtol=1e-12)
    np.testing.assert_array_equal(values[0], values[1][:7])
    np.testing.assert_array_equal(values[1], draws[:, 0])


def test_of_more_draws_of_the_prior_the_first_are_the_same():
    problem = make_problem(line, np.zeros(21))
    few, many = prior_sample(problem, 5, 3), prior_sample(problem, 600, 3)
    np.testing.assert_array_equal(few, many[:5])
    assert many.shape == (600, 4)
    assert len(np.unique(many[:, 0])) == 600
    assert many[:, :3].std() == pytest.approx(10, rel=0.1)


def test_progress_is_shown_by_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("NUTS", 40, "draw", shown=True) as shown:
        shown.advance(10)
        shown.advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("NUTS, compiling:   0 % of 40 draws")
    assert lines[-1].startswith("NUTS:  50 % of 40 draws, 00:0")
    assert not any("\r" in each for each in lines)


def test_no_progress_is_shown_where_it_is_not_wanted(capsys):
    with Progress("NUTS", 40, "draw", shown=False) as shown:
        shown.advance(40)
    assert capsys.readouterr().err == ""


def test_methods_say_that_they_compile(capsys):
    bayesdcm.fit(line, np.arange(19.0), "svi", steps=50, draws=50, guide="mean_field")
    assert "SVI, compiling" in capsys.readouterr().err
