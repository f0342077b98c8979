"""The runner of many problems: batches, what is missing, failures, a stop."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from bayesdcm.infer import NUTS, Laplace
from bayesdcm.infer.batches import Task, batches_of
from bayesdcm.infer.fitting import fit_problem
from bayesdcm.infer.many import fit_many, run_many
from bayesdcm.infer.problem import make_problem
from bayesdcm.observe import gaussian


def program(data):
    level = numpyro.sample("level", dist.Normal(0, 1))
    numpyro.sample("y", gaussian(level * jnp.ones(len(data)), 0.0), obs=data)


class Kept(dict):
    """A store in which the fit of one key cannot be written."""

    def __init__(self, key=None, error=KeyboardInterrupt):
        self.key, self.error, self.reasons = key, error, {}

    def write(self, key, fit):
        if key == self.key:
            raise self.error
        self[key] = fit

    def write_failure(self, key, reason):
        self.reasons[key] = reason


@pytest.fixture
def tasks():
    rng = np.random.default_rng(0)
    data = {"ann": rng.normal(size=5), "ben": rng.normal(size=5), "cat": rng.normal(size=6)}
    return {
        name: Task(make_problem(program, values, shared=True), Laplace(), seed)
        for seed, (name, values) in enumerate(data.items())
    }


def test_batches_are_of_one_shape_and_of_methods_that_want_them(tasks):
    tasks["dan"] = tasks["ann"]._replace(method=NUTS(draws=5))
    tasks["eve"] = tasks["ben"]._replace(method=Laplace(max_iterations=9))
    assert [batch.keys for batch in batches_of(tasks)] == [
        ["ann", "ben"],
        ["cat"],
        ["dan"],
        ["eve"],
    ]
    assert [batch.keys for batch in batches_of(tasks, {"ben", "eve"})] == [["ben"], ["eve"]]
    assert [part.keys for part in next(batches_of(tasks)).parts(4)] == [["ann"], ["ben"]]


def test_posteriors_are_those_of_single_fits_whichever_are_missing(tasks):
    every, some = (
        dict(run_many(tasks, progress=False)),
        dict(run_many(tasks, {"ben"}, progress=False)),
    )
    assert sorted(every) == ["ann", "ben", "cat"] and list(some) == ["ben"]
    assert some["ben"].log_evidence == every["ben"].log_evidence
    for name, task in tasks.items():
        single = fit_problem(task.problem, task.method, seed=task.seed, progress=False)
        assert every[name].log_evidence == single.log_evidence
        np.testing.assert_array_equal(every[name].sample, single.posterior.sample)


@pytest.mark.parametrize("side_by_side", ["threads", "vectorized"])
def test_several_starts_and_problems_at_the_same_time(tasks, side_by_side):
    points = np.array([[-1.0], [0.0], [2.0]])
    tasks = {name: task._replace(method=Laplace(starts=points)) for name, task in tasks.items()}
    for name, posterior in run_many(tasks, side_by_side=side_by_side, progress=False):
        singles = [fit_problem(tasks[name].problem, starts=point[None]) for point in points]
        expected = [single.log_evidence for single in singles]
        np.testing.assert_allclose(posterior.trace["starts_free_energy"], expected, rtol=1e-12)
        assert posterior.log_evidence == pytest.approx(max(expected), rel=1e-12)


def test_a_stop_keeps_what_is_done(tasks, caplog):
    store = Kept("ben")
    assert fit_many(tasks, store, progress=False, title="work") == {}
    assert list(store) == ["ann"]
    assert "work was stopped: 1 of 3 fits are done" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        fit_many({"ben": tasks["ben"]}, Kept("ben"), progress=False)
    store.key = None
    fit_many(tasks, store, progress=False)
    assert sorted(store) == ["ann", "ben", "cat"]


def test_failures_are_kept_with_their_reasons(tasks, caplog):
    tasks["dan"] = ValueError("no\n data")
    store = Kept("ben", OSError("disk full"))
    reasons = fit_many(tasks, store, progress=False, title="work")
    assert reasons == {"dan": "ValueError: no data", "ben": "OSError: disk full"} == store.reasons
    assert sorted(store) == ["ann", "cat"]
    assert "work: ben could not be fitted: OSError: disk full" in caplog.text
