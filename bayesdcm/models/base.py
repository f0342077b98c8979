"""What results need of a model beside its program: labels of entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from bayesdcm.models.priors import FREE, entry_labels
from bayesdcm.neural import Prior


class Model(ABC):
    """A model whose parameters have priors and named axes.

    Subclasses give `priors`, `names`, `precision_labels`, and what `bayesdcm.fit` asks for.
    """

    observed_site: ClassVar[str] = "signal"

    @property
    @abstractmethod
    def priors(self) -> tuple[Prior, ...]:
        """Priors of all parameters but the noise precision."""

    @abstractmethod
    def names(self, data: Any) -> dict[str, list[str]]:
        """Names along each kind of axis.

        Parameters
        ----------
        data : object
            The data set.
        """

    @abstractmethod
    def precision_labels(self, data: Any) -> list[str]:
        """Labels of the log-precisions of the noise.

        Parameters
        ----------
        data : object
            The data set.
        """

    def labels(self, data: Any) -> dict[str, list[str]]:
        """Labels of the entries of every sampled site, such as ``A[V5, V1]``.

        Parameters
        ----------
        data : object
            The data set.
        """
        names = self.names(data)
        table = {}
        for prior in self.priors:
            site = prior.name if prior.free.all() else prior.name + FREE
            if prior.free.any():
                table[site] = entry_labels(prior, names)
        table["log_precision"] = self.precision_labels(data)
        return table
