"""Named features of simulations, and where a recording lies among those of simulations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

# Quantiles that stand for a matrix of windows, whose order says nothing.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NEIGHBOURS = 5
# Parts of the simulations, each of which is placed among the others.
PARTS = 5
# Standard deviation of the first component as flows see it, and bound of all.
LARGEST, BOUND = 6.0, 8.0
# Features that vary by less than so much of their size are constant but for rounding.
CONSTANT = 1e-9


def named_features(
    values: Mapping[str, NDArray],
    dims: Mapping[str, Sequence[str]],
    coords: Mapping[str, Any],
) -> tuple[list[str], NDArray[np.float64]]:
    """Features of measures (simulations, ...) by name: their names, and (simulations, features).

    Of connectivity, pairs of different regions count once; of its dynamics, mean, standard
    deviation and quantiles; of spectra, the mean logarithm of the power in half octaves; of
    cross-spectra, the logarithm of power and the coherency of pairs; of all else, every number.

    >>> matrix = np.array([[[1.0, 0.2], [0.2, 1.0]]])
    >>> axes = {"fc": ("region", "other region")}
    >>> names = ["V1", "V5"]
    >>> named_features({"fc": matrix}, axes, {"region": names, "other region": names})
    (['fc[V1, V5]'], array([[0.2]]))
    """
    names, columns = [], []
    for name in sorted(values):
        array = np.asarray(values[name], float)
        axes = dims.get(name, ())
        shape = array.shape[1:]
        # Conditions may be stacked.
        axes = axes[max(len(axes) - len(shape), 0) :]
        if len(axes) != len(shape):
            axes = tuple(f"axis {i}" for i in range(len(shape)))
        labels = [_labels(coords.get(axis), size) for axis, size in zip(axes, shape, strict=True)]
        flat = array.reshape(len(array), -1)
        if axes == ("region", "other region"):
            upper = np.triu_indices(shape[0], 1)
            entries = [(labels[0][i], labels[1][j]) for i, j in zip(*upper, strict=True)]
            flat = array[:, upper[0], upper[1]]
        elif axes == ("window", "other window"):
            upper = np.triu_indices(shape[0], 1)
            pairs = array[:, upper[0], upper[1]]
            moments = [pairs.mean(1), pairs.std(1), *np.quantile(pairs, QUANTILES, axis=1)]
            entries = [("mean",), ("sd",), *((f"{100 * q:.0f} %",) for q in QUANTILES)]
            flat = np.stack(moments, axis=1)
        elif axes[-2:] == ("frequency", "pair"):
            entries = list(product(*labels))
            flat = _powers_and_coherencies(array).reshape(len(array), -1)
        elif axes[:1] == ("frequency",) and (flat[:, shape[1] :] > 0).all():
            bands, flat = _half_octaves(array, np.asarray(coords.get("frequency", range(shape[0]))))
            entries = list(product(bands, *labels[1:]))
        else:
            entries = list(product(*labels))
        names += [f"{name}[{', '.join(entry)}]" if entry else name for entry in entries]
        columns.append(flat)
    return names, np.concatenate(columns, axis=1)


def _labels(values: Any, size: int) -> list[str]:
    if values is None or len(values) != size:
        return [str(i) for i in range(size)]
    return [f"{v:g}" if np.asarray(v).dtype.kind == "f" else str(v) for v in values]


def _half_octaves(density: NDArray, frequencies: NDArray) -> tuple[list[str], NDArray]:
    """Bands by name, and the mean logarithm of a density (simulations, frequencies, ...) there."""
    lowest = frequencies[1]
    band = np.floor(2 * np.log2(np.maximum(frequencies[1:], lowest) / lowest) + 1e-9)
    logarithm = np.log(density[:, 1:]).reshape(len(density), len(band), -1)
    names, means = [], []
    for each in np.unique(band):
        inside = frequencies[1:][band == each]
        names.append(
            f"{inside[0]:g} to {inside[-1]:g} Hz" if len(inside) > 1 else f"{inside[0]:g} Hz"
        )
        means.append(logarithm[:, band == each].mean(1))
    return names, np.stack(means, axis=1).reshape(len(density), -1)


def _powers_and_coherencies(columns: NDArray) -> NDArray[np.float64]:
    """Of cross-spectra as columns (..., n n), see `bayesdcm.integrate.hermitian.to_columns`."""
    n = round(columns.shape[-1] ** 0.5)
    # Columns are positive on the diagonal but for estimates that are no cross-spectra.
    power = np.maximum(columns[..., :: n + 1], np.finfo(float).tiny)
    root = np.sqrt(power)
    size = (root[..., :, None] * root[..., None, :]).reshape(columns.shape)
    result = columns / size
    result[..., :: n + 1] = np.log(power)
    return result


class Place(NamedTuple):
    """Where a recording lies among simulations, as shares of these that lie less far out.

    `nearest`: by the distance to its nearest neighbours; `beyond`: by what principal components do
    not describe; `unusual`: the features farthest from their mean, in standard deviations.
    """

    nearest: float
    beyond: float
    unusual: dict[str, float]


class FeatureScale(NamedTuple):
    """Features of simulations as flows take them: principal components.

    `kept`: which features vary; `mean` and `sd` of these; `basis` (features, components), from
    standardised features to components; `seen` (simulations, components), the simulations. As a
    recording would, simulations have, by components of others, `beyond` (simulations,), the root
    mean square of what these leave out, and `apart` (simulations,), mean distances to the nearest.
    """

    names: tuple[str, ...]
    kept: NDArray[np.bool_]
    mean: NDArray
    sd: NDArray
    basis: NDArray
    seen: NDArray
    beyond: NDArray
    apart: NDArray

    def components(self, features: NDArray) -> tuple[NDArray, NDArray]:
        """Components (rows, components) of features, and the size of what they leave out."""
        standard = (features[:, self.kept] - self.mean) / self.sd
        components = standard @ self.basis
        back = components @ (self.basis / (self.basis**2).sum(0)).T
        return components, np.sqrt(((standard - back) ** 2).mean(1))

    def inputs(self, features: NDArray) -> NDArray:
        """What flows see of features (rows, features): components, the first the largest.

        The first has a standard deviation of `LARGEST`, others less, as they vary less: what
        differs little between simulations is mostly noise. Far out, they are bounded.
        """
        components, _ = self.components(features)
        lengths = np.sqrt((self.basis**2).sum(0))
        spread = LARGEST * components * (lengths.min() / lengths)
        return BOUND * np.tanh(spread / BOUND)

    def distances(self, features: NDArray) -> tuple[NDArray, NDArray]:
        """Mean distance to the nearest simulations, and what components leave out, (rows,) each."""
        components, beyond = self.components(features)
        nearest = min(NEIGHBOURS, len(self.seen))
        return cKDTree(self.seen).query(components, range(1, nearest + 1))[0].mean(1), beyond

    def place(self, features: NDArray) -> Place:
        """Where the features of one recording, (features,), lie."""
        apart, beyond = self.distances(features[None])
        far = np.abs((features[self.kept] - self.mean) / self.sd)
        names = np.asarray(self.names)[self.kept]
        most = np.argsort(-far)[:3]
        return Place(
            float((self.apart < apart[0]).mean()),
            float((self.beyond < beyond[0]).mean()),
            {str(names[i]): round(float(far[i]), 1) for i in most},
        )


def feature_scale(names: Sequence[str], features: NDArray, components: int) -> FeatureScale:
    """Scale of the features of simulations, (simulations, features), all finite."""
    scale = _scale_of(names, features, components)
    beyond, apart = np.empty(len(features)), np.empty(len(features))
    # Components leave less out of the simulations that they were found from than of others.
    for part in np.array_split(np.arange(len(features)), min(PARTS, len(features))):
        others = _scale_of(names, np.delete(features, part, axis=0), components)
        apart[part], beyond[part] = others.distances(features[part])
    return scale._replace(beyond=beyond, apart=apart)


def _scale_of(names: Sequence[str], features: NDArray, components: int) -> FeatureScale:
    """`feature_scale` without distances."""
    mean, sd = features.mean(0), features.std(0)
    kept = sd > CONSTANT * np.maximum(np.abs(mean), 1e-30)
    if not kept.any():
        raise ValueError(
            "no feature of the simulations depends on parameters or noise; compare other data"
        )
    mean, sd = mean[kept], sd[kept]
    standard = (features[:, kept] - mean) / sd
    _, size, directions = np.linalg.svd(standard, full_matrices=False)
    number = min(components, int((size > 1e-6 * size[0]).sum()))
    basis = directions[:number].T * (np.sqrt(len(features)) / size[:number])
    empty = np.zeros(0)
    scale = FeatureScale(tuple(names), kept, mean, sd, basis, empty, empty, empty)
    return scale._replace(seen=scale.components(features)[0])
