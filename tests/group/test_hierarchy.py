"""The full hierarchy against closed forms on linear-Gaussian programs."""

import bayesdcm  # isort: skip  (before JAX: it sets double precision)

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy import stats

from bayesdcm.group import Hierarchy, compare_with_peb, fit_group, relabel
from bayesdcm.group.group_start import SubjectPosteriors, SubjectPriors
from bayesdcm.group.hierarchy_preparation import _searched, _with_signs
from bayesdcm.group.hierarchy_results import _numbers
from bayesdcm.group.subject_coordinates import (
    GroupPrior,
    SubjectReals,
    SubjectTransform,
    conditional,
    subject_gaussian,
)
from bayesdcm.infer import nuts, surrogate
from bayesdcm.infer.density import evaluate, log_joint
from bayesdcm.infer.evaluation import prior_sample
from bayesdcm.infer.problem import make_problem

TIMES = np.linspace(-1, 1, 12)
BASIS = np.column_stack([np.ones(12), TIMES, TIMES**2])
LOG_PRECISION = 2.0
N_SUBJECTS = 8
DESIGN = np.column_stack([np.ones(N_SUBJECTS), np.linspace(-1, 1, N_SUBJECTS)])


def program(data):
    """A constant and a slope that vary about the group, and a bend that does not."""
    A = numpyro.sample("A", dist.Normal(jnp.array([0.5, 0.0]), 1.0).to_event(1))
    bend = numpyro.sample("bend", dist.Normal(0.0, 2.0))
    prediction = A[0] + A[1] * TIMES + bend * TIMES**2
    numpyro.sample("y", bayesdcm.observe.gaussian(prediction, LOG_PRECISION), obs=data)


def simulated(means, seed=0):
    rng = np.random.default_rng(seed)
    bends = rng.normal(0, 2, len(means))
    subjects = np.asarray(means) + rng.normal(0, 0.25, np.shape(means))
    noise = rng.normal(0, np.exp(-LOG_PRECISION / 2), (len(means), len(TIMES)))
    return list(np.column_stack([subjects, bends]) @ BASIS.T + noise)


@pytest.fixture(scope="module")
def data():
    return simulated(DESIGN @ [[2.0, -1.0], [0.6, 0.3]])


@pytest.fixture(scope="module")
def hierarchy():
    return Hierarchy(program, DESIGN, parameters=["A"])


@pytest.fixture(scope="module")
def problem(hierarchy, data):
    return make_problem(hierarchy, data)


def exact(data, g):
    """Log-evidence, mean and covariance of the group effects given the log-precision g."""
    noise = np.exp(-LOG_PRECISION) * np.eye(12)
    within = np.exp(-g) / 16 * BASIS[:, :2] @ BASIS[:, :2].T
    covariance = noise + within + 4 * np.outer(BASIS[:, 2], BASIS[:, 2])
    scale = N_SUBJECTS / (DESIGN**2).sum(0)
    prior_mean, prior = np.array([0.5, 0, 0, 0]), np.kron(np.diag(scale), np.eye(2))
    maps = np.concatenate([np.kron(x[None], BASIS[:, :2]) for x in DESIGN])
    whole = np.kron(np.eye(N_SUBJECTS), covariance)
    y = np.concatenate(data)
    total = whole + maps @ prior @ maps.T
    gain = prior @ maps.T @ np.linalg.inv(total)
    evidence = stats.multivariate_normal(maps @ prior_mean, total).logpdf(y)
    return evidence, prior_mean + gain @ (y - maps @ prior_mean), prior - gain @ maps @ prior


def averaged(data):
    """Exact posterior moments of the effects and of g, by quadrature over g."""
    grid = np.linspace(-1.2, 1.2, 61)
    parts = [exact(data, g) for g in grid]
    log_weight = np.array([p[0] for p in parts]) - 8 * grid**2
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = sum(w * p[1] for w, p in zip(weight, parts, strict=True))
    second = sum(w * (p[2] + np.outer(p[1], p[1])) for w, p in zip(weight, parts, strict=True))
    g = weight @ grid
    sd = np.sqrt(np.diag(second - np.outer(mean, mean)))
    return mean, sd, g, np.sqrt(weight @ grid**2 - g**2)


def test_labels_name_covariate_parameter_and_subject(problem):
    labels = problem.flat_labels
    assert labels[:5] == [
        "mean A[0]", "mean A[1]", "covariate 1 A[0]", "covariate 1 A[1]",
        "between_log_precision[all]",
    ]  # fmt: skip
    assert labels[5:8] == ["subject 1 A[0]", "subject 1 A[1]", "subject 1 bend"]
    assert len(labels) == problem.sites.size == 5 + 3 * N_SUBJECTS


def test_start_is_the_exact_posterior_of_the_effects(hierarchy, problem, data):
    centre, covariance = hierarchy.gaussian_start(problem.prepared)
    _, mean, exact_covariance = exact(data, centre[4])
    sd = np.sqrt(np.diag(exact_covariance))
    np.testing.assert_allclose((centre[:4] - mean) / sd, 0, atol=1e-2)
    _, whole_sd, g, g_sd = averaged(data)
    # Laplace's method about the joint mode, against quadrature.
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)[:4]), whole_sd, rtol=0.05)
    assert abs(centre[4] - g) < 0.5 * g_sd
    assert (covariance[5:, 5:] == np.eye(3 * N_SUBJECTS)).all()


@pytest.mark.parametrize("clusters", [None, 2])
def test_start_does_not_depend_on_the_unit_of_a_covariate(data, clusters):
    options = {"parameters": ["A"], "clusters": clusters}
    one = Hierarchy(program, DESIGN, **options)
    problem = make_problem(one, data)
    mean, covariance = one.gaussian_start(problem.prepared)
    for factor in (1e-3, 1e3):
        other = Hierarchy(program, DESIGN * [1.0, factor], **options)
        scaled = problem.prepared._replace(design=jnp.asarray(other.design.to_numpy()))
        found, spread = other.gaussian_start(scaled)
        parts = [np.ones(site.size) for site in problem.sites.sites]
        for part, site in zip(parts, problem.sites.sites, strict=True):
            if site.name == "effects":
                part[part.size - 2 :] = factor
        unit, sd = np.concatenate(parts), np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(found * unit / sd, mean / sd, rtol=0, atol=1e-5)
        scales = np.outer(sd, sd)
        np.testing.assert_allclose(
            spread * np.outer(unit, unit) / scales, covariance / scales, atol=1e-5
        )


def test_density_is_that_of_the_model_whatever_the_coordinates(problem, data):
    rng = np.random.default_rng(1)
    vector = 0.5 * rng.normal(size=problem.sites.size)

    @jax.jit
    def at(vector):
        found = evaluate(problem.source.bind(problem.prepared), problem.sites, vector)
        return found.log_prior, found.log_likelihood, found.values

    log_prior, likelihood, values = at(jnp.asarray(vector))
    effects, g = vector[:4].reshape(2, 2), vector[4]
    subjects = np.asarray(values["subject_parameters"])
    np.testing.assert_allclose(values["A"], subjects[:, :2])
    np.testing.assert_allclose(values["between_sd"], np.full(2, np.exp(-g / 2) / 4))
    scale = np.sqrt(N_SUBJECTS / (DESIGN**2).sum(0))[:, None]
    expected = stats.norm([[0.5, 0], [0, 0]], scale).logpdf(effects).sum()
    expected += stats.norm(0, 0.25).logpdf(g)
    spread = np.exp(-g / 2) / 4
    expected += stats.norm(DESIGN @ effects, spread).logpdf(subjects[:, :2]).sum()
    expected += stats.norm(0, 2).logpdf(subjects[:, 2]).sum()
    # What is left is the volume of the coordinates, which moves with g only.
    residual = np.array(data) - subjects @ BASIS.T
    noise = stats.norm(0, np.exp(-LOG_PRECISION / 2)).logpdf(residual).sum()
    np.testing.assert_allclose(likelihood, noise, rtol=1e-9)
    precision = BASIS.T @ BASIS * np.exp(LOG_PRECISION) + np.diag([1 / spread**2] * 2 + [1 / 4])
    volume = -N_SUBJECTS * np.linalg.slogdet(precision)[1] / 2
    np.testing.assert_allclose(log_prior, expected + volume, rtol=1e-9)


@pytest.mark.exhaustive
def test_prior_draws_are_of_the_models_prior(problem):
    draws = np.asarray(prior_sample(problem, 400, 0))
    effects, g = draws[:, :4], draws[:, 4]
    scale = np.sqrt(N_SUBJECTS / (DESIGN**2).sum(0)).repeat(2)
    error = effects.std(0) / np.sqrt(400)
    np.testing.assert_array_less(np.abs(effects.mean(0) - [0.5, 0, 0, 0]), 4 * error)
    np.testing.assert_allclose(effects.std(0), scale, rtol=0.15)
    np.testing.assert_allclose(g.std(), 0.25, rtol=0.15)


@pytest.mark.slow
def test_surrogates_of_one_parameter_and_series_of_two_lengths(monkeypatch):
    monkeypatch.setattr(surrogate, "LEAST_OPERATIONS", 0)

    def level(data):
        A = numpyro.sample("A", dist.Normal(0.5, 1.0))
        numpyro.sample("y", bayesdcm.observe.gaussian(A + 0 * data, LOG_PRECISION), obs=data)

    model = Hierarchy(level, parameters=["A"])
    problem = make_problem(model, [np.linspace(-1, 2, n) for n in (5, 8, 5)])
    centre, covariance = model.gaussian_start(problem.prepared)
    weights = model.find_surrogate(problem, centre, covariance, 0).weights
    approximate = jax.jit(
        lambda at: model.surrogate_log_joint(problem.sites, problem.prepared, weights)(at, None)
    )
    point = jnp.asarray(centre + np.sqrt(np.diag(covariance)))
    program = problem.source.bind(problem.prepared)
    exactly = jax.jit(lambda at: log_joint(program, problem.sites, at))(point)
    np.testing.assert_allclose(approximate(point), exactly, rtol=1e-9)


def test_other_signs_of_the_sources_of_each_subject_are_tried():
    true = np.array([[1, -1, 1], [1, 1, -1]])

    def invert(priors):
        """Signs stay as they start."""
        signs = np.sign(priors.start)
        wrong = np.minimum((signs != true).sum(1), (signs != -true).sum(1))
        return SubjectPosteriors(priors.start, np.zeros((2, 3, 3)), -10.0 * wrong)

    priors = SubjectPriors(*np.ones((3, 2, 3)))
    nodes = list(np.arange(3)[:, None])
    found = _with_signs(nodes, priors, invert(priors), invert)
    assert found.free_energy.tolist() == [0, 0] and (np.abs(found.mean) == 1).all()


@pytest.fixture
def distorted_surrogates(monkeypatch):
    """Polynomials for predictions that are 1 % too large."""
    exactly = surrogate._predictions
    monkeypatch.setattr(surrogate, "LEAST_OPERATIONS", 0)
    monkeypatch.setattr(nuts, "LEAST_ACCEPTANCE", 0.0)
    monkeypatch.setattr(
        surrogate, "_predictions", lambda *given: [1.01 * each for each in exactly(*given)]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "surrogates", [pytest.param(None, marks=pytest.mark.exhaustive), "distorted_surrogates"]
)
def test_nuts_gives_the_exact_posterior(hierarchy, data, surrogates, request):
    if surrogates:
        request.getfixturevalue(surrogates)
    # A transition of the surrogate takes no time here, but some are refused.
    options = {"chains": 2, "warmup": 100, "draws": 1500 if surrogates else 500}
    fit = bayesdcm.fit(hierarchy, data, "nuts", progress=False, **options)
    record = fit.status["surrogate"]
    assert record["used"] == bool(surrogates)
    assert not surrogates or 0.4 < record["acceptance"] < 0.9
    table = fit.summary()
    mean, sd, g, g_sd = averaged(data)
    group = table.iloc[:5]
    expected, width = np.append(mean, g), np.append(sd, g_sd)
    error = width / np.sqrt(group["ess_bulk"])
    np.testing.assert_array_less(np.abs(group["mean"] - expected), 4 * error)
    np.testing.assert_allclose(group["sd"], width, rtol=0.12)
    assert fit.status["divergences"] == 0
    assert table["r_hat"].max() < 1.02
    assert table["ess_bulk"].min() > 300
    posterior = fit.idata.posterior
    assert (
        posterior["A"].dims == ("chain", "draw", "subject", "A_dim_0") or posterior["A"].ndim == 4
    )
    assert fit.idata.log_likelihood["subject_likelihood"].shape == (2, options["draws"], N_SUBJECTS)
    assert surrogates or fit.diagnose().ok
    if surrogates:
        return
    found = fit.predict()
    assert list(found) == [f"subject {i + 1}" for i in range(N_SUBJECTS)]
    subjects = posterior["subject_parameters"].mean(("chain", "draw")).to_numpy()
    # Of 250 of its draws.
    error = 4 * np.exp(-LOG_PRECISION / 2) / np.sqrt(250)
    np.testing.assert_allclose(np.stack(list(found.values())), subjects @ BASIS.T, atol=error)


@pytest.mark.exhaustive
@pytest.mark.parametrize("least_operations", [0, surrogate.LEAST_OPERATIONS])
def test_svi_agrees(hierarchy, data, least_operations, monkeypatch):
    monkeypatch.setattr(surrogate, "LEAST_OPERATIONS", least_operations)
    fit = bayesdcm.fit(hierarchy, data, "svi", steps=500, particles=2, progress=False)
    assert fit.status["surrogate"]["used"] == (least_operations == 0)
    mean, sd, _, _ = averaged(data)
    group = fit.summary().iloc[:4]
    np.testing.assert_allclose((group["mean"] - mean) / sd, 0, atol=0.3)
    np.testing.assert_allclose(group["sd"], sd, rtol=0.2)


@pytest.mark.exhaustive
def test_task_models_have_coordinates_that_are_nearly_standard_normal():
    inputs = (np.arange(0, 96, 0.25) % 24 < 12).astype(float)[:, None]
    model = bayesdcm.TaskDCM(A=[[1]], C=[[1]])
    timing = bayesdcm.BoldData(
        np.random.default_rng(0).normal(size=(48, 1)), 2.0, inputs, 0.25,
        region_names=("V1",), input_names=("Photic",),
    )  # fmt: skip
    data = {}
    for i, name in enumerate(["a", "b", "c", "d"]):
        parameters = {"A": [[0.1 * i]], "C": [[0.8]], "transit": [0.0], "decay": 0, "epsilon": 0}
        data[name] = model.simulate(parameters, timing, seed=i, snr=3.0)
    design = pd.DataFrame({"mean": 1.0, "age": [-1.0, 0.0, 0.5, 1.0]}, index=["d", "c", "b", "a"])
    hierarchy = Hierarchy(model, design, parameters=["A", "C"], between="fields")
    problem = make_problem(hierarchy, data)
    # Rows are found by the names of subjects.
    np.testing.assert_array_equal(problem.prepared.design[:, 1], [1.0, 0.5, 0.0, -1.0])
    labels = problem.flat_labels
    assert labels[:2] == ["mean A[V1, V1]", "mean C[V1, Photic]"]
    assert labels[4:6] == ["between_log_precision[A]", "between_log_precision[C]"]
    assert labels[-1] == "d log_precision[V1]"
    centre, _ = hierarchy.gaussian_start(problem.prepared)
    first = labels.index("a A[V1, V1]")

    @jax.jit
    def density(points):
        program = problem.source.bind(problem.prepared)
        return jax.lax.map(lambda v: log_joint(program, problem.sites, v), points)

    steps = np.eye(len(centre))[first:]
    found = np.asarray(density(np.concatenate([centre + steps, centre - steps, centre[None]])))
    curvature = found[: len(steps)] + found[len(steps) : -1] - 2 * found[-1]
    # Of a standard normal it is -1.
    assert np.abs(np.median(curvature) + 1) < 0.05
    np.testing.assert_allclose(curvature, -1, atol=0.4)


def gaussian(seed=0, n_selected=2, size=4, n_subjects=3):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(n_subjects, size, 2 * size))
    covariance = np.linalg.inv(np.eye(size) + roots @ roots.mT)
    selected = np.array([3, 1])[:n_selected]
    found = subject_gaussian(
        rng.normal(size=(n_subjects, size)), covariance, selected, np.zeros(2), np.ones(2)
    )
    return jax.tree.map(jnp.asarray, found), selected


def test_coordinates_and_their_volume():
    found, selected = gaussian()
    rng = np.random.default_rng(1)
    group = GroupPrior(
        jnp.asarray(rng.normal(size=(3, 2, 2))),
        jnp.asarray(rng.uniform(1, 4, (2, 2))),
        jnp.log(jnp.full(2, 0.5)),
    )
    places = jnp.asarray(np.concatenate([selected, [0, 2]]))

    @jax.jit
    def there_and_back(z):
        transform = SubjectTransform(SubjectReals(found, conditional(found, group), places))
        there = transform(z)
        return there, transform._inverse(there), transform.log_abs_det_jacobian(z, there)

    z = rng.normal(size=(3, 4))
    there, back, volume = there_and_back(z)
    np.testing.assert_allclose(back, z, atol=1e-10)
    # The map is affine: differences are exact.
    columns = [there_and_back(z + step)[0] - there for step in np.eye(4)]
    np.testing.assert_allclose(volume, np.linalg.slogdet(np.stack(columns, -1))[1], rtol=1e-8)


def test_evidence_of_a_mixture_sums_its_clusters():
    found, _ = gaussian()
    means = jnp.asarray(np.random.default_rng(2).normal(size=(3, 2, 2)))
    precision, weights = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([0.3, 0.7])
    given = jax.jit(conditional)
    both = given(found, GroupPrior(means, precision, jnp.log(weights)))
    single = [
        given(found, GroupPrior(means[:, k : k + 1], precision[k : k + 1], jnp.zeros(1)))
        for k in range(2)
    ]
    summed = sum(w * jnp.exp(s.log_evidence) for w, s in zip(weights, single, strict=True))
    np.testing.assert_allclose(both.log_evidence, jnp.log(summed), rtol=1e-10)
    centre = sum(both.membership[:, k, None] * single[k].centre for k in range(2))
    np.testing.assert_allclose(both.centre, centre, rtol=1e-10)


CLUSTERED = [[-1.5, 1.0]] * 5 + [[1.5, -1.0]] * 3


def test_clusters_start_where_the_subjects_are():
    model = Hierarchy(program, parameters=["A"], clusters=2)
    problem = make_problem(model, simulated(CLUSTERED))
    centre, _ = model.gaussian_start(problem.prepared)
    assert problem.flat_labels[:2] == ["cluster 1 A[0]", "cluster 1 A[1]"]
    means = centre[:4].reshape(2, 2)
    np.testing.assert_allclose(means, [[-1.5, 1.0], [1.5, -1.0]], atol=0.5)


def test_clusters_of_subjects_that_are_alike_start_without_warnings(recwarn):
    with pytest.raises(ValueError, match="clusters is 9, but there are 8 subjects"):
        make_problem(Hierarchy(program, parameters=["A"], clusters=9), simulated(CLUSTERED))
    model = Hierarchy(program, parameters=["A"], clusters=3)
    problem = make_problem(model, simulated(CLUSTERED[:1]) * 4)
    recwarn.clear()
    centre, covariance = model.gaussian_start(problem.prepared)
    assert np.isfinite(centre).all() and np.isfinite(covariance).all()
    assert not recwarn.list


@pytest.mark.exhaustive
def test_clusters_tell_subjects_apart():
    model = Hierarchy(program, parameters=["A"], clusters=2)
    fit = bayesdcm.fit(
        model, simulated(CLUSTERED), "nuts", chains=2, warmup=100, draws=300, progress=False
    )
    assert fit.idata.posterior["A"].shape == (2, 300, 8, 2)
    assert fit.idata.posterior["subject_parameters"].dims[2] == "subject"
    assert fit.idata.log_likelihood["subject_likelihood"].shape == (2, 300, 8)
    assert fit.diagnose().facts["divergences"] == 0
    found = relabel(fit)
    membership = found["membership"].mean(("chain", "draw"))
    assert membership.dims == ("subject", "cluster")
    assert (membership[:5, 0] > 0.95).all()
    assert (membership[5:, 1] > 0.95).all()
    assert fit.status["r_hat"] < 1.05


def test_relabelling_undoes_switches():
    rng = np.random.default_rng(0)
    membership = np.zeros((40, 6, 3)) + 0.02
    membership[:, [0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 2]] = 0.96
    order = np.array([rng.permutation(3) for _ in range(40)])
    switched = np.take_along_axis(membership, order[:, None], axis=2)
    found = np.take_along_axis(switched, _numbers(switched)[:, None], axis=2)
    np.testing.assert_allclose(found, membership)


def test_comparison_with_peb():
    own = pd.DataFrame({"mean": [0.2, 0.1], "sd": [0.1, 0.3]}, index=["mean A[0]", "age A[0]"])
    peb = pd.DataFrame(
        {"covariate": ["mean", "age"], "parameter": "A[0]", "mean": [0.3, 0.1], "sd": [0.2, 0.1]}
    )

    class Known:
        def summary(self):
            return own

    table = compare_with_peb(Known(), peb)
    np.testing.assert_allclose(table["shift"], [-0.5, 0.0])
    np.testing.assert_allclose(table["ratio"], [0.5, 3.0])
    with pytest.raises(ValueError, match="no group effect in common"):
        compare_with_peb(Known(), peb.assign(parameter="B[0]"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"between": "both"}, "between must be one of 'single', 'fields', 'all', got 'both'"),
        ({"clusters": 1}, "clusters must be an integer of at least 2, or None, got 1"),
        ({"between_prior": "flat"}, "between_prior must be one of 'peb', 'half_normal'"),
        ({"beta": -1.0}, "beta must be a positive number, got -1.0"),
        ({"design": [[2.0], [1.0]]}, "must be 1 for every subject"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Hierarchy(program, parameters=["A"], **options)


def test_fits_of_a_group_are_subjects(data, hierarchy, problem):
    fits = fit_group(program, data, progress=False)
    found = make_problem(hierarchy, fits)
    point = jnp.linspace(-0.5, 0.5, problem.sites.size)
    densities = [
        float(jax.jit(partial(log_joint, p.source.bind(p.prepared), p.sites))(point))
        for p in (found, problem)
    ]
    assert densities[0] == pytest.approx(densities[1], rel=1e-9)
    with pytest.raises(ValueError, match="is of another model than the hierarchy's"):
        make_problem(Hierarchy(lambda data: program(data), parameters=["A"]), fits)


def test_bad_data_are_refused(data):
    with pytest.raises(TypeError, match="model must be a model"):
        Hierarchy(3)
    with pytest.raises(TypeError, match="must be a sequence"):
        bayesdcm.fit(Hierarchy(program, parameters=["A"]), 3, "nuts")
    with pytest.raises(ValueError, match="at least two subjects, got 1"):
        bayesdcm.fit(Hierarchy(program, parameters=["A"]), data[:1], "nuts")
    with pytest.raises(ValueError, match="one row a subject, 7 in all; got 8"):
        bayesdcm.fit(Hierarchy(program, DESIGN, parameters=["A"]), data[:7], "nuts")
    with pytest.raises(ValueError, match="parameters names 'B'; the model has A, bend"):
        bayesdcm.fit(Hierarchy(program), data, "nuts")


def test_subjects_in_poor_optima_start_again_from_the_trend_of_the_others():
    best = DESIGN @ np.array([[0.0, 1.0], [2.0, -1.0]])

    def invert(priors):
        near = np.abs(priors.start - best).max(1) < 0.2
        mean = np.where(near[:, None], best, [[5.0, 5.0]])
        covariance = np.tile(np.eye(2), (N_SUBJECTS, 1, 1))
        return SubjectPosteriors(mean, covariance, np.where(near, -10.0, -90.0))

    first = best.copy()
    first[-2:] = 5.0  # their neighbours are too far from them
    own = SubjectPriors(0 * best, 1 + 0 * best, first)
    found = _searched(own, invert(own), DESIGN, invert)
    np.testing.assert_allclose(found.mean, best)
    assert (found.free_energy == -10).all()


def test_priors_that_are_not_normal_are_refused():
    def positive(data):
        scale = numpyro.sample("scale", dist.HalfNormal(1.0))
        numpyro.sample("y", bayesdcm.observe.gaussian(scale * jnp.ones(3), 0.0), obs=data)

    model = Hierarchy(positive, parameters=["scale"])
    with pytest.raises(ValueError, match="prior of scale is not normal and independent"):
        bayesdcm.fit(model, [np.ones(3)] * 2, "nuts")
