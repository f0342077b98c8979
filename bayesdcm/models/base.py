"""What results need of a model beside its program: labels of entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Self

import pandas as pd

from bayesdcm.models.given_priors import Priors, parse_priors, prior_table
from bayesdcm.models.priors import FREE, entry_labels
from bayesdcm.models.structure import restricted
from bayesdcm.neural import Prior


class Model(ABC):
    """A model whose parameters have priors and named axes.

    Subclasses are dataclasses with a field `priors`; they give `own_priors`, `names`, and what
    `bayesdcm.fit` asks for.

    Attributes
    ----------
    priors : Priors
        Priors of all parameters but the noise precision, in SPM's order; ``priors.noise`` is that
        of the log-precisions of the noise.
    """

    observed_site: ClassVar[str] = "signal"
    priors: Any

    @abstractmethod
    def own_priors(self) -> tuple[Prior, ...]:
        """Priors that hold where none are given, that of the noise precision last."""

    @abstractmethod
    def names(self, data: Any = None) -> dict[str, list[str]]:
        """Names along each kind of axis.

        Parameters
        ----------
        data : object, optional
            The data set; None for names such as "region 1".
        """

    def _set_priors(self) -> None:
        """Turn what was given as `priors` into `Priors`."""
        given = self.priors.given if isinstance(self.priors, Priors) else parse_priors(self.priors)
        object.__setattr__(self, "priors", Priors(self.own_priors(), given))

    def with_priors(self, priors: Any) -> Self:
        """The same model with other priors.

        Parameters
        ----------
        priors : mapping or pandas.DataFrame
            As the model takes them; what was given before stays where nothing else is given now.

        Returns
        -------
        Model
            Of the same class.

        Raises
        ------
        TypeError, ValueError
            As the model's constructor.

        Examples
        --------
        >>> from bayesdcm import TaskDCM
        >>> model = TaskDCM(A=[[1]], C=[[1]]).with_priors({"C": (0.0, 4.0)})
        >>> model.prior_table().loc["C[region 1, input 1]", "variance"].item()
        4.0
        """
        return replace(self, priors=Priors(self.priors.own, self.priors.merged(priors)))  # type: ignore[type-var]

    def _restricted(self, **given: Any) -> Self:
        """The same model with some connections switched off, and the priors of the others."""
        changes = {
            name: restricted(name, getattr(self, name), self._in_places(name, value))
            for name, value in given.items()
            if value is not None
        }
        other = replace(self, **changes, priors=None)  # type: ignore[type-var]
        own = other.priors.own
        return replace(other, priors=Priors(own, self.priors.restricted_to(own)))

    def _in_places(self, name: str, value: Any) -> Any:
        """Switches as they came, or in the order of names that the model has."""
        del name
        return value

    def for_data(self, data: Any) -> Self:
        """The model with priors of labelled entries in the places that names of data give them.

        Parameters
        ----------
        data : object
            The data set.

        Returns
        -------
        Model
            Itself where no labelled entries were given.

        Raises
        ------
        ValueError
            If a label is not one of the model's with these names.
        """
        if not self.priors.pending:
            return self
        return replace(self, priors=self.priors.named(self.names(data)))  # type: ignore[type-var]

    def _require_named(self) -> None:
        if self.priors.pending:
            raise ValueError(
                f"priors names {', '.join(map(repr, self.priors.pending))}, whose places depend on "
                "the names of a data set; use model.for_data(data)"
            )

    def prior_table(self, data: Any = None) -> pd.DataFrame:
        """Priors of all entries that are estimated or were given, one row each.

        Parameters
        ----------
        data : object, optional
            Data whose names label the entries; None for names such as "region 1".

        Returns
        -------
        pandas.DataFrame
            Index ``parameter``, such as ``A[V5, V1]``; columns ``mean``, ``variance``, ``sd``,
            ``unit`` and ``fixed``. A table with changed means and variances can be given as
            ``priors=``.

        Raises
        ------
        ValueError
            If priors of labelled entries were given and the labels are not those of the names.

        Examples
        --------
        >>> from bayesdcm import TaskDCM
        >>> TaskDCM(A=[[1]], C=[[1]], priors={"decay": 0.1}).prior_table().loc["decay", "mean"].item()
        0.1
        """  # noqa: E501
        names = self.names(data)
        return prior_table(self.priors.named(names), names)

    def labels(self, data: Any) -> dict[str, list[str]]:
        """Labels of the entries of every sampled site, such as ``A[V5, V1]``.

        Parameters
        ----------
        data : object
            The data set.
        """
        names = self.names(data)
        table = {}
        for prior in self.priors.named(names).all:
            site = prior.name if prior.free.all() else prior.name + FREE
            if prior.free.any():
                table[site] = entry_labels(prior, names)
        return table
