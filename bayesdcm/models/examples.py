"""Bundled examples: simulated data with the model and the parameters that they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.design import BoldDesign
from bayesdcm.models.dcm import DCM
from bayesdcm.models.recurrent import RecurrentDCM
from bayesdcm.models.task import TaskDCM

__all__ = ["Example", "load_example"]

_DESCRIPTIONS = {
    "attention": (
        "Simulated responses of V1, V5 and SPC to fixation, static dots, moving dots and moving "
        "dots that are attended to, in blocks of ten scans. Vision (Photic) drives V1; Motion "
        "strengthens the connection from V1 to V5, Attention that from SPC to V5. White noise of "
        "half the signal's standard deviation and slow drifts, which the confounds span, are "
        "added. The noise is stronger than SPM's prior expects: a posterior under that prior is "
        "somewhat too narrow, as it is for most recorded data."
    ),
    "recurrent": (
        "Simulated responses of three regions to one stimulus, which drives the first and weakens "
        "the third region's hold on itself, with the connections of which recurrent DCM was first "
        "shown: the first region drives the others, and these each other. Blocks of 4 s within "
        "slots of 6 s, half of which are empty; six minutes in steps of 0.25 s; white noise of "
        "half the standard deviation of all responses. Haemodynamics are at the means of their "
        "priors, and fixed in the model."
    ),
}


@dataclass(frozen=True, eq=False)
class Example:
    """A data set, the model that it came from, and the parameters that made it.

    Attributes
    ----------
    name : str
        What `load_example` calls it.
    description : str
        The experiment and what was simulated, in a few sentences.
    model : TaskDCM or RecurrentDCM
        The model.
    data : BoldData
        The simulated data.
    parameters : mapping of str to ndarray
        The true parameters, full arrays under the model's names, as `DCM.predict` takes them.
    """

    name: str
    description: str
    model: DCM
    data: BoldData
    parameters: Mapping[str, NDArray[np.float64]]


def load_example(name: str) -> Example:
    """Return a bundled example.

    Parameters
    ----------
    name : str
        ``"attention"``: three regions (V1, V5, SPC), three inputs (Photic, Motion, Attention), 360
        scans of 3.22 s, in the spirit of the classical experiment on attention to motion [1]_.
        ``"recurrent"``: three regions, one stimulus, 1440 steps of 0.25 s, after the first
        experiment with recurrent DCM [2]_.

    Returns
    -------
    Example
        Data, model and true parameters. All data are simulated.

    Raises
    ------
    ValueError
        If there is no example of that name.

    References
    ----------
    .. [1] Buechel, C., Friston, K. J. (1997). Modulation of connectivity in visual pathways by
       attention. Cerebral Cortex 7, 768-778. https://doi.org/10.1093/cercor/7.8.768
    .. [2] Wang, Wang and Lui (2017), Proc ISMRM 25, abstract 0953.

    Examples
    --------
    >>> load_example("attention").data
    BoldData(360 scans x 3 regions (V1, V5, SPC), repetition time 3.22 s, inputs Photic, Motion,
    Attention in bins of 0.20125 s, 7 confounds)
    """
    if not isinstance(name, str) or name not in _DESCRIPTIONS:
        known = ", ".join(map(repr, _DESCRIPTIONS))
        raise ValueError(f"name must be one of the bundled examples, {known}; got {name!r}")
    if name == "recurrent":
        return _recurrent()
    with files("bayesdcm.data").joinpath("examples", f"{name}.npz").open("rb") as stream:
        with np.load(stream, allow_pickle=False) as file:
            arrays = dict(file)
    switches = _group(arrays, "structure")
    return Example(
        name=name,
        description=_DESCRIPTIONS[name],
        model=TaskDCM(A=switches["A"], B=switches["B"], C=switches["C"]),
        data=_read_data(arrays),
        parameters=_group(arrays, "parameters"),
    )


def _recurrent() -> Example:
    connections = {
        "A": np.array([[-1.0, 0.0, 0.0], [0.8, -1.0, 0.4], [0.4, 0.8, -1.0]]),
        "B": np.zeros((1, 3, 3)),
        "C": np.array([[0.8], [0.0], [0.0]]),
    }
    connections["B"][0, 2, 2] = -0.4
    model = RecurrentDCM(
        A=np.ones((3, 3)), B=connections["B"] != 0, C=np.ones((3, 1)), haemodynamic_penalty=np.inf
    )
    haemodynamics = {prior.name: np.asarray(prior.mean) for prior in model.observer_priors}
    rng, slots = np.random.default_rng(0), 60
    inputs = np.zeros((slots, 24))
    inputs[rng.random(slots) < 0.5, 8:] = 1.0
    inputs[0] = np.arange(24) < 16
    names = ["R1", "R2", "R3"]
    design = BoldDesign(24 * slots, 0.25, inputs.reshape(-1, 1), 0.25, names, ["stimulus"])
    parameters = connections | haemodynamics
    clean = np.asarray(model.predict(parameters, design))
    precision = {"log_precision": np.full(3, -2 * np.log(clean.std() / 2))}
    data = model.simulate(parameters | precision, design, seed=1)
    return Example("recurrent", _DESCRIPTIONS["recurrent"], model, data, parameters)


def _group(arrays: Mapping[str, NDArray], prefix: str) -> dict[str, NDArray]:
    """Arrays whose names begin with a prefix and an underscore, by the rest of their names."""
    members = {name: value for name, value in arrays.items() if name.startswith(f"{prefix}_")}
    return {name.removeprefix(f"{prefix}_"): value for name, value in members.items()}


def _read_data(arrays: Mapping[str, NDArray]) -> BoldData:
    events = {name: column.tolist() for name, column in _group(arrays, "events").items()}
    return BoldData.from_events(
        arrays["signal"],
        float(arrays["repetition_time"]),
        events,
        input_names=arrays["input_names"].tolist(),
        region_names=arrays["region_names"].tolist(),
        confounds=arrays["confounds"],
    )
