"""The observer of channels whose lead field is given: of DCMs, and of series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.evoked import EvokedData
from bayesdcm.data.validation import check_names
from bayesdcm.observe.channels import ChannelObserver, checked_numbers
from bayesdcm.observe.sensor_units import dipole_moment, sensor_unit
from bayesdcm.observe.streaming import SeriesObserver, WindowMeans


@dataclass(frozen=True)
class LeadField(ChannelObserver, SeriesObserver):
    """A given lead field.

    It is an observer of DCMs, with an unknown gain for each source, and of series: of simulated
    networks (``simulate(observers=[LeadField(...)])``), or of any by `series`.

    Parameters
    ----------
    matrix : array_like
        Signal of each channel for a unit of each source, shape (channel, source).
    unit : str
        Of the matrix, by dipole moment, such as ``"V/(A m)"`` (as of MNE-Python's forward
        solutions), ``"T/(nA m)"``, ``"T/m/(A m)"``, or by activity, such as ``"V"``. A DCM keeps it
        for the record; its data may be in another.
    source_names : sequence of str, optional
        By default "source 1", "source 2", ...; of a series, those of the regions.
    n_modes, modes, n_confounds, hanning, temporal_correlation, as_spm
        Of DCMs; see `ChannelObserver`.
    amplitude : (array_like, str), optional
        Of a series and a matrix by dipole moment: the moment that a unit of activity is, a number
        or one a source, and its unit, such as ``(0.2, "nA m")``.
    channel_names : sequence of str, optional
        By default "channel 1", "channel 2", ...
    sampling_interval : float, optional
        Of a series: means over windows of that length, s; by default each step.
    of : str
        Of a network: the state or signal; empty for the node's activity.
    name : str
        Of the result.

    Raises
    ------
    ValueError, TypeError
        If the matrix is not of finite numbers, units or names do not fit it, or the moment of a
        unit of activity is missing.

    Examples
    --------
    >>> eeg = LeadField([[1.0, 0.0], [0.5, 0.5]], "uV/(nA m)", amplitude=(0.2, "nA m"))
    >>> volts = eeg.series([[10.0, 0.0], [0.0, 10.0]], step=0.1)
    >>> eeg.result_unit, (1e6 * volts).round(9).tolist()
    ('V', [[2.0, 1.0], [0.0, 1.0]])
    """

    matrix: ArrayLike
    unit: str = "a.u."
    amplitude: tuple[ArrayLike, str] | None = field(default=None, kw_only=True)
    channel_names: Sequence[str] | None = field(default=None, kw_only=True)
    sampling_interval: float | None = field(default=None, kw_only=True)
    of: str = field(default="", kw_only=True)
    name: str = field(default="sensors", kw_only=True)

    arrays = ChannelObserver.arrays | {"matrix": ((None, None), "channel, source")}
    result_dims: ClassVar[tuple[str, ...]] = ("time", "channel")

    def __post_init__(self) -> None:
        """Check the matrix, names and units."""
        super().__post_init__()
        channels, sources = np.shape(self.matrix)
        if self.channel_names is not None:
            names = check_names(
                "channel_names", self.channel_names, channels, "channel", "matrix, transposed,"
            )
            object.__setattr__(self, "channel_names", names)
        unit = sensor_unit(self.unit)
        if self.amplitude is None:
            return
        if unit.moment is None:
            raise ValueError(
                f"amplitude is a dipole moment, but unit is {self.unit!r}; expected a unit by "
                "dipole moment, such as 'V/(A m)'. Leave amplitude out where the matrix belongs to "
                "a unit of activity."
            )
        if not isinstance(self.amplitude, tuple | list) or len(self.amplitude) != 2:
            raise ValueError(
                f"amplitude is {self.amplitude!r}; expected a number and its unit, such as "
                "(0.2, 'nA m')"
            )
        value, moment = self.amplitude
        dipole_moment(moment)
        shape = (sources,) if np.ndim(value) else ()
        value = checked_numbers("amplitude", value, shape, "source")
        object.__setattr__(self, "amplitude", (value if shape else float(value), moment))

    @classmethod
    def from_forward(
        cls,
        forward: Any,
        parcels: Any,
        *,
        channels: str | Sequence[str] | None = None,
        areas: ArrayLike | None = None,
        source_names: Sequence[str] | None = None,
        **options: Any,
    ) -> LeadField:
        """The lead field of parcels of cortex, from a forward solution of MNE-Python.

        The moment of a parcel is that of all its vertices together, along the normals of the
        surface.

        Parameters
        ----------
        forward : mne.Forward
            With a source space on the surface of cortex.
        parcels : sequence of mne.Label, or array_like
            One a region, in the order of the series; or weights, shape (vertices, regions), in the
            order of the forward solution.
        channels : str or sequence of str, optional
            Type of channel (``"eeg"``, ``"mag"``, ``"grad"``), or names of one type; by default
            all.
        areas : array_like, optional
            Of the vertices, shape (vertices,), by which the moment is spread; by default equally.
        source_names : sequence of str, optional
            Of the regions; by default those of the labels.
        **options
            ``amplitude`` and others of the constructor.

        Returns
        -------
        LeadField
            In V, T or T/m by A m.

        Raises
        ------
        TypeError
            If `forward` or `parcels` are of another kind.
        ValueError
            If the source space is no surface, a parcel has no vertex, or channels are of several
            types.
        """
        from bayesdcm.data.mne_parcels import parcel_gain

        gain = parcel_gain(forward, parcels, channels, areas)
        return cls(
            gain.matrix,
            f"{gain.unit}/(A m)",
            channel_names=gain.channel_names,
            source_names=gain.parcel_names if source_names is None else source_names,
            **options,
        )

    # Of DCMs

    def lead(self, data: EvokedData) -> NDArray:
        """The matrix."""
        return np.asarray(self.matrix, float)

    def check_channels(self, data: EvokedData, n_sources: int) -> None:
        """Raise an error unless the matrix is for the channels and sources."""
        if np.ndim(self.matrix) != 2 or np.shape(self.matrix)[1] != n_sources:
            raise ValueError(
                f"matrix must have shape (channel, {n_sources}), one column a source, got "
                f"{np.shape(self.matrix)}"
            )
        self._check_length("lead_field", self.matrix, 0, data)

    # Of series

    @property
    def result_unit(self) -> str:
        """V, T or T/m, or the matrix' unit where it is none of these."""
        return sensor_unit(self.unit).signal

    def check_regions(self, names: Sequence[str]) -> None:
        """Raise an error where regions are the sources in another order."""
        sources, regions = list(self.source_names or ()), [str(name) for name in names]
        crossed = [n for n in regions if n in sources and sources.index(n) != regions.index(n)]
        if crossed:
            name = crossed[0]
            raise ValueError(
                f"source_names has {name!r} at position {sources.index(name)}, but the series has "
                f"it at position {regions.index(name)}; put the columns of matrix in the order of "
                "the regions"
            )

    @cached_property
    def _signal(self) -> NDArray:
        """Signal of a unit of activity in SI units, shape (sources, channels)."""
        unit = sensor_unit(self.unit)
        signal = np.asarray(self.matrix).T * unit.factor
        if unit.moment is None:
            return signal
        if self.amplitude is None:
            raise ValueError(
                f"amplitude is missing: matrix is in {self.unit}, so give the dipole moment that a "
                "unit of activity is, such as amplitude=(0.2, 'nA m')"
            )
        value, moment = self.amplitude
        return signal * np.reshape(value, (-1, 1)) * (dipole_moment(moment) / unit.moment)

    def start(self, shape: tuple[int, int], step: float) -> Any:
        """No signal; see `SeriesObserver`."""
        sources, channels = self._signal.shape
        if shape[1] != sources:
            raise ValueError(
                f"matrix has {sources} columns, but the series has {shape[1]} regions; expected "
                "shape (channels, regions)"
            )
        return self._windows(step).start((shape[0], channels), step)

    def update(self, carry: Any, activity: jax.Array) -> Any:
        """Signal of a further block; see `SeriesObserver`."""
        # What is carried holds the length of the windows.
        return WindowMeans(0.0).update(carry, activity @ jnp.asarray(self._signal))

    def finish(self, carry: Any) -> jax.Array:
        """Signal, shape (times, channels); see `SeriesObserver`."""
        return WindowMeans(0.0).finish(carry)

    def _windows(self, step: float) -> WindowMeans:
        interval = step if self.sampling_interval is None else self.sampling_interval
        return WindowMeans(interval)

    def result_coords(self, shape: tuple[int, int], step: float) -> Mapping[str, ArrayLike]:
        """Ends of windows, s, and names of channels; see `SeriesObserver`."""
        count = range(1, len(self.matrix) + 1)
        names = self.channel_names or [f"channel {i}" for i in count]
        return {**self._windows(step).result_coords(shape, step), "channel": list(names)}


def parcel_lead_field(
    gain: ArrayLike, normals: ArrayLike, parcels: ArrayLike, areas: ArrayLike | None = None
) -> NDArray:
    r"""Lead field of parcels of cortex, of currents along its normals.

    .. math:: L_{cr} = \sum_v a_v\, p_{vr} \sum_i g_{cvi}\, n_{vi}

    Parameters
    ----------
    gain : array_like
        Field of dipoles along x, y and z, shape (channels, vertices, 3). Of MNE-Python's forward
        solutions, whose columns run over x, y and z of one vertex after the other:
        ``forward["sol"]["data"].reshape(n_channels, -1, 3)``.
    normals : array_like
        Shape (vertices, 3).
    parcels : array_like
        Weight of each vertex in each parcel, shape (vertices, parcels).
    areas : array_like, optional
        Of vertices, shape (vertices,): then a unit of activity is one of moment by area.

    Returns
    -------
    ndarray
        Shape (channels, parcels).

    Raises
    ------
    ValueError
        If shapes disagree.

    Examples
    --------
    >>> gain = np.arange(6.0).reshape(1, 2, 3)
    >>> parcel_lead_field(gain, [[1, 0, 0], [0, 0, 1]], [[1], [1]], areas=[1.0, 2.0]).tolist()
    [[10.0]]
    """
    gain = checked_numbers("gain", gain, (None, None, 3), "channel, vertex, x y z")
    vertices = gain.shape[1]
    normals = checked_numbers("normals", normals, (vertices, 3), "vertex, x y z")
    parcels = checked_numbers("parcels", parcels, (vertices, None), "vertex, parcel")
    if areas is not None:
        parcels = checked_numbers("areas", areas, (vertices,), "vertex")[:, None] * parcels
    return np.einsum("cvi,vi->cv", gain, normals) @ parcels
