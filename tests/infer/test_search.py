"""Other starts of variational Laplace, where the first has led to a poor optimum."""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm.group import fit_group
from bayesdcm.infer import search as searching
from bayesdcm.infer.inversion import laplace_settings
from bayesdcm.infer.laplace import LaplaceResult
from bayesdcm.infer.problem import make_problem
from bayesdcm.infer.search import (
    SIGNS,
    UNCONVERGED,
    UNEXPLAINED,
    _reason,
    coloured,
    explained_elsewhere,
    stopped_early,
)
from bayesdcm.infer.variational_laplace import gaussian_start, laplace_starts

TIMES = np.arange(80.0)


def wave(data):
    """The right frequency is many local optima away from the prior mean."""
    frequency = numpyro.sample("frequency", dist.Normal(1.0, 0.5))
    noise = numpyro.sample("noise", dist.Normal(2.0, 4.0), infer={"role": "precision"})
    prediction = jnp.sin(frequency * TIMES)[:, None]
    numpyro.sample("y", bayesdcm.observe.gaussian(prediction, noise), obs=data)


def heard(frequency):
    random = np.random.default_rng(0)
    return np.sin(frequency * TIMES)[:, None] + random.normal(0, 0.3, (80, 1))


@pytest.fixture(scope="module")
def model(sharing):
    return sharing(wave)


@pytest.fixture(scope="module")
def found(model):
    return bayesdcm.fit(model, heard(1.6), starts="auto")


def test_a_search_leaves_a_poor_optimum(model, found):
    alone = bayesdcm.fit(model, heard(1.6), starts=1)
    record = found.status["search"]
    assert record["gain"] == pytest.approx(found.log_evidence - alone.log_evidence)
    assert record["gain"] > 50 and record["reason"] == UNEXPLAINED and record["left"] is None
    assert found.mean["frequency"] == pytest.approx(1.6, abs=0.01)
    assert len(found.trace["starts_free_energy"]) == record["starts"] > 1
    assert len(found.modes) > 1 and found.modes[0] is found


def test_a_search_is_the_same_for_the_same_seed(model, found):
    again = bayesdcm.fit(model, heard(1.6), starts="auto")
    other = bayesdcm.fit(model, heard(1.6), starts="auto", seed=1)
    energies = found.trace["starts_free_energy"]
    assert np.array_equal(again.trace["starts_free_energy"], energies)
    assert not np.array_equal(other.trace["starts_free_energy"][:5], energies[:5])


def fragile_wave(data):
    """The same with a prior that covers little else than frequencies at which it diverges."""
    frequency = numpyro.sample("frequency", dist.Normal(1.0, 8.0))
    noise = numpyro.sample("noise", dist.Normal(2.0, 4.0), infer={"role": "precision"})
    prediction = jnp.where(jnp.abs(frequency - 1) < 0.8, jnp.sin(frequency * TIMES), jnp.inf)
    numpyro.sample("y", bayesdcm.observe.gaussian(prediction[:, None], noise), obs=data)


def test_draws_that_diverge_come_nearer():
    fit = bayesdcm.fit(fragile_wave, heard(1.6), starts="auto")
    assert fit.status["search"]["reason"] == UNEXPLAINED
    assert fit.mean["frequency"] == pytest.approx(1.6, abs=0.01)


def test_a_run_that_has_not_converged_is_a_reason():
    """Steps across a valley that winds do not come to an end in 128 iterations."""
    optimum = SimpleNamespace(
        mean=np.zeros((2, 1)),
        converged=np.array([False, False]),
        n_iterations=np.array([128, 2]),
        slope=np.zeros(2),
        trace={"accepted": np.ones((2, 128))},
    )
    assert _reason([], optimum, 0, None) == UNCONVERGED
    assert not stopped_early(optimum, 1)


def test_a_good_optimum_is_left_alone(model):
    data = heard(1.01)
    kept = bayesdcm.fit(model, data, starts="auto")
    alone = bayesdcm.fit(model, data, starts=1)
    assert kept.status["search"] == {"starts": 1, "reason": None, "gain": 0.0, "left": None}
    assert kept.log_evidence == alone.log_evidence
    assert np.array_equal(kept.mean["frequency"], alone.mean["frequency"])


def residuals_of(source, data):
    """Residuals at an optimum as variational Laplace gives them, and as its prediction does."""
    problem = make_problem(source, data)
    centre = laplace_starts(problem, 1, 0)
    static = problem.source, problem.sites, laplace_settings(problem.sites, None, "exact")
    optima = searching.run_starts(*static, problem.prepared, centre)
    model = searching._Model(static, problem.prepared, centre[0])
    return model.of_optimum(optima, 0), model.residuals(optima.mean)[0], optima


@pytest.mark.exhaustive
def test_residuals_of_an_optimum_are_those_of_its_prediction(model):
    task = simulated([[0.0, 0.2], [0.3, 0.0]], 0.3, 0.8, 2.0)
    noisy = replace(task, confounds=np.linspace(-1, 1, 120)[:, None])
    # Log-precisions are not those of the optimum: residuals at other points are compared with it.
    for source, data, n in (
        (model, heard(1.01), 1),
        (two_regions(), noisy, 1),
        (pair, (heard(1.01), heard(1.01)[:60].repeat(2, 1)), 2),
        # It would take the root of a matrix.
        (correlated, heard(1.01), 0),
    ):
        given, again, optima = residuals_of(source, data)
        assert len(optima.residuals) == n
        assert len(given) == len(again) == max(n, 1)
        for one, two in zip(given, again, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-8)


def pair(data):
    """Two sites of other shapes, whose names are not in alphabetical order."""
    frequency = numpyro.sample("frequency", dist.Normal(1.0, 0.5))
    noise = numpyro.sample("noise", dist.Normal(2, 4).expand([2]), infer={"role": "precision"})
    prediction = jnp.sin(frequency * TIMES)[:, None]
    observed = bayesdcm.observe.gaussian(prediction, noise[:1])
    numpyro.sample("z", observed, obs=data[0])
    observed = bayesdcm.observe.gaussian(prediction[:60] * jnp.ones(2), noise[1:])
    numpyro.sample("a", observed, obs=data[1])


def test_programs_of_several_sites_are_searched():
    data = heard(1.6), heard(1.6)[:60].repeat(2, 1)
    found = bayesdcm.fit(pair, data, starts="auto")
    assert found.status["search"]["reason"] == UNEXPLAINED
    assert found.status["search"]["left"] is None
    assert found.mean["frequency"] == pytest.approx(1.6, abs=0.01)


def correlated(data):
    """Noise that is correlated in time, and two confounds."""
    level = numpyro.sample("level", dist.Normal(0, 1).expand([2]))
    noise = numpyro.sample("noise", dist.Normal(0, 1).expand([2]), infer={"role": "precision"})
    near = np.abs(TIMES[:, None] - TIMES)
    components = np.stack([np.eye(80), np.exp(-near / 3)])
    prediction = (level[0] * jnp.sin(TIMES) + level[1] * jnp.cos(TIMES))[:, None]
    confounds = np.stack([np.ones(80), TIMES / 80], axis=1)
    observed = bayesdcm.observe.gaussian(prediction, noise, components, confounds=confounds)
    numpyro.sample("y", observed, obs=data)


def test_only_residuals_that_may_be_correlated_cost_a_prediction(monkeypatch):
    def refuse(*given):
        raise AssertionError("predicted again")

    monkeypatch.setattr(searching, "whitened_residuals", refuse)
    data = simulated([[0.0, 0.2], [0.3, 0.0]], 0.3, 0.8, 2.0)
    found = bayesdcm.fit(two_regions(), data, draws=50)
    assert found.status["search"]["starts"] == 1
    assert found.posterior.optima.residuals == ()


def test_each_of_many_columns_is_looked_at_less_often():
    random = np.random.default_rng(2)
    for n_columns in (1, 9):
        looked_at = [coloured(random.normal(size=(200, n_columns))) for _ in range(300)]
        assert np.mean(looked_at) == pytest.approx(0.2 / np.sqrt(n_columns), abs=0.05)


def test_programs_start_once_unless_they_are_asked_to_search():
    data = heard(1.6)
    default, alone = bayesdcm.fit(wave, data), bayesdcm.fit(wave, data, starts=1)
    assert "search" not in default.status and "search" not in alone.status
    assert default.log_evidence == alone.log_evidence


def test_nuts_starts_where_the_search_ended(model, found):
    mean, _, _, record = gaussian_start(make_problem(model, heard(1.6)), "auto", 0)
    assert mean[0] == pytest.approx(float(found.mean["frequency"]), abs=1e-9)
    options = {"chains": 1, "draws": 50, "warmup": 50, "progress": False}
    fit = bayesdcm.fit(model, heard(1.6), "nuts", starts="auto", **options)
    assert fit.status["search"] == record == found.status["search"]
    assert fit.mean["frequency"] == pytest.approx(1.6, abs=0.02)


@pytest.mark.parametrize("side_by_side", ["threads", "vectorized"])
def test_groups_search_as_single_fits_do(model, side_by_side):
    data = {"ann": heard(1.6), "ben": heard(1.01)}
    options = {"starts": "auto", "progress": False}
    group = fit_group(model, data, side_by_side=side_by_side, **options)
    for subject, fit in zip(data, group, strict=True):
        single = bayesdcm.fit(model, data[subject], starts="auto", seed=fit.status["seed"])
        assert fit.log_evidence == pytest.approx(single.log_evidence, abs=1e-3)
        assert fit.status["search"]["starts"] == single.status["search"]["starts"]


def test_diagnose_names_what_a_search_leaves(found, monkeypatch):
    assert "doubtful" not in str(found.diagnose())
    left = dict(found.status["search"], left=UNEXPLAINED)
    monkeypatch.setitem(found.status, "search", left)
    text = str(found.diagnose())
    assert f"The optimum is doubtful: the best of {left['starts']} starts is 101.3 nats" in text
    assert UNEXPLAINED in text and "Try more (starts=64)" in text


def test_optima_that_are_nearly_as_good_are_named(found, monkeypatch):
    rival = SimpleNamespace(log_evidence=found.log_evidence - 2.5)
    monkeypatch.setitem(found.__dict__, "modes", (found, rival))
    assert "1 other optimum is within 3 nats of the best one" in str(found.diagnose())
    rival.log_evidence -= 1
    assert "other optimum" not in str(found.diagnose())


def test_short_steps_do_not_pass_for_convergence():
    optima = SimpleNamespace(
        converged=np.array([True, True, False, True]),
        slope=np.array([0.05, 4.1, 4.1, 4.1]),
        n_iterations=np.array([3, 3, 3, 3]),
        trace={"accepted": np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 0]])},
    )
    assert [stopped_early(optima, k) for k in range(4)] == [False, True, False, False]


def test_residuals_are_judged_by_what_the_model_can_predict():
    random = np.random.default_rng(1)
    noise, shape = random.normal(size=(2, 100, 1)), np.sin(np.arange(100.0) / 5)[:, None]
    others = (
        noise[0] + shape * random.normal(size=(32, 1, 1)) + random.normal(size=(32, 100, 1)) / 9
    )
    assert explained_elsewhere(noise[0] + shape, others + shape).tolist() == [True]
    assert explained_elsewhere(noise[0], others).tolist() == [False]
    assert coloured(np.concatenate([noise[0], noise[0] + shape], axis=1)).tolist() == [False, True]


@pytest.mark.parametrize(("n", "starts"), [(1, 1), (2, 3), (4, 15), (6, 23)])
def test_other_signs_of_nodes_are_tried(monkeypatch, n, starts):
    """All of few nodes together; of many, each while any is better."""
    true = np.where(np.arange(n) % 2, -1.0, 1.0)

    def climbed(starts):
        """Signs stay; the first node is scaled by two parameters."""
        signs = np.sign(starts[:, :n])
        wrong = np.minimum((signs != true).sum(1), (signs != -true).sum(1))
        fields = dict.fromkeys(LaplaceResult._fields, np.zeros(len(starts)))
        return LaplaceResult(**fields | {"mean": starts, "free_energy": -10.0 * wrong})

    monkeypatch.setattr(searching, "run_starts", lambda *given: climbed(given[4]))
    monkeypatch.setattr(searching, "scaled_by_node", lambda *given: list(np.arange(n)[:, None]))
    inverted = SimpleNamespace(model=SimpleNamespace(mirrored=True))
    centre = np.append(np.ones(n), 0.5)
    found = searching.search((inverted, None, None), None, climbed(centre[None]), centre, 0)
    best = found.optima.mean[np.argmax(found.optima.free_energy)]
    assert abs(best[:n] @ true) == n and best[n] == 0.5
    gain = 10.0 * (n // 2)
    reason = SIGNS if n > 1 else None
    assert found.record == {"starts": starts, "reason": reason, "gain": gain, "left": None}


@pytest.mark.parametrize(("fixed_at", "starts"), [(3.0, 3), (0.0, 1)])
def test_signs_relative_to_a_fixed_node_are_tried(monkeypatch, fixed_at, starts):
    prior = SimpleNamespace(
        name="gain", free=np.array([False, True]), mean=np.array([fixed_at, 1.0])
    )
    observer = SimpleNamespace(scaled=("gain",))
    model = SimpleNamespace(mirrored=True, priors=[prior], parts=SimpleNamespace(observer=observer))
    sites = SimpleNamespace(places={"gain_free": np.array([0])}, size=1)

    def climbed(points):
        fields = dict.fromkeys(LaplaceResult._fields, np.zeros(len(points)))
        return LaplaceResult(**fields | {"mean": points, "free_energy": -points[:, 0]})

    monkeypatch.setattr(searching, "run_starts", lambda *given: climbed(given[4]))
    static, centre = (SimpleNamespace(model=model), sites, None), np.ones(1)
    found = searching.search(static, None, climbed(centre[None]), centre, 0)
    assert found.record["starts"] == starts


# Task DCMs


def two_regions(integrator="nonlinear"):
    B = np.zeros((2, 2, 2))
    B[1, 1, 0] = 1
    return bayesdcm.TaskDCM(A=np.ones((2, 2)), B=B, C=[[1, 0], [0, 0]], integrator=integrator)


def simulated(A, B, C, snr, seed=3):
    """Two regions; blocks, and a context that modulates the way forward."""
    seconds = np.arange(0, 240, 0.25)
    design = bayesdcm.BoldData(
        signal=np.random.default_rng(0).normal(size=(120, 2)),
        repetition_time=2.0,
        inputs=np.stack([seconds % 20 < 12, seconds % 40 >= 20], axis=1).astype(float),
        input_dt=0.25,
    )
    modulation = np.zeros((2, 2, 2))
    modulation[1, 1, 0] = B
    parameters = {"A": A, "B": modulation, "C": [[C, 0], [0, 0]], "transit": [0.0, 0.0]}
    parameters |= {"decay": 0.0, "epsilon": 0.0}
    return two_regions().simulate(parameters, design, seed, snr=snr)


@pytest.fixture(scope="module")
def deactivated():
    """The second region falls by 5 % while the context is on; fitted from one start, and so on."""
    data = simulated([[0.2, -0.2], [-0.1, 0.15]], -1.4, 0.45, 5.0)
    return data, bayesdcm.fit(two_regions(), data, starts=1), bayesdcm.fit(two_regions(), data)


def test_a_strongly_deactivated_region_is_explained(deactivated):
    _, alone, found = deactivated
    # The modulation of the wrong sign, 215 nats below.
    assert alone.mean["B"][1, 1, 0] > 0
    assert found.log_evidence > alone.log_evidence + 200
    assert found.mean["B"][1, 1, 0] == pytest.approx(-1.4, abs=0.2)
    assert found.status["search"]["reason"] == UNEXPLAINED
    assert "search" not in alone.status


def test_a_task_model_that_is_right_at_once_starts_once():
    data = simulated([[0.0, 0.2], [0.3, 0.0]], 0.3, 0.8, 2.0)
    found = bayesdcm.fit(two_regions(), data, draws=50)
    assert found.status["search"] == {"starts": 1, "reason": None, "gain": 0.0, "left": None}
    assert found.log_evidence == bayesdcm.fit(two_regions(), data, starts=1).log_evidence
    assert found.diagnose().facts.get("search") is None


def test_groups_of_task_models_search(deactivated):
    data, _, found = deactivated
    group = fit_group(two_regions(), [data], progress=False, draws=50)
    single = bayesdcm.fit(two_regions(), data, seed=group[0].status["seed"])
    assert group[0].log_evidence == pytest.approx(single.log_evidence, abs=1e-3)
    assert group[0].log_evidence == pytest.approx(found.log_evidence, abs=10)


def test_spm_integrator_starts_at_the_prior_mean_alone():
    assert two_regions().searches and not two_regions("bilinear").searches


def test_a_run_that_stops_at_once_goes_on():
    data = simulated([[0.25, -0.25], [-0.15, 0.1]], -1.3, -0.9, 0.5, seed=1)
    alone = bayesdcm.fit(two_regions(), data, starts=1)
    found = bayesdcm.fit(two_regions(), data)
    # Four short steps, each of little gain, are convergence to SPM's rule.
    assert alone.status["n_iterations"] == 4 and alone.status["converged"]
    assert stopped_early(alone.posterior.optima, 0)
    assert found.status["search"]["reason"] == UNEXPLAINED
    assert found.log_evidence > alone.log_evidence + 7
