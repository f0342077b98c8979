"""Fields of sources, priors, channel modes and predictions against SPM's arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.observe import Dipoles, Electrodes, LeadField, Patches
from bayesdcm.observe.channel_modes import average_reference, channel_modes
from bayesdcm.observe.source_field import (
    field_derivatives,
    power_of_ten,
    sensor_prediction,
    source_field,
    state_field,
)
from bayesdcm.observe.sphere import eeg_sphere_lead_field

TIGHT = {"rtol": 1e-10, "atol": 1e-13}
LFP = [f"lfp_{model}_n{n}" for model in ("erp", "cmc", "lfp", "nmm", "cmm") for n in (1, 2, 5)]
IMG = ["img_n2", "img_n5"]
ECD = [f"ecd_n{n}__r{draw}" for n in (1, 2, 5) for draw in (1, 2)]


def of(arrays, case):
    """One case's arrays by name."""
    return {k.removeprefix(case + "/"): v for k, v in arrays.items() if k.startswith(case + "/")}


def lead_fields_at(arrays, positions):
    """SPM's lead fields at MNI positions: 60 terms, lengths in mm."""
    head, transform = of(arrays, "ecd"), arrays["ecd/mni_to_head"]
    positions = positions @ transform[:3, :3].T + transform[:3, 3]
    shells = (head["radii"], head["conductivities"])
    return eeg_sphere_lead_field(positions, head["electrodes"], *shells, n_terms=60)


def assert_same_modes(found, expected, aligned=1e-10):
    """Equal up to the sign of each mode, with the sign that is promised."""
    found = np.asarray(found)
    sign = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * sign, expected, atol=aligned * np.abs(expected).max())
    peak = np.abs(found).argmax(0)
    assert (found[peak, np.arange(found.shape[1])] > 0).all()


@pytest.mark.parametrize("case", LFP)
def test_local_fields(observer, case):
    spm = of(observer, case)
    field = source_field("lfp", {"gain": spm["strength"]})
    np.testing.assert_allclose(state_field(spm["contribution"], field), spm["state_field"], **TIGHT)
    n = len(spm["strength"])
    assert_same_modes(channel_modes(field_derivatives("lfp", n_sources=n), n), spm["modes"])


@pytest.mark.parametrize("case", IMG)
def test_patches(observer, case):
    spm = of(observer, case)
    field = source_field("img", {"patch_weight": spm["strength"]}, patches=spm["patches"])
    np.testing.assert_allclose(field, spm["source_field"], **TIGHT)
    np.testing.assert_allclose(state_field(spm["contribution"], field), spm["state_field"], **TIGHT)
    modes = channel_modes(field_derivatives("img", patches=spm["patches"]), len(spm["patches"]), 8)
    assert_same_modes(modes, spm["modes"])
    rest = np.zeros_like(spm["x"])
    arguments = (spm["x"], rest, spm["contribution"], field)
    np.testing.assert_allclose(sensor_prediction(*arguments), spm["sensors"], **TIGHT)
    features = sensor_prediction(*arguments, spm["modes"])
    np.testing.assert_allclose(features, spm["features"], **TIGHT)


@pytest.mark.parametrize("case", ECD)
def test_dipoles(observer, case):
    spm = of(observer, case)
    assert power_of_ten(spm["lead_field"]) == spm["scale"]
    given = {"moment": spm["strength"], "position": spm["position"]}
    for lead_fields in (spm["lead_field"], lambda x: lead_fields_at(observer, x)):
        field = source_field("ecd", given, lead_fields=lead_fields, scale=float(spm["scale"]))
        np.testing.assert_allclose(field, spm["source_field"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        state_field(spm["contribution"], field), spm["state_field"], rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("n", [1, 2, 5])
def test_modes_of_dipoles(observer, n):
    spm = of(observer, f"ecd_n{n}")
    lead_fields = lead_fields_at(observer, spm["position_mean"])
    scale = power_of_ten(lead_fields)
    modes = channel_modes(field_derivatives("ecd", lead_fields=lead_fields, scale=scale), n, 8)
    assert_same_modes(modes, spm["modes"])
    # Lengths in m instead of mm change the power of ten only: modes and moments stay the same.
    metres = field_derivatives("ecd", lead_fields=lead_fields * 1e6, scale=scale / 1e6)
    np.testing.assert_allclose(channel_modes(metres, n, 8), modes, rtol=1e-8, atol=1e-10)
    assert power_of_ten(lead_fields * 1e6) == pytest.approx(scale / 1e6, rel=1e-15)


def test_modes_of_an_inversion(observer):
    spm = of(observer, "inversion_erp_5src_ecd")
    scale = power_of_ten(spm["lead_field"])
    assert scale == spm["lead_field_scale"]
    derivatives = field_derivatives("ecd", lead_fields=spm["lead_field"], scale=scale)
    assert_same_modes(channel_modes(derivatives, 5, 8), spm["U_modes"])


@pytest.mark.parametrize(
    ("kind", "case", "names"),
    [
        ("lfp", "lfp_erp_n5", {"gain": "strength"}),
        ("img", "img_n5", {"patch_weight": "strength"}),
        ("ecd", "ecd_n5", {"position": "position", "moment": "strength"}),
    ],
)
def test_priors(observer, kind, case, names):
    spm = of(observer, case)
    observers = {
        "lfp": Electrodes(),
        "img": Patches(np.ones((5, 3))),
        "ecd": Dipoles(spm.get("position_mean"), position_variance=1.0),
    }
    priors = observers[kind].spatial_priors(5)
    assert [prior.name for prior in priors] == list(names)
    for prior in priors:
        spm_name = names[prior.name]
        assert prior.symbol == {"strength": "L", "position": "Lpos"}[spm_name]
        assert prior.dims[0] == "source" and len(prior.dims) == prior.mean.ndim
        np.testing.assert_array_equal(prior.mean, spm[f"{spm_name}_mean"])
        np.testing.assert_array_equal(prior.variance, spm[f"{spm_name}_variance"])


def test_positions_are_fixed_by_default():
    position, moment = Dipoles(np.ones((2, 3))).spatial_priors(2)
    assert not position.free.any() and moment.free.all()
    (gain,) = LeadField(np.ones((3, 2))).spatial_priors(2)
    assert (gain.mean == 1).all() and (gain.variance == 64).all()


@pytest.mark.parametrize("case", ["erp_2src_lfp", "erp_5src_ecd"])
def test_response_of_an_inversion(observer, case):
    spm = of(observer, f"inversion_{case}")
    if "lfp" in case:
        field = source_field("lfp", {"gain": spm["strength"]})
    else:
        field = source_field(
            "ecd",
            {"moment": spm["strength"]},
            lead_fields=spm["lead_field"],
            scale=float(spm["lead_field_scale"]),
        )
    n, states = spm["states"].shape[2:]
    predicted = sensor_prediction(
        spm["states"], np.zeros((n, states)), spm["contribution"], field, spm["U_modes"]
    )
    response = np.einsum("st,ctk->csk", spm["R"], predicted)
    np.testing.assert_allclose(
        response, spm["response"], atol=1e-10 * np.abs(spm["response"]).max()
    )


def test_prediction_is_that_of_the_field_of_states(strict_ranks):
    rng = np.random.default_rng(6)
    n, n_states, channels = 3, 4, 7
    states, rest = rng.normal(size=(2, 5, n, n_states)), rng.normal(size=(n, n_states))
    contribution, field = rng.normal(size=n_states), rng.normal(size=(channels, n))
    modes = rng.normal(size=(channels, 2))
    vectors = np.swapaxes(states - rest, -1, -2).reshape(2, 5, -1)  # the source runs fastest
    expected = vectors @ np.asarray(state_field(contribution, field)).T
    arguments = [jnp.asarray(a) for a in (states, rest, contribution, field)]
    np.testing.assert_allclose(sensor_prediction(*arguments), expected, rtol=1e-12, atol=1e-12)
    with_modes = jax.jit(sensor_prediction)(*arguments, jnp.asarray(modes))
    np.testing.assert_allclose(with_modes, expected @ modes, rtol=1e-12, atol=1e-12)


def test_fixed_and_rectangular_fields(strict_ranks):
    field = source_field("fixed", {"gain": [2.0, -1.0]}, matrix=[[1.0, 2.0], [3.0, 4.0], [0, 1.0]])
    assert field.tolist() == [[2.0, -2.0], [6.0, -4.0], [0.0, -1.0]]
    derivatives = field_derivatives("fixed", matrix=[[1.0, 2.0], [3.0, 4.0]])
    assert derivatives.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    wide = source_field("lfp", {"gain": [2.0, -1.0]}, n_channels=3)
    assert wide.tolist() == [[2.0, 0.0], [0.0, -1.0], [0.0, 0.0]]


@pytest.mark.parametrize("kind", ["lfp", "img", "ecd", "fixed"])
def test_derivatives_are_those_of_the_field(kind):
    rng = np.random.default_rng(7)
    given = {"patches": rng.normal(size=(2, 5, 4)), "lead_fields": rng.normal(size=(2, 5, 3))}
    given |= {"matrix": rng.normal(size=(5, 2)), "n_channels": 5, "scale": 10.0}
    name, shape = {
        "lfp": ("gain", (2,)),
        "img": ("patch_weight", (2, 4)),
        "ecd": ("moment", (2, 3)),
        "fixed": ("gain", (2,)),
    }[kind]
    point = jnp.asarray(rng.normal(size=shape))
    jacobian = jax.jacfwd(lambda p: source_field(kind, {name: p}, **given))(point)
    stacked = np.asarray(jacobian).reshape(5, 2, -1)
    if kind in ("lfp", "fixed"):  # a source's gain moves its own column only
        expected = stacked.reshape(5, 2, 2).sum(-1)
    else:
        expected = stacked.reshape(5, 2, 2, -1).sum(1).reshape(5, -1)
    np.testing.assert_allclose(field_derivatives(kind, n_sources=2, **given), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(8.0, 1.0), (25.0, 1.0), (26.0, 0.1), (2.6, 1.0), (2.5, 10.0), (8e-7, 1e7)],
)
def test_power_of_ten(largest, expected):
    assert power_of_ten([-largest, 0.1 * largest]) == pytest.approx(expected, rel=1e-14)


def test_channel_modes_do_not_depend_on_the_sign_of_sources():
    rng = np.random.default_rng(8)
    derivatives = rng.normal(size=(9, 6))
    modes = channel_modes(derivatives, 2, 4)
    np.testing.assert_allclose(channel_modes(-derivatives[:, ::-1], 2, 4), modes, atol=1e-12)
    assert channel_modes(derivatives, 5, 4).shape == (9, 5)
    assert channel_modes(derivatives[:, :3], 2, 8).shape == (9, 3)


def test_average_reference(observer):
    signal = np.random.default_rng(9).normal(size=(4, 32))
    expected = signal @ observer["ecd/reference"].T
    np.testing.assert_allclose(average_reference(signal), expected, atol=1e-14)


def expect(message):
    return pytest.raises(ValueError, match=message)


def test_errors():
    with expect("must be one of lfp, fixed, img, ecd, got 'eeg'"):
        source_field("eeg", {})
    with expect("patches must be given for observation 'img'"):
        source_field("img", {})
    with expect("lead_fields must be given for observation 'ecd'"):
        field_derivatives("ecd")
    with expect("n_sources must be given"):
        field_derivatives("lfp")
    with expect(r"positions must have shape \(any, 3\) .* got \(3, 2\)"):
        Dipoles(np.zeros((3, 2)))
    with expect("position_variance must be 0"):
        Dipoles(np.zeros((1, 3)), position_variance=-1.0)
    with expect("matrix must be finite, got NaN"):
        LeadField([[np.nan]])
    with expect("finite and not all zero"):
        power_of_ten(np.zeros((2, 3)))
    with expect("finite and not all zero"):
        power_of_ten([np.nan])
    with expect("derivatives are all zero"):
        channel_modes(np.zeros((3, 2)), 1)
    with expect("derivatives must be finite"):
        channel_modes(np.full((3, 2), np.nan), 1)
    with expect("derivatives must have shape"):
        channel_modes(np.zeros(3), 1)
    with expect("at least 1"):
        channel_modes(np.eye(3), 1, 0)
