"""States of networks of sources against SPM's: its own scheme, and with exact Jacobians."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bayesdcm.data.evoked import EvokedData
from bayesdcm.models.evoked import EvokedDCM

FOLDER = Path(__file__).parents[1] / "data"
DRAWS = {"one": ("r1",), "two": ("r0", "r1", "r2"), "mmn": ("r1", "r2")}
# Every how many samples the file holds.
EVERY = {"one": 4, "two": 2, "mmn": 8}

# Compiled like the others; one of them is enough for most changes.
SLOW = ("cmc-two",)
EXHAUSTIVE = ("erp-one", "erp-mmn", "cmc-one", "cmc-mmn")


def marks(case):
    if case in EXHAUSTIVE:
        return [pytest.mark.exhaustive]
    return [pytest.mark.slow] if case in SLOW else []


@pytest.fixture(scope="module")
def spm():
    with np.load(FOLDER / "spm_evoked.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def switches():
    with np.load(FOLDER / "spm_sources.npz") as arrays:
        return {k: v for k, v in arrays.items() if k.startswith("switches/")}


def below(table, prefix):
    return {k.removeprefix(prefix): v for k, v in table.items() if k.startswith(prefix)}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((m, n), id=f"{m}-{n}", marks=marks(f"{m}-{n}"))
        for m in ("erp", "cmc")
        for n in DRAWS
    ],
)
def case(request, spm, switches):
    """A network with our exact Jacobians, times and design, and its draws by SPM."""
    neural, network = request.param
    settings = below(spm, f"integration/{neural}/")
    model = EvokedDCM(
        **below(switches, f"switches/{network}/"),
        neural=neural,
        observation="lfp",
        onset=float(settings["onset"]),
        duration=float(settings["duration"]),
    )
    n_times, dt = int(settings["n_times"]), float(settings["dt"])
    signal = np.random.default_rng(0).normal(size=(2, n_times, model.n_sources))
    data = EvokedData(signal, dt * np.arange(n_times))
    draws = {draw: below(settings, f"{network}/{draw}/") for draw in DRAWS[network]}
    return model, data, draws, EVERY[network]


def assert_close(got, expected, tolerance):
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def activity(case, draw, **changes):
    model, data, draws, every = case
    parameters = below(draws[draw], "P/")
    states = replace(model, **changes).source_activity(parameters, data)
    return np.asarray(states)[:, every - 1 :: every]


def test_states_are_those_of_spm_with_its_jacobians(case):
    seen = case[0].source_model.contribution.mean
    for draw, spm in case[2].items():
        for got, name in zip(
            activity(case, draw, one_sided=True), ("first", "second"), strict=True
        ):
            # Measured: 1.2e-11 at most.
            assert_close(got, spm[name], 1e-10)
            # What channels see, each source on its own scale.
            for source, expected in zip((got @ seen).T, (spm[name] @ seen).T, strict=True):
                assert_close(source, expected, 1e-8)


def test_states_with_exact_jacobians(case):
    for draw, spm in case[2].items():
        first, second = activity(case, draw)
        assert_close(second, spm["second_small_step"], 1e-8)
        # SPM's own step moves the states by this much: 1.1e-6 for ERP, 3e-9 for CMC.
        tolerance = {"erp": 2e-6, "cmc": 1e-8}[case[0].neural]
        assert_close(first, spm["first"], tolerance)
        assert_close(second, spm["second"], tolerance)
