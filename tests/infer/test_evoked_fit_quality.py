"""Where a fit of evoked responses explains little, and whether its residuals are noise."""

from types import SimpleNamespace

import numpy as np
import pytest

from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.evoked_fit_quality import check_evoked_fit

CONDITIONS, MODES, N_TIMES, N_DRAWS = ("standard", "deviant"), ("A1", "STG", "IFG"), 80, 30
DIMS = ("condition", "time", "mode")
WAVE = np.sin(2 * np.pi * np.arange(N_TIMES) / 40)[:, None] * [3.0, 2.0, 0.0]


def noise(rng, *leading):
    """Noise as the model assumes: each sample depends on the one before by a half."""
    values = rng.normal(size=(*leading, N_TIMES + 20, len(MODES)))
    for i in range(1, N_TIMES + 20):
        values[..., i, :] += values[..., i - 1, :] / 2
    return values[..., 20:, :] / 3


def made(residual, rng):
    """A fit of a wave in two of three modes that leaves these residuals."""
    fitted = np.broadcast_to(WAVE, (1, N_DRAWS, 2, *WAVE.shape))
    groups = {
        "observed_data": ({"signal": fitted[0, 0] + residual}, ()),
        "posterior_predictive": (
            {"signal": fitted + noise(rng, 1, N_DRAWS, 2), "signal_fitted": fitted},
            ("chain", "draw"),
        ),
        "constant_data": (
            {"channels": fitted[0, 0] + residual, "modes_to_channels": np.eye(3)},
            (),
        ),
    }
    dims = {"signal": DIMS, "signal_fitted": DIMS, "channels": (*DIMS[:2], "channel"),
            "modes_to_channels": ("mode", "channel")}  # fmt: skip
    coords = {"condition": np.array(CONDITIONS), "mode": np.array(MODES)}
    sets = {k: arviz_adapter.dataset(v, dims, coords, lead) for k, (v, lead) in groups.items()}
    return SimpleNamespace(_groups=sets)


def checked(fit):
    problems, facts = [], {}
    check_evoked_fit(fit, problems, facts)
    return problems, facts


def test_noise_as_assumed_is_no_problem_where_it_is_all_there_is():
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        problems, facts = checked(made(noise(rng, 2), rng))
        alarms += bool(problems)
    assert alarms <= 1
    explained = facts["explained_by_condition"]
    assert explained.dims == ("condition", "mode") and explained.sel(mode="A1").min() > 0.9
    # There is nothing but noise in this mode.
    np.testing.assert_allclose(explained.sel(mode="IFG"), 0, atol=1e-12)
    np.testing.assert_allclose(facts["explained_by_channel"], explained)
    assert np.abs(facts["residual_correlation"]).max() < 0.3


def test_what_is_left_of_a_response_is_named():
    rng = np.random.default_rng(0)
    residual = noise(rng, 2)
    residual[1, :, 1] += 3 * np.cos(2 * np.pi * np.arange(N_TIMES) / 25)
    problems, facts = checked(made(residual, rng))
    share = 1 - residual[1, :, 1].var() / (WAVE + residual[1])[:, 1].var()
    assert facts["explained_by_condition"].sel(condition="deviant", mode="STG") == pytest.approx(
        share
    )
    assert [problem.kind for problem in problems] == [
        "some responses are explained little",
        "residuals are correlated in time",
    ]
    text = f"in 1 of 6 pairs of mode and condition: STG in deviant ({100 * share:.0f} %); of all"
    assert text in problems[0]
    correlation = float(facts["residual_correlation"].sel(mode="STG"))
    assert 0.6 < correlation < 1
    assert problems[1].startswith(
        "Residuals are correlated in time beyond the noise that the model"
    )
    assert f"in STG ({correlation:.2f}) (largest" in problems[1]


def test_white_noise_is_not_taken_for_the_noise_that_was_assumed():
    rng = np.random.default_rng(0)
    problems, facts = checked(made(rng.normal(size=(2, N_TIMES, 3)), rng))
    # The first lag of what has been whitened without need.
    np.testing.assert_allclose(facts["residual_correlation"], -0.4, atol=0.15)
    assert len(problems) == 2


def test_other_data_are_left_alone():
    fit = made(noise(np.random.default_rng(0), 2), np.random.default_rng(1))
    groups = dict(fit._groups)
    groups["observed_data"] = groups["observed_data"].rename(mode="region")
    assert checked(SimpleNamespace(_groups=groups)) == ([], {})
