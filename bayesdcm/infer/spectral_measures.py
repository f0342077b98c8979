"""What a posterior of spectral DCM says of signals: connectivity, coherence, delays, directions."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from bayesdcm.integrate.linear_response import cross_spectra
from bayesdcm.models.spectral import SpectralDCM

__all__ = ["spectral_measures"]

# From one in 128 s to one in 8 s.
FREQUENCIES = np.linspace(1 / 128, 1 / 8, 32)


def spectral_measures(
    fit: Any, frequencies: ArrayLike | None = None, draws: int = 200
) -> xr.Dataset:
    """Functional connectivity, spectra, coherence, delays and directed influence, with uncertainty.

    All follow from the same draws of one posterior, without data: what the model, as it was
    inferred, says of BOLD signals.

    Parameters
    ----------
    fit : Fit
        Of a `bayesdcm.SpectralDCM`.
    frequencies : array_like, optional
        Hz, above 0 and increasing; by default 32 from 1/128 to 1/8 Hz.
    draws : int
        Draws of the posterior at most, spread evenly over all.

    Returns
    -------
    xarray.Dataset
        With axes ``draw``, ``frequency``, ``to`` and ``from``:

        ``power`` (draw, frequency, to): of the scaled signals, per Hz.
        ``coherence`` (draw, frequency, to, from): squared, 0 to 1.
        ``phase_delay`` (draw, frequency, to, from): by how much ``to`` lags behind ``from``, s,
        within half a period.
        ``directed_influence`` (draw, frequency, to, from): ``-log(1 - share)`` of the share that
        fluctuations of ``from`` have in the power of ``to``, nats. It is like Geweke's measure of
        Granger causality, of fluctuations that the model separates from haemodynamics and noise.
        ``functional_connectivity`` (draw, to, from): correlation of the signals within the band.

        Draws at which the model is unstable are left out.

    Raises
    ------
    TypeError
        If the fit is of another model.
    ValueError
        If frequencies are not positive, or the model is unstable at all draws.

    References
    ----------
    .. [1] Geweke (1982), J Am Stat Assoc 77:304. https://doi.org/10.1080/01621459.1982.10477803

    Examples
    --------
    >>> import bayesdcm
    >>> model = bayesdcm.SpectralDCM([[1, 0], [1, 1]])
    >>> design = bayesdcm.BoldDesign(200, 2.0, None, None, ["V1", "V5"])
    >>> run = model.simulate({p.name: p.mean for p in model.priors}, design, seed=1)
    >>> fit = bayesdcm.fit(model, bayesdcm.SpectralData.from_bold(run))
    >>> dict(spectral_measures(fit, draws=50)["coherence"].sizes)
    {'draw': 50, 'frequency': 32, 'to': 2, 'from': 2}
    """
    model = fit.problem.model
    if not isinstance(model, SpectralDCM):
        raise TypeError(f"fit must be of a SpectralDCM, got one of {type(model).__name__}")
    f = FREQUENCIES if frequencies is None else np.asarray(frequencies, float)
    if f.ndim != 1 or f.size < 2 or not (f[0] > 0 and (np.diff(f) > 0).all()):
        raise ValueError(
            f"frequencies must be at least two numbers above 0 that increase, in Hz, got {f}"
        )
    # Axes of all arrays begin with chain and draw; a DataTree, as newer ArviZ has, knows no stack.
    flat = {
        prior.name: np.concatenate(np.asarray(fit._groups["posterior"][prior.name]))
        for prior in model.priors
    }
    total = len(next(iter(flat.values())))
    chosen = np.unique(np.linspace(0, total - 1, min(draws, total)).round().astype(int))
    parameters = {name: jnp.asarray(values[chosen]) for name, values in flat.items()}
    found = jax.tree.map(np.asarray, _measures(model, parameters, *model.at_frequencies(f)))
    kept = np.isfinite(found["power"]).all((1, 2))
    if not kept.any():
        raise ValueError("the model is unstable at all draws of the posterior")
    names = list(fit.problem.data.names)
    dims = ("draw", "frequency", "to", "from")
    table = {
        name: (dims[: values.ndim] if name != "functional_connectivity" else ("draw", *dims[2:]))
        for name, values in found.items()
    }
    coords = {"frequency": f, "to": names, "from": names}
    data = {name: (table[name], values[kept]) for name, values in found.items()}
    return xr.Dataset(data, coords)


@partial(jax.jit, static_argnums=0)
def _measures(model: SpectralDCM, parameters: Any, steps: Any, space: Any) -> dict[str, jax.Array]:
    neural, solver, observer = model.parts

    def of_draw(each: Any) -> dict[str, jax.Array]:
        transfer = solver.solve(neural, observer, each, steps)[0].mT
        fluctuation, noise = observer.fluctuations_and_noise(each, space)
        power = jnp.broadcast_to(fluctuation[:, None], transfer.shape[::2])
        spectra = cross_spectra(transfer, power) + noise
        own = jnp.diagonal(spectra, axis1=1, axis2=2).real
        both = own[:, :, None] * own[:, None, :]
        share = jnp.abs(transfer) ** 2 * fluctuation[:, None, None] / own[:, :, None]
        turns = 2 * jnp.pi * space.frequencies[:, None, None]
        total = jnp.trapezoid(spectra.real, space.frequencies, axis=0)
        size = jnp.sqrt(jnp.diagonal(total))
        return {
            "power": own,
            "coherence": jnp.abs(spectra) ** 2 / both,
            # The phase of S_ij is that by which j lags behind i.
            "phase_delay": jnp.angle(spectra.mT) / turns,
            "directed_influence": -jnp.log1p(-share),
            "functional_connectivity": total / jnp.outer(size, size),
        }

    return jax.lax.map(of_draw, parameters)
