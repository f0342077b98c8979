"""Priors that an SPM file of a DCM for task fMRI brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.spm_estimates import (
    FIELDS,
    in_order,
    in_our_axes,
    n_slices,
    parameter_fields,
    parameter_labels,
)
from bayesdcm.data.spm_priors import (
    Fields,
    Moments,
    checked,
    covariances,
    given,
    read_means,
    read_noise,
    stored,
    variances,
)
from bayesdcm.data.validation import warn_caller

__all__ = ["TaskPriors", "read_task_priors"]


@dataclass(frozen=True, eq=False)
class TaskPriors:
    """Priors in a file, in this package's layout.

    `moments` by parameter, as full arrays, only those that the file has; `variance` in the order of
    SPM's vector; and whether SPM restricted (`projected`) connections to principal modes of data.
    """

    moments: dict[str, Moments]
    variance: NDArray[np.float64] | None
    projected: bool


def read_task_priors(
    dcm: Mapping[str, Any],
    regions: Sequence[str],
    inputs: Sequence[str],
    *,
    many: bool,
    ordered: bool,
) -> TaskPriors:
    """Priors of connections, haemodynamics and noise, from DCM.M or DCM.options.

    `many` regions are so many that SPM projects the prior of connections. Warns of covariances, one
    decay a region, and priors of a version before SPM12.
    """
    n, m, projected = len(regions), len(inputs), False

    def known_fields(name: str, value: Any) -> Fields:
        unknown = sorted(set(value) - set(FIELDS))
        if unknown:
            raise ValueError(
                f"{name} has the fields {', '.join(unknown)}, which the task-fMRI model does not "
                f"have; expected {', '.join(FIELDS)}. Use the reader of that kind of model."
            )
        return parameter_fields(name, value, n, m)

    mean, outdated = read_means(dcm, "pE", known_fields)
    layout = mean or _default_layout(dcm, n, m)
    labels = parameter_labels(layout, regions, inputs)
    places = stored(dcm, "pE", lambda _, value: in_order(value, layout, ordered))
    places = np.arange(len(labels)) if places is None else places

    def vector(name: str, value: Any) -> NDArray[np.float64]:
        nonlocal projected
        if isinstance(value, Mapping):
            fields = parameter_fields(name, value, n, m)
            sizes = {k: v.shape for k, v in fields.items()}
            if sizes != {k: v.shape for k, v in layout.items()}:
                raise ValueError(f"{name} and pE have other shapes, {sizes}. Give both alike.")
            return checked(name, np.concatenate([v.ravel(order="F") for v in fields.values()]), 0.0)
        covariance = covariances(name, value, len(labels))
        if covariance.ndim == 1:
            return covariance[places]
        covariance = covariance[np.ix_(places, places)]
        connections = n * n
        rest = covariance.copy()
        rest[:connections, :connections] = np.diag(np.diag(rest)[:connections])
        if many and np.array_equal(rest, np.diag(np.diag(rest))):
            projected = True
            return np.diag(covariance)
        return variances(name, covariance, labels)

    variance = None if outdated else stored(dcm, "pC", vector)
    moments = _moments(mean, variance, layout, n, m, projected)
    return TaskPriors(
        moments=given(moments | {"log_precision": read_noise(dcm, (n,))}),
        variance=variance,
        projected=projected,
    )


def _default_layout(dcm: Mapping[str, Any], n: int, m: int) -> Fields:
    """Fields of the priors that SPM makes of the switches."""
    shapes = {"A": (n, n), "B": (n, n, m), "C": (n, m), "D": (n, n, n_slices(dcm.get("d"))),
              "transit": (n,), "decay": (), "epsilon": ()}  # fmt: skip
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def _moments(
    mean: Fields | None,
    variance: NDArray[np.float64] | None,
    layout: Fields,
    n: int,
    m: int,
    projected: bool,
) -> dict[str, Moments]:
    regional = layout["decay"].ndim == 1
    if regional:
        warn_caller(
            "The file's prior has one decay a region, as before SPM12; the model here has one "
            "decay for all regions, with SPM's present prior, so estimates will differ"
        )
    means = {} if mean is None else in_our_axes(mean, n, m)
    spread = {} if variance is None else in_our_axes(_split(variance, layout), n, m)
    moments = {
        name: Moments(means.get(name), spread.get(name))
        for name in FIELDS
        if not (regional and name == "decay")
    }
    if projected:
        # Which connections there are is said by DCM.a: the projection mixes them.
        moments["A"] = Moments(moments["A"].mean, None)
    return moments


def _split(vector: NDArray[np.float64], layout: Fields) -> Fields:
    ends = np.cumsum([array.size for array in layout.values()])
    return {
        name: part.reshape(array.shape, order="F")
        for (name, array), part in zip(layout.items(), np.split(vector, ends[:-1]), strict=True)
    }
