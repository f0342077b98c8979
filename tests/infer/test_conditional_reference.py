"""The scheme for observer sites against a plain NumPy version of SPM's `spm_nlsi_N`.

The version here follows SPM's published scheme step by step with dense matrices over all data and
one-sided differences.
"""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.linalg import block_diag, expm

import bayesdcm
from bayesdcm.observe import gaussian

# Compiled as users compile: rounding decides whether a step is the last.
pytestmark = pytest.mark.usefixtures("optimized_file")

STEP = np.exp(-8)
FLAT = np.exp(-16)


def inverse(A):
    jitter = max(np.spacing(np.abs(A).sum(1).max(initial=0)) * len(A), np.exp(-32))
    return np.linalg.inv(A + jitter * np.eye(len(A)))


def log_determinant(C):
    """SPM's: of a diagonal matrix over its positive entries only."""
    if (np.diag(np.diag(C)) == C).all():
        values = np.diag(C)
    else:
        values = np.linalg.svd(C, compute_uv=False)
    return np.log(values[(values > 1e-16) & (values < 1e16)]).sum()


def ascent(H, g, v):
    if not len(g):
        return g
    t = np.exp(v - log_determinant(H) / len(g))
    if t > np.exp(16):
        return -np.linalg.pinv(H) @ g
    augmented = np.zeros((len(g) + 1,) * 2)
    augmented[1:, 0], augmented[1:, 1:] = t * g, t * H
    return expm(augmented)[1:, 0]


def differences(function, point):
    at = function(point)
    return at, [(function(point + STEP * e) - at) / STEP for e in np.eye(len(point))]


def score(B, e, Q, blocks, prior, h, hE, Pi_h):
    """Updates of the log-precisions; what is returned belongs to the values before the last."""
    for _ in range(4):
        W0 = np.exp(-32) * np.eye(len(Q[0])) + np.tensordot(np.exp(h), Q, 1)
        S, W = inverse(W0), np.kron(np.eye(blocks), W0)
        Cb = inverse(B.T @ W @ B + prior) + np.exp(-16) * np.eye(len(prior))
        P = np.exp(h)[:, None, None] * Q
        wide = [np.kron(np.eye(blocks), p) for p in P]
        k = [blocks * np.trace(p @ S) - e @ q @ e - np.trace(Cb @ B.T @ q @ B)
             for p, q in zip(P, wide, strict=True)]  # fmt: skip
        k = np.array(k) / 2
        K = -blocks / 2 * np.array([[np.trace(p @ S @ q @ S) for q in P] for p in P])
        K = K + np.diag(k) - Pi_h
        eh = h - hE
        k = k - Pi_h @ eh
        Ch, dh = inverse(-K), ascent(K, k, 4)
        h = h + np.clip(dh, -2, 2)
        if k @ dh < np.exp(-2):
            break
    return SimpleNamespace(h=h, W=W, S=S, Cb=Cb, Ch=Ch, eh=eh)


def invert(states, observe, y, Q, X0, p_prior, g_prior, h_prior, max_iterations=64):
    """Trace of the free energy, and the stored posterior."""
    (pE, pC), (gE, gC), (hE, hC) = p_prior, g_prior, h_prior
    blocks = y.shape[1]
    Z = np.kron(np.eye(blocks), X0)
    Pi_p, Pi_g, Pi_h = inverse(np.diag(pC)), inverse(np.diag(gC)), inverse(np.diag(hC))
    Pi_u = inverse(np.exp(16) * np.eye(Z.shape[1]))
    Pi = block_diag(Pi_p, Pi_g, Pi_u)
    vec = y.T.ravel()
    p, g, u, h, v = pE, gE, np.linalg.lstsq(Z, vec)[0], hE, -4.0
    best, small, trace, counts = SimpleNamespace(F=-np.inf), 0, [], []
    for ip in range(1, max_iterations + 1):
        x, dx = differences(states, p)
        vg = -4 if ip < 8 else 2
        for ig in range(1, 9):
            yp, dG = differences(lambda g, x=x: observe(x, g).T.ravel(), g)
            ep, eg, eu = p - pE, g - gE, u
            e = vec - yp - Z @ u
            Jp = np.stack([observe(d, g).T.ravel() for d in dx], axis=1)
            Jg = np.stack(dG, axis=1)
            s = score(np.c_[Jp, Jg, Z], e, Q, blocks, Pi, h, hE, Pi_h)
            h, W = s.h, s.W
            u = u + ascent(-Z.T @ W @ Z - Pi_u, Z.T @ W @ e - Pi_u @ u, 4)
            k = Jg.T @ W @ e - Pi_g @ eg
            dg = ascent(-Jg.T @ W @ Jg - Pi_g, k, vg)
            g = g + dg
            if ig > 1 and k @ dg < np.exp(-2):
                break
        F = -(e @ W @ e + ep @ Pi_p @ ep + eg @ Pi_g @ eg + eu @ Pi_u @ eu + s.eh @ Pi_h @ s.eh)
        F += log_determinant(Pi @ s.Cb) + log_determinant(Pi_h @ s.Ch)
        F = (F - vec.size * np.log(2 * np.pi) - blocks * log_determinant(s.S)) / 2
        if F > best.F or ip < 4:
            kp, Kp = Jp.T @ W @ e - Pi_p @ ep, -Jp.T @ W @ Jp - Pi_p
            v = min(v + 0.5, 4)
            best = SimpleNamespace(F=F, p=p, g=g, u=u, h=h, Cb=s.Cb)
        else:
            p, g, u, h, v = best.p, best.g, best.u, best.h, min(v - 2, -4)
        dp = ascent(Kp, kp, v)
        p = p + dp
        trace.append(F)
        counts.append(ig)
        small = small + 1 if kp @ dp < 0.1 else 0
        if small == 4:
            break
    return best, np.array(trace), counts


def two_states(p, t):
    a, k, b = p
    return np.stack([np.exp(a - np.exp(k) * t) * np.sin(2 * t), b * np.cos(t) + 0.3 * a * b * t])


def traced_states(p, t):
    a, k, b = p
    return jnp.stack(
        [jnp.exp(a - jnp.exp(k) * t) * jnp.sin(2 * t), b * jnp.cos(t) + 0.3 * a * b * t]
    )


# What reads the states: rows of channels, as matrices that are linear in the observer.
OBSERVERS = {
    "one row": np.array([[[1.0, 0.2]], [[0.1, 0.7]]]),
    "a row each": np.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]),
    "mixed": np.random.default_rng(0).normal(size=(3, 4, 2)),
}


@pytest.mark.parametrize(
    ("observer", "confounds", "components"),
    [
        pytest.param("one row", 1, 1, marks=pytest.mark.exhaustive),
        ("a row each", 0, 1),
        pytest.param("mixed", 2, 1, marks=pytest.mark.exhaustive),
        pytest.param("mixed", 1, 2, marks=pytest.mark.slow),
        ("one row", 3, 2),
    ],
)
def test_equal_to_the_plain_version(observer, confounds, components):
    rng = np.random.default_rng(5)
    t, basis = np.linspace(0.1, 3, 30), OBSERVERS[observer]
    n, rows = len(t), basis.shape[1]
    Q = np.stack([1.25 * np.eye(n) - 0.5 * np.eye(n, k=1) - 0.5 * np.eye(n, k=-1), np.eye(n)])
    Q = Q[:components]
    X0 = np.stack([np.ones(n), t, t**2], axis=1)[:, :confounds]
    p_prior = np.array([0.0, -0.5, 0.5]), np.array([0.25, 0.125, 0.5])
    g_prior = np.full(len(basis), 0.5), np.full(len(basis), 0.25)
    h_prior = np.full(components, 2.0), np.full(components, 0.25)

    def observe(x, g):
        return (np.tensordot(g, basis, 1) @ x).T

    y = observe(two_states([0.3, -0.2, 0.8], t), rng.normal(size=len(basis)))
    y = y + rng.normal(size=y.shape) * 0.3 + X0.sum(1, keepdims=True)
    expected, trace, counts = invert(
        lambda p: two_states(p, t), observe, y, Q, X0, p_prior, g_prior, h_prior
    )

    def program(y):
        p = numpyro.sample("p", dist.Normal(p_prior[0], np.sqrt(p_prior[1])).to_event(1))
        g = dist.Normal(g_prior[0], np.sqrt(g_prior[1])).to_event(1)
        g = numpyro.sample("g", g, infer={"role": "observer"})
        h = dist.Normal(h_prior[0], np.sqrt(h_prior[1])).to_event(1)
        h = numpyro.sample("h", h, infer={"role": "precision"})
        prediction = (jnp.tensordot(g, basis, 1) @ traced_states(p, t)).T
        numpyro.sample("y", gaussian(prediction, h, Q, X0 if confounds else None, FLAT), obs=y)

    fit = bayesdcm.fit(program, y, derivatives="one_sided")
    assert y.shape == (n, rows)
    assert fit.status["n_iterations"] == len(trace)
    np.testing.assert_array_equal(fit.trace["observer_steps"], counts)
    np.testing.assert_allclose(fit.trace["free_energy"], trace, atol=1e-7)
    np.testing.assert_allclose(fit.mean["p"], expected.p, atol=1e-8)
    np.testing.assert_allclose(fit.mean["g"], expected.g, atol=1e-8)
    np.testing.assert_allclose(fit.mean["h"], expected.h, atol=1e-8)
    found = fit.covariance.to_numpy()[: 3 + len(basis), : 3 + len(basis)]
    np.testing.assert_allclose(found, expected.Cb[: len(found), : len(found)], atol=1e-8)
