"""What may be put side by side: the same data, scaling and confounds; and what is refused."""

import warnings
from functools import partial

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm import BoldData, RegressionDCM, TaskDCM
from bayesdcm.compare import Evidence, compare, log_evidence, stack_modes
from bayesdcm.compare.comparable import check_comparable
from bayesdcm.infer import Fit, Laplace, Posterior
from bayesdcm.infer.modelled_data import ModelledData
from bayesdcm.infer.problem import make_problem
from bayesdcm.observe import gaussian

RNG = np.random.default_rng(4)
SIGNAL, MOTION = RNG.normal(size=(60, 1)), RNG.normal(size=(60, 2))
MILLIMETRES, METRES = (np.c_[np.ones(60), factor * MOTION] for factor in (1.0, 1e-3))


def of(observed, **constants):
    """A fit of which nothing is known but its evidence and data."""
    data = ModelledData({"signal": np.asarray(observed)}, constants)
    return Fit(None, Posterior(Laplace(), log_evidence=-1.0), {"_modelled_data": data})


def refused(message, one, two, what="evidence"):
    with pytest.raises(ValueError, match=message):
        check_comparable({"a": one, "b": two}, what)


def accepted(*fits, what="evidence"):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_comparable(dict(enumerate(fits)), what)


# The rule


def test_same_data_and_what_may_differ():
    confounds = MILLIMETRES
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    base = of(SIGNAL, scale=2.0, modelled_confounds=confounds, inputs=np.zeros(3))
    # Confounds add the covariance X X' to a signal, whatever the columns that give it.
    for same in (confounds[:, ::-1], confounds @ rotation, confounds * (1 + 1e-9)):
        accepted(base, of(SIGNAL, scale=2.0, modelled_confounds=same, inputs=np.ones(3)))
    # Data come back from the scale of a model with its rounding.
    accepted(base, of(SIGNAL * 0.3 / 0.3, scale=2.0 * (1 + 1e-12), modelled_confounds=confounds))
    accepted(of(SIGNAL), of(SIGNAL))
    none = np.zeros((60, 0))
    accepted(of(SIGNAL, modelled_confounds=none), of(SIGNAL, modelled_confounds=none))


@pytest.mark.parametrize("name", ["confounds", "modelled_confounds"])
@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        (MILLIMETRES, METRES, "'b' and 'a' differ: their confounds are the same but for units"),
        # Small beside the constant, and yet each tenth costs log(10) nats.
        (METRES, np.c_[np.ones(60), 1e-4 * MOTION], "the same but for units or scaling"),
        (MILLIMETRES[:, :2], MILLIMETRES, "they have 3 and 2 confounds; confounds have a flat"),
        (MILLIMETRES, np.zeros((60, 0)), "they have 0 and 3 confounds"),
        (MILLIMETRES, np.c_[np.ones(60), MOTION**2], "their 3 confounds are not the same"),
        (MILLIMETRES, np.c_[MILLIMETRES[:, :2], 1e-6 * MOTION[:, 1:] ** 2], "are not the same"),
    ],
)
def test_other_confounds(name, one, two, message):
    fits = [of(SIGNAL, **{name: confounds}) for confounds in (one, two)]
    refused(message, *fits)
    if "same but for units" in message:
        # Predictions are made given the coefficients.
        accepted(*fits, what="prediction")
    else:
        refused(message, *fits, what="prediction")


def test_modelled_confounds_count_where_both_are_known():
    one, two = (
        of(SIGNAL, confounds=given, modelled_confounds=np.linalg.qr(given)[0])
        for given in (MILLIMETRES, METRES)
    )
    accepted(one, two)


@pytest.mark.parametrize("what", ["evidence", "prediction"])
def test_other_scalings(what):
    message = r"multiplied by 2 and by 1 .* of 60 points by 41.6 nats; fit both with models that"
    refused(message, of(SIGNAL, scale=1.0), of(SIGNAL, scale=2.0), what)
    # A program models its data as they are; of other models without a scale nothing is known.
    refused("multiplied by 2 and by 1", of(SIGNAL), of(SIGNAL, scale=2.0), what)
    accepted(of(SIGNAL, inputs=np.zeros(3)), of(SIGNAL, scale=2.0), what=what)


def test_other_channels_of_evoked_data():
    channels, modes = RNG.normal(size=(1, 60, 3)), np.eye(3)[:1]
    base = of(SIGNAL, channels=channels, modes_to_channels=modes, scale=1.0)
    other = of(2 * SIGNAL, channels=channels, modes_to_channels=modes[:, ::-1], scale=1.0)
    refused("other channel modes, which follow from the sources .* modes=", base, other)
    drifts = of(2 * SIGNAL, channels=2 * channels, modes_to_channels=modes, scale=1.0)
    refused("other values once drifts are removed .* n_confounds and hanning", base, drifts)


def test_numbers_are_what_the_caller_says():
    accepted(-1.0, of(SIGNAL), -2.0)


# All doors


@pytest.fixture(scope="module")
def fits():
    """Of one program, to data and to the same data plus 1."""

    def program(data):
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        numpyro.sample("y", gaussian(mean + 0 * data, 0.0), obs=data)

    return [bayesdcm.fit(program, np.arange(3.0) + more, progress=False) for more in (0, 0, 1)]


MESSAGE = "must be of the same data.* y has other values in 3 of 3 entries"


def test_tables_of_evidence(fits):
    one, same, other = fits
    for by in ("evidence", "loo"):
        with pytest.raises(ValueError, match=MESSAGE):
            compare({"a": one, "b": other}, by)
    evidences = [log_evidence(fit, "importance", draws=100) for fit in (one, same, other)]
    table = compare({"a": evidences[0], "b": evidences[1]})
    assert table["probability"].round(1).tolist() == [0.5, 0.5]
    for second in (other, evidences[2]):
        with pytest.raises(ValueError, match=MESSAGE):
            compare({"a": evidences[0], "b": second})
    # A number alone is what the caller says.
    compare({"a": Evidence(-1.0, 0.1, "importance"), "b": evidences[2]})


def test_models_over_subjects(fits):
    one, same, other = fits
    table = bayesdcm.select_models({"a": [one, other], "b": [same, other]}, "fixed")
    assert table["probability"].tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match=f"subject 1: fits {MESSAGE}"):
        bayesdcm.select_models({"a": [one, other], "b": [same, same]})
    bayesdcm.select_models({"a": [one, -3.0], "b": [same, -2.0]})


def test_modes(fits):
    assert len(stack_modes(fits[:2], by="evidence").weights) == 2
    with pytest.raises(ValueError, match=MESSAGE):
        stack_modes(fits[1:], by="evidence")


def test_confounds_of_programs(tmp_path):
    """What a program gives to `gaussian`, in units of the prior of the coefficients."""

    def program(data, confounds=None, precision=1e-8):
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        y = gaussian(mean * data, 0.0, confounds=confounds, confound_precision=precision)
        numpyro.sample("y", y, obs=data)

    def known(confounds, **options):
        problem = make_problem(partial(program, confounds=confounds, **options), SIGNAL[:, 0])
        return Fit(problem, Posterior(Laplace(), log_evidence=-1.0))

    one = known(MILLIMETRES)
    accepted(one, known(MILLIMETRES[:, ::-1]), known(100 * MILLIMETRES, precision=1e-4))
    accepted(known(None), known(None))
    refused("same but for units", one, known(METRES))
    refused("they have 0 and 3 confounds", one, known(None))
    refused("they have 2 and 3 confounds", one, known(MILLIMETRES[:, :2]))
    fit = bayesdcm.fit(partial(program, confounds=METRES), SIGNAL[:, 0], progress=False)
    read = bayesdcm.load_fit(fit.save(tmp_path / "fit.nc"))
    accepted(read, fit)
    refused("same but for units", one, read)


def test_fits_from_disk(fits, tmp_path):
    one, same, other = (bayesdcm.load_fit(f.save(tmp_path / f"{i}.nc")) for i, f in enumerate(fits))
    assert compare({"a": one, "b": same})["probability"].tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match=MESSAGE):
        compare({"a": one, "b": other})
    with pytest.raises(ValueError, match=MESSAGE):
        compare({"a": fits[0], "b": other})


def of_region(integrator, confounds):
    """A fit of one region of which nothing is known but the model, the data and an evidence."""
    events = {"onset": [10.0, 60.0], "duration": [15.0, 15.0]}
    model = bayesdcm.TaskDCM(A=[[1]], C=[[1]], integrator=integrator)
    data = bayesdcm.BoldData.from_events(
        4 * SIGNAL, 2.0, events, region_names=["V1"], confounds=confounds
    )
    return Fit(make_problem(model, data), Posterior(Laplace(), log_evidence=-1.0))


def test_units_of_confounds_of_task_fmri():
    spm = {unit: of_region("bilinear", X) for unit, X in (("mm", MILLIMETRES), ("m", METRES))}
    with pytest.raises(ValueError, match=r"same but for units.*except with integrator='bilinear'"):
        compare(spm)
    spm["m"] = of_region("bilinear", MILLIMETRES[:, ::-1])
    assert compare(spm)["probability"].tolist() == [0.5, 0.5]
    # The default makes confounds orthonormal.
    default = {X[0, 1]: of_region("nonlinear", X) for X in (MILLIMETRES, METRES)}
    assert compare(default)["probability"].tolist() == [0.5, 0.5]
    default["fewer"] = of_region("nonlinear", MILLIMETRES[:, :2])
    with pytest.raises(ValueError, match="they have 2 and 3 confounds"):
        compare(default)


@pytest.mark.parametrize("noise_cov", [None, np.diag([1.0, 2.0, 3.0, 4.0])])
def test_evoked_models_of_other_sources(noise_cov):
    rng = np.random.default_rng(0)
    data = bayesdcm.EvokedData(
        rng.normal(size=(1, 20, 4)), np.arange(20) / 250, noise_cov=noise_cov
    )

    def known(**options):
        model = bayesdcm.EvokedDCM(
            forward=np.zeros((2, 2)), observation="fixed", lead_field=rng.normal(size=(4, 2)),
            **options,
        )  # fmt: skip
        problem = make_problem(model, data)
        return model, Fit(problem, Posterior(Laplace(), log_evidence=-1.0))

    (model, here), (_, elsewhere) = known(), known()
    modes = model.channel_space(data).modes
    with pytest.raises(ValueError, match="other channel modes.*channel_space"):
        compare({"here": here, "elsewhere": elsewhere})
    same = known(modes=modes)[1]
    assert compare({"here": here, "elsewhere": same})["probability"].tolist() == [0.5, 0.5]
    drifts = known(modes=modes, n_confounds=3)[1]
    with pytest.raises(ValueError, match="n_confounds and hanning"):
        compare({"here": here, "drifts": drifts})


def test_scaling_of_spm():
    fits = {integrator: of_region(integrator, None) for integrator in ("nonlinear", "bilinear")}
    with pytest.raises(ValueError, match=r"multiplied by 0\.\d+ and by 1 to be modelled"):
        compare(fits)


def test_densities_of_other_forms_are_refused():
    """Of signals, and of their rates of change, whose unit of time alone matters."""
    signal = np.random.default_rng(0).normal(size=(80, 2))
    data = BoldData(signal, 2.0, np.ones((80, 1)), 2.0)
    ones, noise = np.ones((2, 2)), {"log_precision": 0.0}
    of_rates = bayesdcm.fit(RegressionDCM(ones, C=[[1], [0]]), data)
    smaller = bayesdcm.fit(RegressionDCM(np.eye(2), C=[[1], [0]]), data)
    of_signals = bayesdcm.fit(TaskDCM(ones, C=[[1], [0]], priors=noise), data, max_iterations=2)
    assert compare({"rates": of_rates, "fewer": smaller})["probability"].sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="they enter the likelihood in other forms"):
        compare({"rates": of_rates, "signals": of_signals})
    with pytest.raises(ValueError, match="is of RegressionDCM and that of 1 is of TaskDCM"):
        bayesdcm.peb([of_rates, of_signals])
