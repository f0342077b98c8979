import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.neural import (
    Additive,
    Diffusive,
    KuramotoCoupling,
    Sigmoidal,
    SigmoidalJansenRit,
    Tanh,
)


def logistic(x):
    return 1 / (1 + np.exp(-x))


PAIRWISE = {
    # What each connection adds, and what the region makes of the sum.
    Additive(): (lambda own, other: other, lambda total: total),
    Diffusive(): (lambda own, other: other - own, lambda total: total),
    Tanh(): (lambda own, other: other, lambda total: np.tanh(2 * total)),
    Sigmoidal(scale=2.0, shift=0.1, slope=3.0, midpoint=0.4): (
        lambda own, other: other,
        lambda total: logistic(3 * (2 * total + 0.1 - 0.4)),
    ),
    SigmoidalJansenRit(): (
        lambda own, other: 0.005 / (1 + np.exp(0.56 * (6 - other))),
        lambda total: total,
    ),
    KuramotoCoupling(): (lambda own, other: np.sin(other - own), lambda total: total),
}


@pytest.mark.parametrize("coupling", PAIRWISE, ids=lambda c: type(c).__name__)
def test_a_coupling_is_its_sum_over_pairs(coupling):
    rng = np.random.default_rng(0)
    weights, signal = rng.random((4, 4)), rng.normal(size=4)
    strength = rng.random(4)
    pair, whole = PAIRWISE[coupling]
    expected = [
        strength[i] * whole(sum(weights[i, j] * pair(signal[i], signal[j]) for j in range(4)))
        for i in range(4)
    ]
    sums = coupling.send(jnp.asarray(signal)) @ weights.T
    found = coupling.receive(sums, jnp.asarray(signal), weights.sum(1), strength)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
