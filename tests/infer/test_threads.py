"""Rows of linear algebra computed together: the same numbers, and never too many at once."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.group.subject_coordinates import GroupPrior, SubjectGaussian, conditional
from bayesdcm.infer.threads import (
    FEW_MULTIPLICATIONS,
    _multiplications,
    map_rows,
    on_one_thread,
)

# Values of many draws of a hierarchy. As one batch of matrices they never came, on two cores.
MANY_DRAWS = """
import bayesdcm, jax.numpy as jnp, numpy as np, numpyro, numpyro.distributions as dist
from bayesdcm.infer.evaluation import site_values
from bayesdcm.infer.problem import make_problem

def program(data):
    A = numpyro.sample("A", dist.Normal(jnp.zeros(6), 1.0).to_event(1))
    numpyro.sample("y", bayesdcm.observe.gaussian(A, 2.0), obs=data)

data = np.random.default_rng(0).normal(size=(16, 6))
hierarchy = bayesdcm.Hierarchy(program, np.ones((16, 1)), parameters=["A"])
problem = make_problem(hierarchy, list(data))
draws = 0.1 * np.random.default_rng(1).normal(size=(3000, len(problem.flat_labels)))
for _ in range(5):
    values = site_values(problem, draws)
print(values["subject_parameters"].shape)
"""


def solved(row):
    """A solution in a loop, a compiled function and a custom derivative, as models have them."""
    matrix, right = row

    @jax.custom_jvp
    def inverse(matrix):
        return jax.jit(jnp.linalg.inv)(matrix)

    inverse.defjvp(lambda primals, tangents: (inverse(*primals), -inverse(*primals)))
    step = lambda total, _: (total + inverse(matrix) @ right, None)  # noqa: E731
    return jax.lax.scan(step, right, None, length=2)[0]


def rows(n, size):
    rng = np.random.default_rng(n)
    matrices = np.eye(size) + rng.normal(0, 0.1 / size, (n, size, size))
    return jnp.asarray(matrices), jnp.asarray(rng.normal(size=(n, size)))


@pytest.mark.parametrize(
    ("n", "size"),
    [(16, 4), (16, 20), (7, 30), (13, 20), (3, 60)],
    ids=["all at once", "even parts", "one by one", "a part left over", "large"],
)
def test_rows_have_the_values_of_a_batch_and_few_are_computed_at_once(n, size):
    given = rows(n, size)
    np.testing.assert_allclose(map_rows(solved, given), jax.vmap(solved)(given), rtol=1e-12)
    traced = jax.make_jaxpr(lambda each: map_rows(solved, each))(given).jaxpr
    single = jax.make_jaxpr(solved)(jax.tree.map(lambda leaf: leaf[0], given)).jaxpr
    assert _multiplications(single) == size**3
    assert _multiplications(traced) <= max(FEW_MULTIPLICATIONS, size**3)


def test_rows_without_linear_algebra_are_one_batch():
    given = jnp.arange(5000.0)
    traced = jax.make_jaxpr(lambda each: map_rows(jnp.sin, each))(given)
    assert "scan" not in str(traced)
    np.testing.assert_array_equal(map_rows(jnp.sin, given), jnp.sin(given))
    parts = str(jax.make_jaxpr(lambda each: map_rows(jnp.sin, each, at_most=50))(given))
    assert "scan" in parts


@pytest.mark.parametrize("n_clusters", [1, 3])
def test_subjects_given_the_group_are_few_at_once(n_clusters):
    n, p = 16, 30
    gaussian = SubjectGaussian(
        information=jnp.eye(p) + jnp.zeros((n, p, p)),
        weighted=jnp.ones((n, p)),
        slope=jnp.zeros((n, 0, p)),
        offset=jnp.zeros((n, 0)),
        spread=jnp.zeros((n, 0, 0)),
    )
    group = GroupPrior(
        jnp.zeros((n, n_clusters, p)), jnp.ones((n_clusters, p)), jnp.zeros(n_clusters)
    )
    gradient = jax.grad(lambda g: conditional(g, group).log_evidence.sum())
    traced = jax.make_jaxpr(gradient)(gaussian).jaxpr
    # Twice: matrices have one more column. All subjects at once would take eight times as many.
    assert 0 < _multiplications(traced) <= 2 * max(FEW_MULTIPLICATIONS, n_clusters * p**3)


@pytest.mark.exhaustive
def test_values_of_many_draws_of_a_hierarchy_arrive():
    done = subprocess.run(
        [sys.executable, "-c", MANY_DRAWS], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(3000, 16, 6)"


def test_programs_of_one_thread_are_not_divided():
    def divided(options):
        compiled = jax.jit(jnp.sin, compiler_options=options).lower(jnp.ones((512, 512))).compile()
        return 'outer_dimension_partitions":["' in compiled.as_text()

    options = on_one_thread()
    if options is None:
        pytest.skip("not tried with this version of jaxlib, or no CPU")
    assert not divided(options)
    if hasattr(os, "sched_getaffinity"):
        assert divided(None) == (len(os.sched_getaffinity(0)) > 1)
