"""Names that the results of a model of sources carry: labels, axes, coordinates, units."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.evoked import EvokedData
from bayesdcm.models.base import Model
from bayesdcm.models.evoked_checks import by_source
from bayesdcm.models.evoked_observation import ChannelSpace
from bayesdcm.neural import Prior

if TYPE_CHECKING:
    from bayesdcm.neural import SourceModel


class SourceNames(Model):
    """What results need of a model of sources beside its program.

    Subclasses give the source model, names of the sources, and the channel space.
    """

    source_names: tuple[str, ...]

    @property
    @abstractmethod
    def source_model(self) -> SourceModel:
        """The neural model."""

    @property
    @abstractmethod
    def n_inputs(self) -> int:
        """Number of inputs."""

    @property
    @abstractmethod
    def n_effects(self) -> int:
        """Number of condition-specific effects."""

    @property
    def moves_sources(self) -> bool:
        """Whether positions of dipoles are estimated."""
        free = (prior.free.any() for prior in self.spatial_priors if prior.name == "position")
        return any(free)

    @property
    def neural_priors(self) -> tuple[Prior, ...]:
        """Priors of the neural parameters, in SPM's order."""
        return tuple(self.priors)[: len(self.source_model.priors())]

    @property
    def spatial_priors(self) -> tuple[Prior, ...]:
        """Priors of the spatial parameters, in SPM's order."""
        return tuple(self.priors)[len(self.source_model.priors()) :]

    @abstractmethod
    def channel_space(self, data: EvokedData) -> ChannelSpace:
        """Channels, modes and prepared data.

        Parameters
        ----------
        data : EvokedData
            The data set.
        """

    def names(self, data: EvokedData | None = None) -> dict[str, list[str]]:
        """Names along each kind of axis: sources, kinds of connection, effects, inputs.

        Parameters
        ----------
        data : EvokedData, optional
            The data set; None for names such as "effect 1".
        """
        effects = [f"effect {i + 1}" for i in range(self.n_effects)]
        conditions = ["condition 1"]
        if data is not None:
            effects, conditions = list(data.effect_names), list(data.condition_names)
        sources = list(self.source_names)
        names = {name: list(values) for name, values in self.source_model.axes.items()}
        names |= dict.fromkeys(("source", "to", "from"), sources)
        names |= {
            "kind": list(self.source_model.kinds),
            "effect": effects,
            "input": [f"input {i + 1}" for i in range(self.n_inputs)],
            "timing": ["onset", "duration"],
            "axis": ["x", "y", "z"],
            "state": list(self.source_model.states),
            "condition": conditions,
        }
        for prior in self.spatial_priors:
            for dim, length in zip(prior.dims, np.shape(prior.mean), strict=True):
                names.setdefault(dim, [str(i + 1) for i in range(length)])
        return names

    def _in_places(self, name: str, value: Any) -> Any:
        return by_source(name, value, self.source_names)

    def dims(self) -> dict[str, tuple[str, ...]]:
        """Names of the axes of every site that results hold."""
        table = {prior.name: prior.dims for prior in self.priors}
        return table | {
            "log_precision": (),
            "connection_strength": ("condition", "kind", "to", "from"),
            self.observed_site: ("condition", "time", "mode"),
            "channels": ("condition", "time", "channel"),
            "design": ("condition", "effect"),
            "modes_to_channels": ("mode", "channel"),
        }

    def coords(self, data: EvokedData) -> dict[str, NDArray]:
        """Coordinates of the axes: names, and times in s.

        Parameters
        ----------
        data : EvokedData
            The data set.
        """
        names = {name: np.asarray(values) for name, values in self.names(data).items()}
        return names | {
            "time": np.asarray(data.times),
            "channel": np.asarray(data.channel_names),
            "mode": np.asarray(self.channel_space(data).mode_names),
        }

    def constants(self, data: EvokedData) -> dict[str, NDArray]:
        """Constants of a data set that results hold.

        ``channels``: the data as they were fitted, at the channels in their units (drifts
        removed and windowed); ``modes_to_channels``: takes a signal in channel modes to the
        channels; ``scale``: by what the data were multiplied for the fit; ``design``.

        Parameters
        ----------
        data : EvokedData
            The data set.
        """
        space = self.channel_space(data)
        return {
            "channels": space.filtered,
            "modes_to_channels": space.modes_to_channels,
            "scale": np.asarray(space.scale),
            "design": np.asarray(data.design),
        }

    def restore(self, scaled: NDArray, data: EvokedData) -> NDArray:
        """From the scaled signal that is modelled to the units of the data, by condition.

        Parameters
        ----------
        scaled : ndarray
            As modelled, shape (..., times, conditions * modes).
        data : EvokedData
            The data set.

        Returns
        -------
        ndarray
            Shape (..., conditions, times, modes).
        """
        return self.arrange(scaled, data) / self.channel_space(data).scale

    def arrange(self, values: NDArray, data: EvokedData) -> NDArray:
        """From the axes of what is modelled to those of results.

        Parameters
        ----------
        values : ndarray
            Shape (..., times, conditions * modes).
        data : EvokedData
            The data set.

        Returns
        -------
        ndarray
            Shape (..., conditions, times, modes).
        """
        apart = values.reshape(*values.shape[:-1], data.n_conditions, -1)
        return np.moveaxis(apart, -2, -3)
