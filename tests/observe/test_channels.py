"""Fields of sources, priors, channel modes and predictions against SPM's arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdcm.data.by_value import ByValue
from bayesdcm.observe import (
    Dipoles,
    Electrodes,
    LeadField,
    Patches,
    average_reference,
    channel_modes,
    eeg_sphere_lead_field,
    field_derivatives,
    power_of_ten,
)
from bayesdcm.observe.channels import ModelledSpace

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


def prediction(observer, parameters, space, states):
    """Signal (times, conditions * channels) of states (conditions, times, sources, states)."""
    if not isinstance(space, ModelledSpace):
        space = ModelledSpace(space, None, None, None)
    seen = ByValue(tuple(range(states.shape[-1])))
    return np.asarray(observer.predict(jnp.asarray(states), parameters, (space, seen)))


def state_field(observer, parameters, space, n_sources):
    """Field of every state of every source, the source running fastest, as SPM has it."""
    n_states = len(parameters["contribution"])
    states = np.eye(n_states * n_sources).reshape(1, -1, n_states, n_sources).swapaxes(-1, -2)
    return prediction(observer, parameters, space, states).T


@pytest.mark.parametrize("case", LFP)
def test_electrodes(observer, case):
    spm = of(observer, case)
    n, parameters = len(spm["strength"]), {"gain": spm["strength"]}
    parameters["contribution"] = spm["contribution"]
    made = state_field(Electrodes(), parameters, np.eye(n), n)
    np.testing.assert_allclose(made, spm["state_field"], **TIGHT)
    assert_same_modes(channel_modes(field_derivatives(np.eye(n)), n), spm["modes"])


@pytest.mark.parametrize("case", IMG)
def test_patches(observer, case):
    spm = of(observer, case)
    parameters = {"patch_weight": spm["strength"], "contribution": spm["contribution"]}
    lead, patches = spm["patches"], Patches()
    field = patches.source_field(parameters, ModelledSpace(lead, None, None, None))
    np.testing.assert_allclose(field, spm["source_field"], **TIGHT)
    made = state_field(patches, parameters, lead, len(lead))
    np.testing.assert_allclose(made, spm["state_field"], **TIGHT)
    modes = channel_modes(field_derivatives(lead), len(lead), 8)
    assert_same_modes(modes, spm["modes"])
    states = spm["x"].reshape(1, -1, *spm["x"].shape[-2:])
    for projection, name in ((np.eye(lead.shape[1]), "sensors"), (spm["modes"], "features")):
        projected = np.einsum("sca,cm->sma", lead, projection)
        made = prediction(patches, parameters, projected, states).reshape(spm[name].shape)
        np.testing.assert_allclose(made, spm[name], **TIGHT)


@pytest.mark.parametrize("case", ECD)
def test_dipoles(observer, case):
    spm = of(observer, case)
    scale = power_of_ten(spm["lead_field"])
    assert scale == spm["scale"]
    parameters = {"moment": spm["strength"], "position": spm["position"]}
    parameters["contribution"] = spm["contribution"]
    given = ModelledSpace(scale * spm["lead_field"], None, None, None)
    head = ByValue(lambda positions: lead_fields_at(observer, positions), case)
    from_head = ModelledSpace(None, scale * np.eye(spm["lead_field"].shape[1]), None, head)
    for space in (given, from_head):
        field = Dipoles().source_field(parameters, space)
        np.testing.assert_allclose(field, spm["source_field"], rtol=1e-10, atol=1e-12)
    made = state_field(Dipoles(), parameters, from_head, len(spm["position"]))
    np.testing.assert_allclose(made, spm["state_field"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_modes_of_dipoles(observer, n):
    spm = of(observer, f"ecd_n{n}")
    lead_fields = lead_fields_at(observer, spm["position_mean"])
    scale = power_of_ten(lead_fields)
    modes = channel_modes(field_derivatives(scale * lead_fields), n, 8)
    assert_same_modes(modes, spm["modes"])
    # Lengths in m instead of mm change the power of ten only: modes and moments stay the same.
    metres = field_derivatives(scale / 1e6 * (lead_fields * 1e6))
    np.testing.assert_allclose(channel_modes(metres, n, 8), modes, rtol=1e-8, atol=1e-10)
    assert power_of_ten(lead_fields * 1e6) == pytest.approx(scale / 1e6, rel=1e-15)


def test_modes_of_an_inversion(observer):
    spm = of(observer, "inversion_erp_5src_ecd")
    scale = power_of_ten(spm["lead_field"])
    assert scale == spm["lead_field_scale"]
    derivatives = field_derivatives(scale * spm["lead_field"])
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
    parameters = {"contribution": spm["contribution"]}
    if "lfp" in case:
        parameters["gain"], lead = spm["strength"], spm["U_modes"].T
        channels = Electrodes()
    else:
        parameters["moment"], channels = spm["strength"], Dipoles()
        scaled = spm["lead_field_scale"] * spm["lead_field"]
        lead = np.einsum("sca,cm->sma", scaled, spm["U_modes"])
    predicted = prediction(channels, parameters, lead, spm["states"])
    predicted = predicted.reshape(len(predicted), len(spm["states"]), -1)
    response = np.einsum("st,tck->csk", spm["R"], predicted)
    np.testing.assert_allclose(
        response, spm["response"], atol=1e-10 * np.abs(spm["response"]).max()
    )


def test_prediction_is_the_field_times_the_activity(strict_ranks):
    rng = np.random.default_rng(6)
    states, lead = rng.normal(size=(2, 5, 3, 4)), rng.normal(size=(7, 3))
    parameters = {"gain": rng.normal(size=3), "contribution": rng.normal(size=4)}
    field = np.asarray(
        LeadField(lead).source_field(parameters, ModelledSpace(lead, None, None, None))
    )
    np.testing.assert_allclose(field, lead * parameters["gain"])
    expected = np.einsum("ctns,s,kn->tck", states, parameters["contribution"], field)
    made = prediction(LeadField(lead), parameters, lead, states)
    np.testing.assert_allclose(made, expected.reshape(5, -1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["img", "ecd", "fixed"])
def test_derivatives_are_those_of_the_field(kind):
    rng = np.random.default_rng(7)
    channels, name, lead = {
        "img": (Patches(), "patch_weight", rng.normal(size=(2, 5, 4))),
        "ecd": (Dipoles(), "moment", rng.normal(size=(2, 5, 3))),
        "fixed": (LeadField(np.ones((5, 2))), "gain", rng.normal(size=(5, 2))),
    }[kind]
    space = ModelledSpace(lead, None, None, None)
    point = jnp.asarray(rng.normal(size=2 if kind == "fixed" else (2, lead.shape[-1])))
    jacobian = jax.jacfwd(lambda p: channels.source_field({name: p}, space))(point)
    # A source's parameters move its own column only.
    expected = np.asarray(jacobian).reshape(5, 2, 2, -1).sum(1).reshape(5, -1)
    np.testing.assert_allclose(field_derivatives(lead), expected, rtol=1e-12)


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
