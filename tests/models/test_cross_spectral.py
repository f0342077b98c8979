"""CrossSpectralDCM: SPM's numbers, what the default is instead, methods, conditions, channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bayesdcm
from bayesdcm import CrossSpectralDCM
from bayesdcm.data import SpectralData
from bayesdcm.data.head import SphereHead
from bayesdcm.infer.problem import make_problem
from bayesdcm.infer.ridges import straight
from bayesdcm.integrate import LinearResponse, SpmLinearResponse, linear_system, rest_state
from bayesdcm.integrate.hermitian import from_columns
from bayesdcm.neural import CMC, CMM, ERP, LFP
from bayesdcm.neural.base import from_vector, to_vector
from bayesdcm.observe import ChannelSpectra

NEURAL = {"erp": ERP, "cmc": CMC, "lfp": LFP}


@pytest.fixture(scope="module")
def reference():
    return np.load("tests/data/spm_cross_spectra.npz")


def full_parameters(priors, values):
    """Arrays by our names of SPM's fields."""
    table = {}
    for prior in priors:
        symbol, shape = prior.symbol or prior.name, np.shape(prior.mean)
        if symbol == "A":
            value = np.stack([np.atleast_2d(values[f"A{i + 1}"]) for i in range(shape[0])])
        elif symbol in ("B", "N"):
            value = np.zeros(shape)
        else:
            value = values[symbol]
        table[prior.name] = np.reshape(np.asarray(value, float), shape)
    return table


@pytest.mark.parametrize("network", ["one", "two"])
@pytest.mark.parametrize("neural", NEURAL)
def test_transfer_functions_and_cross_spectra_are_those_of_spm(reference, neural, network):
    stem = f"forward/{neural}/{network}"
    switches = [np.atleast_2d(reference[f"{stem}/A{i}"]) for i in (1, 2, 3)]
    n = len(switches[0])
    if n == 1:
        switches = [np.zeros((1, 1))] * 3
    model = NEURAL[neural](*switches, np.zeros((0, n, n)), np.zeros((n, 0)))
    observer, solver = ChannelSpectra(as_spm=True), SpmLinearResponse(one_sided=True)
    frequencies = reference[f"forward/{neural}/frequencies"]
    data = SpectralData(np.tile(np.eye(n), (len(frequencies), 1, 1)), frequencies)
    priors = {prior.name: prior for prior in (*model.priors(), *observer.priors(model))}
    steps, space = solver.prepare(model, observer, data, {}), observer.prepare(data, priors)

    @jax.jit
    def predict(parameters):
        solution = solver.solve(model, observer, parameters, steps)
        transfer = jnp.einsum("fkns,s->fnk", solution[0], parameters["contribution"] + 0j)
        spectra = observer.spectra(solution[observer.seen(priors)], parameters, space)
        return transfer * parameters["gain"][:, None], spectra[0]

    for draw in ("r0", "r1", "r2"):
        head = f"{stem}/{draw}/P/"
        values = {k[len(head) :]: reference[k] for k in reference.files if k.startswith(head)}
        predicted = predict(full_parameters(priors.values(), values))
        for name, ours in zip(("mtf", "csd"), predicted, strict=True):
            expected = reference[f"{stem}/{draw}/{name}"].reshape(ours.shape)
            error = np.abs(ours - expected).max() / np.abs(expected).max()
            assert error < 1e-9, (name, draw)


@pytest.mark.parametrize("network", [pytest.param("one", marks=pytest.mark.exhaustive), "two"])
def test_conductance_based_microcircuit_is_that_of_spm(reference, network):
    stem = f"pointwise/cmm/{network}"
    switches = [np.atleast_2d(reference[f"{stem}/A{i}"]) for i in (1, 2, 3)]
    n = len(switches[0])
    inputs = np.ones((n, np.reshape(reference[f"{stem}/r1/P/C"], (n, -1)).shape[1]))
    model = CMM(*switches, np.zeros((0, n, n)), inputs)

    @jax.jit
    def everything(x, u, parameters):
        jacobian = model.jacobian(x, u, parameters, one_sided=True)
        operator = model.delay_operator(jacobian, parameters)
        return to_vector(model.flow(x, u, parameters)), jacobian, operator

    for draw in ("r1", "r2"):
        head = f"{stem}/{draw}/P/"
        values = {k[len(head) :]: reference[k] for k in reference.files if k.startswith(head)}
        values["H"] = np.moveaxis(np.reshape(values["H"], (4, 4, n), order="F"), 2, 0)
        x = from_vector(jnp.asarray(reference[f"{stem}/{draw}/x"].ravel()), n)
        u = jnp.asarray(np.atleast_1d(reference[f"{stem}/{draw}/u"]).ravel())
        found = everything(x, u, full_parameters(model.priors(), values))
        limits = {"f": 1e-13, "J": 1e-11, "D": 1e-10}
        for (name, limit), ours in zip(limits.items(), found, strict=True):
            expected = reference[f"{stem}/{draw}/{name}"].reshape(ours.shape)
            error = np.abs(ours - expected).max() / np.abs(expected).max()
            assert error < limit, name


def data_of(reference, name):
    frequencies = reference[f"inversion/{name}/frequencies"]
    spectra = reference[f"inversion/{name}/csd_data"]
    spectra = spectra.reshape(len(frequencies), round((spectra.size / 45) ** 0.5), -1)
    options = {"unit": "arbitrary", "sided": 1, "kind": "lfp", "degrees_of_freedom": 50}
    return SpectralData.from_arrays(spectra, frequencies, **options)


def spm_model(reference, name, **options):
    switches = [np.atleast_2d(reference[f"inversion/{name}/A{i}"]) for i in (1, 2, 3)]
    off = 1 - np.eye(len(switches[0]))
    switches = [each * off for each in switches]
    return CrossSpectralDCM(*switches, neural=name[:3], likelihood="spm", **options)


@pytest.mark.parametrize("name", ["erp_1src", "erp_2src", "cmc_1src"])
def test_data_are_scaled_as_in_spm(reference, name):
    data = data_of(reference, name)
    signal = np.asarray(spm_model(reference, name).prepare(data).signal)
    expected = reference[f"inversion/{name}/csd_scaled"]
    np.testing.assert_allclose(
        from_columns(signal).reshape(expected.shape), expected, rtol=0, atol=1e-13
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "derivatives"),
    [
        ("erp_1src", "one_sided"),
        ("erp_2src", "one_sided"),
        ("cmc_1src", "one_sided"),
        ("erp_2src", "exact"),
        # SPM's numbers are those of one-sided derivatives; how far exact ones lie off, one says.
        pytest.param("erp_1src", "exact", marks=pytest.mark.exhaustive),
        pytest.param("cmc_1src", "exact", marks=pytest.mark.exhaustive),
    ],
)
def test_inversions_are_those_of_spm(reference, name, derivatives):
    data, exact = data_of(reference, name), derivatives == "exact"
    model = spm_model(reference, name, one_sided=not exact)
    iterations = int(reference[f"inversion/{name}/iterations"])
    options = {"derivatives": derivatives, "max_iterations": iterations}
    fit = bayesdcm.fit(model, data, "laplace", progress=False, **options)
    free_energy = float(reference[f"inversion/{name}/F"])
    assert fit.log_evidence == pytest.approx(free_energy, abs=0.02 if exact else 1e-5)
    assert fit.status["n_iterations"] == iterations
    values, start = {}, 0
    for field in reference[f"inversion/{name}/order"]:
        mean = reference[f"inversion/{name}/Ep/{field}"]
        sd = reference[f"inversion/{name}/sd"][start : start + mean.size]
        values[str(field)] = mean, sd.reshape(mean.shape, order="F")
        start += mean.size
    means = full_parameters(model.priors, {k: v[0] for k, v in values.items()})
    sds = full_parameters(model.priors, {k: v[1] for k, v in values.items()})
    for prior in model.priors:
        if prior.free.any():
            error = np.abs(fit.mean[prior.name] - means[prior.name]) / sds[prior.name]
            assert np.where(prior.free, error, 0).max() < (0.02 if exact else 1e-4)
    prediction = from_columns(np.asarray(_modelled(model, fit, data)))
    expected = reference[f"inversion/{name}/csd_pred"].reshape(prediction.shape)
    error = np.abs(prediction - expected).max() / np.abs(expected).max()
    assert error < (0.01 if exact else 1e-6)


def _modelled(model, fit, data):
    prepared = model.prepare(data)

    @jax.jit
    def modelled(parameters):
        solution = model._solution(parameters, prepared.steps)
        return model.observer.predict(solution, parameters, prepared.space)

    return modelled(prior_means(model) | {name: np.asarray(v) for name, v in fit.mean.items()})


FORWARD = np.array([[0.0, 0.0], [1.0, 0.0]])


def two_sources(**options):
    return CrossSpectralDCM(FORWARD, FORWARD.T, modulation=FORWARD, **options)


def flat_data(n_channels=2, **fields):
    flat = np.tile(np.eye(n_channels), (2, 23, 1, 1))
    known = {"conditions": ["standard", "deviant"], "degrees_of_freedom": 100.0}
    return SpectralData(flat, np.arange(4.0, 50.0, 2.0), **(known | fields))


def prior_means(model, **changes):
    means = {prior.name: np.array(prior.mean, float) for prior in model.priors}
    for name, value in changes.items():
        means[name] = means[name] + value
    return means


@pytest.mark.parametrize(
    "neural", ["cmm", *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (*NEURAL, "nmda"))]
)
def test_default_solves_delays_and_rest_as_they_are(neural):
    """About rest, the response at each frequency is that of the linearised delay equation."""
    data = flat_data(design=np.zeros((2, 0)))
    model = CrossSpectralDCM(FORWARD, FORWARD.T, neural=neural)
    assert isinstance(model.solver, LinearResponse)
    source, n = model.parts.neural, model.n_sources
    parameters = {k: jnp.asarray(v) for k, v in prior_means(model).items()}

    @jax.jit
    def system(parameters):
        def flow(x):
            states = from_vector(x, n)
            return to_vector(source.flow(states, jnp.zeros(0), parameters))

        rest = rest_state(flow, to_vector(jnp.asarray(source.rest(), float)))
        return flow(rest), jax.jacfwd(flow)(rest), linear_system(source, parameters)

    rates, J, linear = (jax.tree.map(np.asarray, each) for each in system(parameters))
    assert np.abs(rates).max() < 1e-6
    np.testing.assert_allclose(linear.jacobian, J, rtol=1e-9, atol=1e-9)
    transfer = model._solution(parameters, model._steps(data), seen=False)
    k = int(np.abs(np.asarray(data.frequencies) - 10).argmin())
    turn = 2j * np.pi * 10.0
    response = np.linalg.solve(
        turn * np.eye(len(J)) - J * np.exp(-turn * linear.delays), linear.entry
    )
    ours = np.asarray(transfer)[0, k].transpose(2, 1, 0).reshape(response.shape)
    np.testing.assert_allclose(ours, response, rtol=1e-9, atol=1e-12 * np.abs(response).max())


@pytest.mark.slow
def test_what_differs_between_conditions_is_recovered():
    model = two_sources(neural="erp")
    parameters = prior_means(model, gain=5.0)
    parameters["B"][0, 1, 0] = 0.8
    data = model.simulate(parameters, flat_data(degrees_of_freedom=400.0), seed=1)
    assert data.degrees_of_freedom.tolist() == [400.0, 400.0]
    fit = bayesdcm.fit(model, data, progress=False, starts=1, draws=20)
    assert fit.method == "laplace" and fit.status["converged"]
    label = "B[deviant, source 2, source 1]"
    summary = fit.summary()
    assert abs(summary.loc[label, "mean"] - 0.8) < 3 * summary.loc[label, "sd"]
    assert summary.loc[label, "sd"] < 0.25
    off = model.restrict(modulation=0)
    change = bayesdcm.reduce(fit, off=[label]).log_evidence - fit.log_evidence
    refit = bayesdcm.fit(off, data, progress=False, starts=1, draws=20)
    # Reduction extrapolates a Gaussian by five standard deviations, and finds the loss too small.
    loss = refit.log_evidence - fit.log_evidence
    assert loss < change < -8


@pytest.mark.exhaustive
def test_sources_are_found_with_their_signs_relative_to_each_other():
    model = two_sources(neural="erp").restrict(modulation=0)
    gain = np.array([2.0, -3.0])
    data = model.simulate(prior_means(model, gain=gain), flat_data(), seed=0)
    fit = bayesdcm.fit(model, data, draws=20, progress=False)
    assert fit.mean["gain"][0] > 0 > fit.mean["gain"][1]
    assert fit.status["search"]["starts"] == 3 and fit.status["search"]["gain"] > 20
    as_spm = CrossSpectralDCM(FORWARD, FORWARD.T, likelihood="spm")
    assert model.mirrored and not as_spm.mirrored


@pytest.mark.exhaustive
def test_patches_are_found_with_any_signs_of_their_modes():
    field = np.random.default_rng(3).normal(size=(2, 12, 4)) * np.array([1, 0.5, 0.3, 0.2])
    given = {"observation": "img", "lead_field": field}
    model = CrossSpectralDCM(FORWARD, FORWARD.T, neural="erp", **given)
    parameters = prior_means(model)
    parameters["patch_weight"] = 4 * np.random.default_rng([1, 5]).normal(size=(2, 4))
    design = flat_data(12, design=np.zeros((2, 0)), degrees_of_freedom=200.0)
    fit = bayesdcm.fit(model, model.simulate(parameters, design, seed=1), draws=20, progress=False)
    pairs = zip(field, parameters["patch_weight"], fit.mean["patch_weight"], strict=True)
    seen = [np.corrcoef(lead @ true, lead @ found)[0, 1] for lead, true, found in pairs]
    assert min(np.abs(seen)) > 0.999 and seen[0] * seen[1] > 0
    assert fit.status["search"]["gain"] > 20


@pytest.mark.exhaustive
def test_dipoles_in_a_head_are_found_with_what_differs_between_conditions():
    directions = np.random.default_rng(2).normal(size=(12, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    head = SphereHead(0.09 * directions, mni_to_head=np.diag([1e-3, 1e-3, 1e-3, 1.0]))
    places = [[-42.0, -22.0, 37.0], [40.0, 30.0, 40.0]]
    model = two_sources(neural="erp", observation="ecd", positions=places)
    parameters = prior_means(model)
    parameters["moment"] = 8 * np.abs(np.random.default_rng(1).normal(size=(2, 3)))
    parameters["B"][0, 1, 0] = 0.8
    data = model.simulate(parameters, flat_data(12, head=head, degrees_of_freedom=400.0), seed=1)
    fit = bayesdcm.fit(model, data, progress=False, starts=1, draws=20)
    for true, found in zip(parameters["moment"], fit.mean["moment"], strict=True):
        assert true @ found / np.linalg.norm(true) / np.linalg.norm(found) > 0.999
    found, sd = fit.mean["B"][0, 1, 0], fit.sd["B"][0, 1, 0]
    assert abs(found - 0.8) < 3 * sd < 0.8


def test_many_channels_are_seen_in_modes_and_simulated():
    field = np.random.default_rng(0).normal(size=(6, 2))
    model = two_sources(neural="erp", observation="fixed", lead_field=field)
    data = flat_data(6)
    prepared = model.prepare(data)
    assert prepared.signal.shape == (46, 4)
    simulated = model.simulate(prior_means(model), data, seed=0)
    assert simulated.spectra.shape == (2, 23, 6, 6)
    assert model.coords(data)["pair"][1] == "real mode 1, mode 2"
    assert model.names(data)["noise"] == ["all channels"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: CrossSpectralDCM(FORWARD, neural="hmm"), r"neural must be one of 'erp', 'cmc'"),
        (lambda: CrossSpectralDCM(FORWARD, likelihood="gauss"), r"likelihood must be one of"),
        (
            lambda: CrossSpectralDCM(FORWARD, neural="cmm", likelihood="spm"),
            r"neural='cmm' has no rest that is known beforehand",
        ),
        (lambda: CrossSpectralDCM(FORWARD, one_sided=True), r"one_sided is for parity with SPM"),
        (lambda: CrossSpectralDCM(FORWARD, observation="ecd"), r"needs positions"),
        (lambda: CrossSpectralDCM(), r"are all None, so the number of sources is unknown"),
        (
            lambda: two_sources().check(flat_data(3)),
            r"data has 3 channels, but the model has 2 sources",
        ),
        (
            lambda: two_sources().check(flat_data(degrees_of_freedom=None)),
            r"data.degrees_of_freedom is None, but the Wishart likelihood needs",
        ),
        (
            lambda: two_sources().check(flat_data(kind="bold")),
            r"data.kind is 'bold', but the model is for cross-spectra of EEG, MEG or LFP",
        ),
        (
            lambda: two_sources().check(flat_data(design=np.zeros((2, 0)))),
            r"data has 0 effect\(s\)",
        ),
    ],
)
def test_faults_are_named(make, text):
    with pytest.raises((ValueError, TypeError), match=text):
        make()


@pytest.mark.slow
def test_gradients_agree_in_both_modes_and_with_differences():
    model = two_sources(neural="cmc")
    data = flat_data()
    point = {k: jnp.asarray(v) for k, v in prior_means(model).items()}
    weight = np.random.default_rng(0).normal(size=(2, 23, 2, 2))

    def total(a):
        moved = {**point, "A": point["A"] + a, "delay": point["delay"] + a / 2}
        return (weight * model.predict(moved, data).real).sum()

    @jax.jit
    def everything(a):
        value, tangent = jax.linearize(total, a)
        return value, tangent(1.0), jax.linear_transpose(tangent, a)(1.0)[0]

    _, forward, reverse = everything(0.1)
    difference = (everything(0.1 + 1e-5)[0] - everything(0.1 - 1e-5)[0]) / 2e-5
    assert float(forward) == pytest.approx(float(reverse), rel=1e-9)
    assert float(forward) == pytest.approx(float(difference), rel=1e-6)


@pytest.mark.parametrize(
    ("observation", "name"),
    [("lfp", "gain"), pytest.param("ecd", "moment", marks=pytest.mark.slow)],
)
def test_the_ridge_between_gain_and_amplitude_is_straight(observation, name):
    given = {"lead_field": np.ones((2, 2, 3))} if observation == "ecd" else {}
    # One amplitude is fixed, so that free ones are a site of their own.
    priors = {"fluctuation": (np.zeros((2, 2)), np.array([[1.0, 0.0], [1 / 16, 1 / 16]]))}
    model = two_sources(neural="erp", observation=observation, priors=priors, **given)
    sites = make_problem(model, flat_data()).sites
    field = np.arange(sites.size)[sites.places[name]]
    amplitude = np.arange(sites.size)[sites.places["fluctuation_free"]][0]
    first, second = np.split(field, 2)
    # Data know the size of the first source times the root of its power; nothing of the second.
    rng, centre = np.random.default_rng(0), np.zeros(sites.size)
    centre[first] = 1 + rng.random(len(first))
    known = np.zeros(sites.size)
    known[first], known[amplitude] = centre[first], (centre[first] @ centre[first]) / 2
    precision = np.eye(sites.size) + 1e4 * np.outer(known, known)
    covariance = np.linalg.inv(precision)
    # Nor does it know more of the law of noise that channels share than its power at 3 Hz.
    level, law = np.arange(sites.size)[sites.places["shared_noise"]]
    precision[level, level] += 1e3
    precision[level, law] = precision[law, level] = -1e3 * np.log(3)
    precision[law, law] += 1e3 * np.log(3) ** 2
    covariance = np.linalg.inv(precision)
    along = straight(model, sites, centre, covariance)
    assert np.count_nonzero(along.exponents) == len(first)
    np.testing.assert_allclose(along.exponents[first, amplitude], 0.5, rtol=1e-3)
    point = rng.normal(size=sites.size)
    moved, modes = along.gaussian(covariance, point[None])
    back, log_volume = along.back(modes[0])
    np.testing.assert_allclose(back, point, rtol=1e-12)
    volume = np.linalg.slogdet(jax.jacfwd(lambda x: along.back(x)[0])(modes[0]))
    assert volume[0] == 1 and float(log_volume) == pytest.approx(volume[1])
    # The same power at 3 Hz with another exponent is the same amplitude.
    assert np.count_nonzero(along.slopes) == 1
    point = centre.copy()
    point[[level, law]] = np.log(3) * np.expm1(0.5), 0.5
    tangent = np.log(3) * 0.5
    assert along.there(point)[level] == pytest.approx(tangent, rel=1e-3)
    # The size no longer depends on the amplitude.
    assert abs(np.linalg.inv(moved)[first, amplitude] / precision[first, amplitude]).max() < 0.01
    assert not straight(model, sites, np.zeros(sites.size), covariance).exponents.any()
    assert straight(model, sites, np.zeros(sites.size), np.eye(sites.size)) is None
    assert straight(bayesdcm.TaskDCM([[1]], C=[[1]]), sites, centre, covariance) is None
