"""Names that the results of a hierarchy carry: labels, axes, coordinates, constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.group.design import checked_design
from bayesdcm.group.hierarchy_inputs import fields_of, is_chosen, subjects_of


class GroupNames:
    """What results need of a hierarchy beside its program; subclasses give `Hierarchy`'s fields."""

    model: Any
    design: pd.DataFrame | None
    parameters: Sequence[str]
    between: str
    clusters: int | None
    covariates: tuple[str, ...]

    # Results hold no signal: predictions of all subjects at all draws would need gigabytes.
    observed_site: ClassVar[None] = None

    def design_of(self, subjects: Sequence[Any]) -> NDArray[np.float64]:
        """The design of subjects, shape (subjects, covariates)."""
        return checked_design(self.design, [subject.name for subject in subjects]).to_numpy()

    def labels(self, data: Any) -> dict[str, list[str]]:
        """Labels of the entries of every sampled site, such as ``mean A[V5, V1]``."""
        coords = self.coords(data)

        def pairs(first: str, second: str) -> list[str]:
            return [f"{a} {b}" for a in coords[first] for b in coords[second]]

        def between(site: str) -> list[str]:
            of_cluster = [""] if self.clusters is None else [f"{k} " for k in coords["cluster"]]
            return [f"{k}{site}[{name}]" for k in of_cluster for name in coords["component"]]

        return {
            "effects": pairs("covariate", "parameter"),
            "cluster_means": pairs("cluster", "parameter"),
            "weights": [f"weights[{k}]" for k in coords["cluster"]],
            "between_log_precision": between("between_log_precision"),
            "between_ratio": between("between_ratio"),
            "subject_parameters": pairs("subject", "subject_parameter"),
        }

    def dims(self) -> dict[str, tuple[str, ...]]:
        """Names of the axes of every site that results hold."""
        table = {
            name: ("subject", *axes)
            for name, axes in self.model.dims().items()
            if name != self.model.observed_site
        }
        by_cluster = () if self.clusters is None else ("cluster",)
        return table | {
            "effects": ("covariate", "parameter"),
            "cluster_means": ("cluster", "parameter"),
            "weights": ("cluster",),
            "between_log_precision": (*by_cluster, "component"),
            "between_ratio": (*by_cluster, "component"),
            "between_sd": (*by_cluster, "parameter"),
            "membership": ("subject", "cluster"),
            "subject_parameters": ("subject", "subject_parameter"),
            "design": ("subject", "design_column"),
        }

    def coords(self, data: Any) -> dict[str, NDArray]:
        """Coordinates of the axes: names of subjects, parameters, covariates, clusters."""
        subjects = subjects_of(self.model, data, prepare=False)
        labels = [label for entries in subjects[0].labels.values() for label in entries]
        chosen = [label for label in labels if is_chosen(label, self.parameters)]
        names = {"single": ["all"], "fields": fields_of(chosen), "all": chosen}[self.between]
        first = 0 if self.clusters is None else 1
        axes = {
            "subject": [subject.name for subject in subjects],
            "subject_parameter": labels,
            "parameter": chosen,
            "component": names,
            "covariate": self.covariates[first:],
            "design_column": self.covariates,
            "cluster": [f"cluster {k + 1}" for k in range(self.clusters or 0)],
        }
        return dict(subjects[0].coords) | {n: np.asarray(values) for n, values in axes.items()}

    def constants(self, data: Any) -> dict[str, NDArray]:
        """Constants that results hold: the design."""
        return {"design": self.design_of(subjects_of(self.model, data, prepare=False))}

    def restore(self, values: NDArray, data: Any) -> NDArray:
        """The values themselves: results hold no signal of a hierarchy."""
        del data
        return values

    arrange = restore
