"""Head models of EEG and MEG: what is needed to work out a lead field, and nothing else.

The classes hold geometry and gains in SI units (m, S/m, V or T per A m) in head coordinates, in
which x points to the right ear, y to the nose and z up. The lead fields themselves are worked out
from them elsewhere, as functions of the position of a source.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.validation import check_real_array

__all__ = ["GridHead", "HeadModel", "SphereHead", "SurfaceHead"]

# Brain, cerebrospinal fluid, skull and scalp of a head of 9 cm, and their conductivities: the
# defaults of MNE's sphere model.
_DEFAULT_RADII = (0.081, 0.0828, 0.0873, 0.09)
_DEFAULT_CONDUCTIVITIES = (0.33, 1.0, 0.004, 0.33)
# A matrix from mm to m scales by 1/1000; heads differ from the template by much less than this.
_SCALES = (0.5e-3, 2e-3)
_SENSOR_TYPES = ("eeg", "mag", "grad")


class HeadModel(ABC):
    """Base of the head models: the way from MNI coordinates, and the selection of channels."""

    mni_to_head: NDArray[np.float64] | None

    @property
    @abstractmethod
    def n_channels(self) -> int:
        """Number of channels whose signals the head model predicts."""

    @abstractmethod
    def pick(self, channels: Sequence[int]) -> Self:
        """Return the same head with some of its channels, given by index, in the order given."""

    def to_head(self, positions: ArrayLike) -> NDArray[np.float64]:
        """Positions in head coordinates, in m, shape (n, 3).

        Parameters
        ----------
        positions : array_like, shape (n, 3)
            MNI coordinates, in mm.

        Examples
        --------
        >>> SphereHead([[0.0, 0.0, 0.09]]).to_head([[42.0, -22.0, 7.0]])
        array([[ 0.042, -0.022,  0.007]])
        """
        given = check_real_array("positions", positions, ("sources", "3"))
        if given.shape[1] != 3:
            raise ValueError(
                f"positions has shape {given.shape}; expected one row of x, y and z in mm for each "
                "source. Transpose it if it is (3, sources)."
            )
        transform = np.asarray(self.mni_to_head)
        return given @ transform[:3, :3].T + transform[:3, 3]

    def _set(self, **fields: object) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """One line: kind and size."""
        return f"{type(self).__name__}({self._describe()})"

    @abstractmethod
    def _describe(self) -> str: ...


@dataclass(frozen=True, eq=False, repr=False)
class SphereHead(HeadModel):
    """Concentric spheres with the sensors outside or on them, checked on construction.

    The field of a sensor is worked out first: the potential at an electrode, or
    ``sum(weight * normal . B(point))`` over the points of a coil. Then the mean over the electrodes
    is taken off them, where `average_reference` says so, and last comes `projection`.

    Parameters
    ----------
    sensors : array_like, shape (sensors, 3)
        Positions of electrodes, or centres of coils, in m in head coordinates. Electrodes need not
        lie on the outermost sphere: a lead field takes them to it along the radius.
    centre : array_like, shape (3,), default (0, 0, 0)
        Centre of the spheres, in m in head coordinates.
    radii : array_like, shape (shells,), optional
        Outer radii of the shells, from the inside out, in m; by default those of MNE's sphere
        model for a head of 9 cm (brain, fluid, skull, scalp). MEG does not depend on them.
    conductivities : array_like, shape (shells,), optional
        Conductivities of the shells, in S/m; by default those of MNE's sphere model.
    sensor_types : sequence of str, optional
        ``"eeg"``, ``"mag"`` or ``"grad"`` for each sensor; by default all are electrodes.
    coil_points : array_like, shape (sensors, points, 3), optional
        Points at which the field is integrated over the coils, in m in head coordinates; needed
        with MEG sensors. Coils of fewer points have points of weight 0.
    coil_normals : array_like, shape (sensors, points, 3), optional
        Directions of the measured field at these points, of length 1 (0 for electrodes).
    coil_weights : array_like, shape (sensors, points), optional
        Weights of the points: of sum 1 for a magnetometer (signal in T), in 1/m for a gradiometer
        (signal in T/m).
    average_reference : bool, default False
        Whether potentials are relative to their mean over all electrodes among `sensors`.
    projection : array_like, shape (channels, sensors), optional
        Matrix that takes signals of sensors to those of the data's channels: signal-space
        projection and selection. None where channels are sensors.
    mni_to_head : array_like, shape (4, 4), optional
        Affine matrix from MNI coordinates in mm to head coordinates in m; by default a change of
        units only.

    Raises
    ------
    TypeError
        If an argument does not hold the kind of values it should.
    ValueError
        If shapes disagree or values are not finite, radii do not increase, or the coils of MEG
        sensors are missing.

    Examples
    --------
    >>> SphereHead([[0.0, 0.0, 0.09], [0.0, 0.09, 0.0]], average_reference=True)
    SphereHead(2 sensors (eeg), 4 shells, outermost of 90 mm)
    """

    sensors: NDArray[np.float64]
    centre: NDArray[np.float64] = (0.0, 0.0, 0.0)  # type: ignore[assignment]
    radii: NDArray[np.float64] | None = None
    conductivities: NDArray[np.float64] | None = None
    sensor_types: tuple[str, ...] | None = None
    coil_points: NDArray[np.float64] | None = None
    coil_normals: NDArray[np.float64] | None = None
    coil_weights: NDArray[np.float64] | None = None
    average_reference: bool = False
    projection: NDArray[np.float64] | None = None
    mni_to_head: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Check every argument and fill the defaults."""
        sensors = _check_shape("sensors", self.sensors, ("sensors", 3))
        self._set(
            sensors=sensors,
            centre=_check_shape("centre", self.centre, (3,)),
            sensor_types=_check_sensor_types(self.sensor_types, len(sensors)),
            average_reference=_check_flag("average_reference", self.average_reference),
            mni_to_head=_check_transform(self.mni_to_head),
        )
        self._set_shells()
        self._set_coils()
        if self.projection is not None:
            shape = ("channels", len(sensors))
            self._set(projection=_check_shape("projection", self.projection, shape))

    def _set_shells(self) -> None:
        if (self.radii is None) != (self.conductivities is None):
            given = "conductivities" if self.radii is None else "radii"
            raise ValueError(
                f"{given} came alone; expected radii and conductivities of the same shells, or "
                "neither. Give both."
            )
        radii = _DEFAULT_RADII if self.radii is None else self.radii
        values = _DEFAULT_CONDUCTIVITIES if self.conductivities is None else self.conductivities
        radii = _check_shape("radii", radii, ("shells",))
        conductivities = _check_shape("conductivities", values, (len(radii),))
        if radii[0] <= 0 or (np.diff(radii) <= 0).any():
            raise ValueError(
                f"radii must increase from the inside out and lie above 0, got {radii.tolist()}. "
                "Give them in m, the brain's first."
            )
        if (conductivities <= 0).any():
            raise ValueError(
                f"conductivities must lie above 0, got {conductivities.tolist()}. Give them in S/m."
            )
        self._set(radii=radii, conductivities=conductivities)

    def _set_coils(self) -> None:
        fields = ("coil_points", "coil_normals", "coil_weights")
        absent = [name for name in fields if getattr(self, name) is None]
        magnetic = sorted(set(self.sensor_types or ()) - {"eeg"})
        if absent and (magnetic or len(absent) < 3):
            raise ValueError(
                f"{' and '.join(absent)} missing; expected all of {', '.join(fields)} for sensors "
                f"of type {magnetic or 'mag or grad'}, and none for electrodes alone. Give the "
                "points over which each coil is integrated."
            )
        if absent:
            return
        n = len(self.sensors)
        points = _check_shape("coil_points", self.coil_points, (n, "points", 3))
        shape = points.shape[:2]
        self._set(
            coil_points=points,
            coil_normals=_check_shape("coil_normals", self.coil_normals, (*shape, 3)),
            coil_weights=_check_shape("coil_weights", self.coil_weights, shape),
        )

    @property
    def n_channels(self) -> int:
        """Number of channels whose signals the head model predicts."""
        return len(self.sensors if self.projection is None else self.projection)

    def pick(self, channels: Sequence[int]) -> Self:
        """Return the same head with some of its channels, given by index, in the order given.

        Sensors stay, since those that are left out still count for reference and projections.
        """
        all_channels = np.eye(len(self.sensors)) if self.projection is None else self.projection
        projection = all_channels[_check_indices(channels, self.n_channels)]
        return dataclasses.replace(self, projection=projection)

    def _describe(self) -> str:
        kinds = ", ".join(kind for kind in _SENSOR_TYPES if kind in (self.sensor_types or ()))
        radii = np.asarray(self.radii)
        return (
            f"{len(self.sensors)} sensors ({kinds}), {len(radii)} shells, outermost of "
            f"{1000 * radii[-1]:.3g} mm"
        )


class _GivenGain(HeadModel):
    """Base of head models that hold the gain of every channel at given points."""

    positions: NDArray[np.float64]
    gain: NDArray[np.float64]
    average_reference: bool
    _points: ClassVar[str]
    # The gain's axes after channels and points.
    _directions: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        """Check the arguments that all such heads have, and fill the defaults."""
        positions = _check_shape("positions", self.positions, (self._points, 3))
        shape = ("channels", len(positions), *self._directions)
        self._set(
            positions=positions,
            gain=_check_shape("gain", self.gain, shape),
            average_reference=_check_flag("average_reference", self.average_reference),
            mni_to_head=_check_transform(self.mni_to_head),
        )

    @property
    def n_channels(self) -> int:
        """Number of channels whose signals the head model predicts."""
        return len(self.gain)

    def pick(self, channels: Sequence[int]) -> Self:
        """Return the same head with some of its channels, given by index, in the order given."""
        gain = self.gain[_check_indices(channels, self.n_channels)]
        return dataclasses.replace(self, gain=gain)  # type: ignore[type-var]

    def _describe(self) -> str:
        return f"{len(self.positions)} {self._points}, {self.n_channels} channels"


@dataclass(frozen=True, eq=False, repr=False)
class GridHead(_GivenGain):
    """Lead fields of dipoles of any orientation at given points, checked on construction.

    Parameters
    ----------
    positions : array_like, shape (points, 3)
        Where the lead field is known, in m in head coordinates.
    gain : array_like, shape (channels, points, 3)
        Signals of dipoles of 1 A m along x, y and z: in V/(A m) for EEG, T/(A m) for
        magnetometers, T/m/(A m) for gradiometers; relative to the reference of the data.
    average_reference : bool, default False
        Whether `gain` of electrodes is relative to their mean; said for the record.
    mni_to_head : array_like, shape (4, 4), optional
        As for `SphereHead`.

    Raises
    ------
    TypeError
        If an argument does not hold the kind of values it should.
    ValueError
        If shapes disagree or values are not finite.

    Examples
    --------
    >>> GridHead(np.zeros((5, 3)), np.ones((2, 5, 3)))
    GridHead(5 points, 2 channels)
    """

    positions: NDArray[np.float64]
    gain: NDArray[np.float64]
    average_reference: bool = False
    mni_to_head: NDArray[np.float64] | None = None
    _points, _directions = "points", (3,)


@dataclass(frozen=True, eq=False, repr=False)
class SurfaceHead(_GivenGain):
    """Lead fields of dipoles that stand upright on the cortical surface, checked on construction.

    Parameters
    ----------
    positions : array_like, shape (vertices, 3)
        Vertices of the surface, in m in head coordinates.
    normals : array_like, shape (vertices, 3)
        Outward normals of the surface there, the directions of the dipoles.
    gain : array_like, shape (channels, vertices)
        Signals of dipoles of 1 A m along the normals: in V/(A m) for EEG, T/(A m) for
        magnetometers, T/m/(A m) for gradiometers; relative to the reference of the data.
    average_reference : bool, default False
        Whether `gain` of electrodes is relative to their mean; said for the record.
    mni_to_head : array_like, shape (4, 4), optional
        As for `SphereHead`.

    Raises
    ------
    TypeError
        If an argument does not hold the kind of values it should.
    ValueError
        If shapes disagree or values are not finite.

    Examples
    --------
    >>> SurfaceHead(np.zeros((5, 3)), np.ones((5, 3)), np.ones((2, 5)))
    SurfaceHead(5 vertices, 2 channels)
    """

    positions: NDArray[np.float64]
    normals: NDArray[np.float64]
    gain: NDArray[np.float64]
    average_reference: bool = False
    mni_to_head: NDArray[np.float64] | None = None
    _points = "vertices"

    def __post_init__(self) -> None:
        """Check every argument and fill the defaults."""
        super().__post_init__()
        self._set(normals=_check_shape("normals", self.normals, self.positions.shape))


def _check_shape(name: str, value: object, shape: tuple[str | int, ...]) -> NDArray[np.float64]:
    """Return a read-only array; numbers in `shape` are lengths, words stand for any length."""
    axes = [str(length) for length in shape]
    checked = check_real_array(name, value, axes)  # type: ignore[arg-type]
    wrong = [
        isinstance(want, int) and want != got
        for want, got in zip(shape, checked.shape, strict=True)
    ]
    if any(wrong):
        raise ValueError(
            f"{name} has shape {checked.shape}; expected ({', '.join(axes)}), to agree with the "
            "other arguments. Check the order of its axes and how it was selected."
        )
    return checked


def _check_transform(value: ArrayLike | None) -> NDArray[np.float64]:
    default = np.diag([1e-3, 1e-3, 1e-3, 1.0])
    checked = _check_shape("mni_to_head", default if value is None else value, (4, 4))
    determinant = float(np.linalg.det(checked[:3, :3]))
    scale = np.cbrt(determinant)
    if not np.allclose(checked[3], (0, 0, 0, 1)) or not _SCALES[0] < scale < _SCALES[1]:
        raise ValueError(
            f"mni_to_head has the last row {checked[3].tolist()} and scales by {scale:.3g}; "
            "expected an affine matrix from MNI coordinates in mm to head coordinates in m, which "
            "scales by about 0.001 and does not mirror. Divide the first three rows by 1000 if it "
            "gives mm."
        )
    return checked


def _check_sensor_types(value: Sequence[str] | None, count: int) -> tuple[str, ...]:
    types = ("eeg",) * count if value is None else value
    if isinstance(types, str) or not isinstance(types, Sequence):
        raise TypeError(
            f"sensor_types must be a list of {count} strings, got {types!r}. Give one of "
            f"{_SENSOR_TYPES} for each sensor."
        )
    unknown = [kind for kind in types if kind not in _SENSOR_TYPES]
    if unknown or len(types) != count:
        raise ValueError(
            f"sensor_types has {len(types)} entries, among them {unknown[:3]}; expected {count}, "
            f"each one of {_SENSOR_TYPES}. Leave out other sensors."
        )
    return tuple(types)


def _check_flag(name: str, value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}. Give a truth value.")
    return bool(value)


def _check_indices(channels: Sequence[int], count: int) -> list[int]:
    indices = [int(i) for i in channels]
    if not indices or min(indices) < 0 or max(indices) >= count:
        raise ValueError(
            f"channels holds {indices[:5]}; expected indices from 0 to {count - 1}, at least one. "
            "Give the positions of the channels to keep."
        )
    return indices
