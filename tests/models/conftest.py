"""SPM's predictions, designs for them, and an adaptive solution of the published equations."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from bayesdcm.data import BoldDesign
from bayesdcm.neural import Bilinear
from bayesdcm.observe import haemodynamic_flow

PARAMETERS = ("A", "B", "C", "D", "transit", "decay", "epsilon")


@pytest.fixture(scope="session")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_predictions.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def spm_parameters(spm):
    """A function that returns the parameters of a case as `predict` takes them."""

    def parameters(case):
        names = [name for name in PARAMETERS if f"{case}/{name}" in spm]
        return {name: spm[f"{case}/{name}"] for name in names}

    return parameters


@pytest.fixture(scope="session")
def make_design():
    """A function that makes a design of so many scans; regions are R1, R2, ..."""

    def design(inputs, n_scans, delays=None, input_dt=0.125, n_regions=3):
        repetition_time = len(inputs) * input_dt / n_scans
        names = [f"R{i + 1}" for i in range(n_regions)]
        return BoldDesign(n_scans, repetition_time, inputs, input_dt, names, slice_delays=delays)

    return design


def neuronal_flow(parameters, two_state, u):
    """Rate of change of (activity,) or (excitatory, inhibitory), under inputs u, in NumPy."""
    A, B, C = (np.asarray(parameters[name]) for name in "ABC")
    D = np.asarray(parameters.get("D", np.zeros((len(A),) * 3)))
    held, drive = A + np.tensordot(u, B, 1), C @ u / 16

    def flow(x):
        coupling = held + np.tensordot(x[0], D, 1)
        if not two_state:
            G = coupling - np.diag(np.diag(coupling))
            return (G @ x[0] - np.exp(np.diag(coupling)) / 2 * x[0] + drive,)
        E = np.exp(coupling) / 8
        within = np.diag(E)
        between = E - np.diag(within)
        return between @ x[0] - x[0] / 2 - within * x[1] + drive, x[0] - x[1]

    return flow


def full_flow(parameters, two_state, u):
    """The same with the Balloon model's states s, ln f, ln v, ln q, all flat."""
    neuronal = neuronal_flow(parameters, two_state, u)
    n = len(parameters["A"])
    tau, decay = 2 * np.exp(parameters["transit"]), 0.64 * np.exp(parameters["decay"])

    def flow(_, state):
        *x, s, f, v, q = state.reshape(-1, n)
        f, v, q = np.exp(f), np.exp(v), np.exp(q)
        outflow = v ** (1 / 0.32)
        return np.concatenate(
            [
                *neuronal(x),
                x[0] - decay * s - 0.32 * (f - 1),
                s / f,
                (f - outflow) / (tau * v),
                (f * (1 - 0.6 ** (1 / f)) / 0.4 - outflow * q / v) / (tau * q),
            ]
        )

    return flow


def sampled_bins(design):
    """Bins elapsed when each region is read, by SPM's rule; one by one, as it is written."""
    bins = np.empty((design.n_scans, design.n_regions), int)
    for k in range(design.n_scans):
        start = -((-k * len(design.inputs)) // design.n_scans)
        for region, delay in enumerate(design.slice_delays):
            bins[k, region] = start + max(int(delay / design.input_dt + 0.5), 1) - 1
    return bins


@pytest.fixture(scope="session")
def solve():
    """A function that solves the equations to 1e-10 and returns the signal (scans, regions)."""

    def solution(parameters, design, two_state=False):
        inputs, dt, n = np.asarray(design.inputs), design.input_dt, design.n_regions
        bins = sampled_bins(design)
        last = bins.max()
        changes = 1 + np.flatnonzero((inputs[1:] != inputs[:-1]).any(axis=1))
        bounds = [0, *changes[changes < last], last]
        state = np.zeros(n * (6 if two_state else 5))
        states = {0: state}
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
            wanted = np.unique(np.r_[bins[(bins > start) & (bins < stop)], stop])
            result = solve_ivp(
                full_flow(parameters, two_state, inputs[start]),
                (start * dt, stop * dt),
                state,
                method="DOP853",
                rtol=1e-10,
                atol=1e-12,
                t_eval=np.minimum(wanted * dt, stop * dt),
            )
            assert result.success
            states |= dict(zip(wanted.tolist(), result.y.T, strict=True))
            state = result.y[:, -1]
        read = np.array(
            [[states[b].reshape(-1, n)[-2:, i] for i, b in enumerate(row)] for row in bins]
        )
        v, q = np.exp(read[..., 0]), np.exp(read[..., 1])
        ratio = np.exp(parameters["epsilon"])
        k1, k2, k3 = 4.3 * 40.3 * 0.4 * 0.04, ratio * 25 * 0.4 * 0.04, 1 - ratio
        return 4 * (k1 * (1 - q) + k2 * (1 - q / v) + k3 * (1 - v))

    return solution


@pytest.fixture(scope="session")
def operators():
    """A function that expands our equations about rest: M0, M1 (inputs, ...), M2 (regions, ...).

    With a step, by one-sided differences as SPM; with None, exactly.
    """

    def expansion(parameters, step):
        n, m = np.shape(parameters["C"])
        switches = (parameters.get(name) for name in "ABCD")
        model = Bilinear(*(v if v is None else np.ones_like(v) for v in switches))

        @jax.jit
        def flow(x, u):
            x = x.reshape(5, n).T
            h = haemodynamic_flow(x[:, 0], x[:, 1:], parameters)
            return jnp.concatenate([model.flow(x[:, :1], u, parameters), h], axis=1).T.ravel()

        def differences(function, argument):
            if step is None:
                return jax.jacfwd(function, argument)

            def derivative(*at):
                moved = np.eye(at[argument].size) * step
                rest = function(*at)
                columns = [
                    (function(*at[:argument], at[argument] + d, *at[argument + 1 :]) - rest) / step
                    for d in moved
                ]
                return jnp.stack(columns, axis=-1)

            return derivative

        x, u = jnp.zeros(5 * n), jnp.zeros(m)
        by_states = differences(flow, 0)
        J = np.asarray(by_states(x, u))
        drive = np.asarray(differences(flow, 1)(x, u)).T
        modulation = np.moveaxis(np.asarray(differences(by_states, 1)(x, u)), -1, 0)
        curvature = np.moveaxis(np.asarray(differences(by_states, 0)(x, u)), -1, 0)[:n]
        constant = np.asarray(flow(x, u))
        return (
            augmented(constant[None], J[None])[0],
            augmented(drive, modulation),
            augmented(J.T[:n], curvature),
        )

    return expansion


def augmented(constants, matrices):
    """Operators on a leading constant and the states, from stacks of columns and matrices."""
    stack = np.concatenate([constants[:, :, None], matrices], axis=-1)
    return np.concatenate([np.zeros_like(stack[:, :1]), stack], axis=1)
