"""Estimators in files: trained by `bayesdcm fit`, and applied to further recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayesdcm.commands.tables import TABLES, bold_of_table

if TYPE_CHECKING:
    from bayesdcm.infer import AmortisedEstimator
    from bayesdcm.infer.results import Fit


def trained(method: Any, path: Path, connectome: Path | None) -> Callable[..., Fit]:
    """What fits in place of `bayesdcm.fit`, and keeps the estimator in a file.

    A ValueError where method or model leave nothing to be kept.
    """
    from bayesdcm.infer import AmortisedPosterior, train_amortised

    if connectome is None or not isinstance(method, AmortisedPosterior):
        raise ValueError(
            "--save-estimator keeps what --method amortised learns of a whole brain; give "
            "--method amortised and --connectome, too, or leave it out"
        )

    def fit(model: Any, data: Any, *, method: Any, seed: int, progress: bool) -> Fit:
        options = {"seed": seed, "progress": progress, **method.options()}
        estimator = train_amortised(model, data, **options)
        estimator.save(path)
        return estimator.fit(data, seed=seed)

    return fit


def applied(estimator: AmortisedEstimator) -> Callable[..., Fit]:
    """What fits in place of `bayesdcm.fit` without training."""

    def fit(model: Any, data: Any, *, method: Any, seed: int, progress: bool) -> Fit:
        return estimator.fit(data, seed=seed)

    return fit


def read_estimator(
    path: Path, method: Any, connectome: Path | None, others: Mapping[str, Any]
) -> AmortisedEstimator:
    """An estimator from its file.

    A ValueError where another method, options of it, or one of `others`, options by name, are
    given, or where the connectome is another one than that of the simulations.
    """
    from bayesdcm.infer import AmortisedEstimator, AmortisedPosterior

    further = [name for name, value in others.items() if value]
    own = isinstance(method, AmortisedPosterior) and not method.options()
    if method is not None and not own:
        further.append("--method with its options")
    if further:
        raise ValueError(
            "--estimator has model, method and options, which were settled when it was trained; "
            f"leave out {', '.join(further)}"
        )
    estimator = AmortisedEstimator.load(path)
    if connectome is not None:
        _check_connectome(estimator, path, connectome)
    return estimator


def recording_for(estimator: AmortisedEstimator, file: Path, repetition_time: float | None) -> Any:
    """The data of a table, as the estimator's model takes them; ValueErrors where it does not."""
    from bayesdcm.data import CovarianceData
    from bayesdcm.models.simulation_objective import SimulationObjective
    from bayesdcm.models.whole_brain import WholeBrainDCM

    if file.suffix.lower() not in TABLES:
        raise ValueError(
            f"--estimator is for tables of signals ({', '.join(TABLES)}), got '{file}'"
        )
    bold, model = bold_of_table(file, repetition_time), estimator.problem.model
    if isinstance(model, SimulationObjective):
        n_regions = model.network.network.n_nodes
        if bold.n_regions != n_regions:
            raise ValueError(
                f"'{file}' has {bold.n_regions} regions, the estimator was trained on {n_regions}"
            )
        return bold
    if not isinstance(model, WholeBrainDCM) or model.likelihood == "whittle":
        raise ValueError(
            "--estimator was trained for data that are no table of BOLD signals; apply it in "
            f"Python, by AmortisedEstimator.load: {model!r}"
        )
    data = CovarianceData.from_bold(bold)
    model.check(data)
    return data


def _check_connectome(estimator: AmortisedEstimator, path: Path, connectome: Path) -> None:
    import numpy as np

    from bayesdcm.data import Connectome

    network = getattr(estimator.problem.model, "network", None)
    if network is None:
        raise ValueError(f"--connectome: '{path}' was trained on no whole brain; leave it out")
    weights, own = Connectome.from_csv(connectome).weights, network.connectome.weights
    if weights.shape != own.shape:
        raise ValueError(
            f"--connectome: '{connectome}' has {len(weights)} regions, but '{path}' was trained on "
            f"{len(own)}"
        )
    if not np.allclose(weights, own, rtol=1e-6, atol=1e-9 * own.max()):
        raise ValueError(
            f"--connectome: '{connectome}' has other weights than the connectome that '{path}' was "
            "trained on; leave it out to take that one, or train another estimator"
        )
