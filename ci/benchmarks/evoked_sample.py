"""Two auditory sources on a measured response: explained variance, and Laplace against NUTS.

    python ci/benchmarks/evoked_sample.py sample-ave.fif sample-cov.fif
    python ci/benchmarks/evoked_sample.py sample-ave.fif sample-cov.fif --channels grad

The files are an average with the condition "Left Auditory" and a noise covariance, as
MNE-Python's sample data have them. Sources are equivalent dipoles in the left and right primary
auditory cortex, in a sphere model. (The files that MNE-Python tests itself with have averages of
three trials: most of their variance is noise that no sources explain.) All variance is that of
whitened channels after a constant has been removed from each, between 0 and 0.25 s.

Dipoles whose moments are free at every sample are what no dynamic model with the same positions
can surpass: with a free direction at every sample they turn, with one direction for all samples
they are like those of the dynamic model.
"""

from __future__ import annotations

import argparse
from typing import Any

import mne
import numpy as np
from measure import machine, table, timed
from numpy.typing import NDArray
from scipy.linalg import orth
from scipy.optimize import least_squares

import bayesdcm
from bayesdcm.observe.lead_field import dipole_lead_field

NAMES = ("A1 left", "A1 right")
POSITIONS = np.array([(-42.0, -22.0, 7.0), (46.0, -14.0, 8.0)])
# How far the search for better positions may go, mm.
REACH = 40.0


def read(options: argparse.Namespace) -> bayesdcm.EvokedData:
    evoked = mne.read_evokeds(options.evoked, condition=options.condition, verbose=False)
    # Filtered before every third sample is taken: 600 Hz to 200 Hz.
    evoked.filter(None, 40.0, verbose=False).apply_baseline((None, 0), verbose=False)
    return bayesdcm.EvokedData.from_mne(
        evoked,
        noise_cov=mne.read_cov(options.covariance, verbose=False),
        sphere="auto",
        picks=options.channels,
        tmin=0.0,
        tmax=0.25,
        decimate=round(evoked.info["sfreq"] / 200),
    )


def whitener(data: bayesdcm.EvokedData) -> NDArray:
    deviation = np.sqrt(np.diagonal(data.noise_cov))
    values, vectors = np.linalg.eigh(data.noise_cov / np.outer(deviation, deviation))
    kept = values > 1e-10 * values[-1]
    return (vectors[:, kept] / np.sqrt(values[kept])).T / deviation


def without_constant(signal: NDArray) -> NDArray:
    return signal - signal.mean(0)


class Dipoles:
    """Least-squares fits of two dipoles to whitened channels."""

    def __init__(self, data: bayesdcm.EvokedData) -> None:
        self.white = whitener(data)
        self.signal = without_constant(data.signal[0]) @ self.white.T
        self.field = dipole_lead_field(data.head, POSITIONS)

    def explained(self, residual: NDArray) -> float:
        return 1 - (residual**2).sum() / (self.signal**2).sum()

    def lead(self, positions: NDArray) -> NDArray:
        lead = self.white @ np.asarray(self.field(positions))
        return lead / np.linalg.norm(lead)

    def residual(self, lead: NDArray) -> NDArray:
        """What dipoles with these fields, (channels, fields), leave when each has its course."""
        # MEG does not see radial dipoles in a sphere: not all columns count.
        base = orth(lead, rcond=1e-6)
        return self.signal - self.signal @ base @ base.T

    def turning(self, positions: NDArray) -> NDArray:
        return self.residual(np.concatenate(self.lead(positions), axis=1))

    def of_one_direction(self, lead: NDArray, start: NDArray) -> NDArray:
        def residual(flat: NDArray) -> NDArray:
            return self.residual(np.einsum("sca,sa->cs", lead, flat.reshape(2, 3))).ravel()

        return residual(least_squares(residual, start.ravel()).x)

    def directions(self) -> float:
        """Explained variance of the best directions, from several starts."""
        lead, rng = self.lead(POSITIONS), np.random.default_rng(0)
        starts = rng.normal(size=(5, 2, 3))
        return max(self.explained(self.of_one_direction(lead, start)) for start in starts)

    def best_positions(self) -> tuple[NDArray, float]:
        found = least_squares(
            lambda flat: self.turning(flat.reshape(2, 3)).ravel(),
            POSITIONS.ravel(),
            bounds=(POSITIONS.ravel() - REACH, POSITIONS.ravel() + REACH),
            x_scale=10.0,
            diff_step=1e-4,
        )
        return found.x.reshape(2, 3), self.explained(found.fun)


def dcm_rows(
    data: bayesdcm.EvokedData, dipoles: Dipoles, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], Any]:
    connections = 1 - np.eye(2)
    model = bayesdcm.EvokedDCM(
        lateral=connections, inputs=[1, 1], positions=POSITIONS, source_names=NAMES
    )
    runs = {
        "laplace": {"starts": options.starts},
        "nuts": {"draws": options.draws, "starts": options.starts},
    }
    fits, rows = {}, []
    for method, settings in runs.items():
        fits[method], cost = timed(
            lambda method=method, settings=settings: bayesdcm.fit(
                model, data, method, seed=1, progress=False, **settings
            )
        )
        predicted = np.asarray(model.predict(fits[method].mean, data))[0]
        residual = dipoles.signal - without_constant(predicted) @ dipoles.white.T
        rows.append(row(f"DCM, {method}", dipoles.explained(residual), cost.cpu))
    nuts = fits["nuts"].summary()
    print(f"NUTS: smallest bulk ESS {nuts['ess_bulk'].min():.0f}, ", end="")
    print(f"largest R-hat {nuts['r_hat'].max():.3f}")
    for method, fit in fits.items():
        print(f"{method}: {fit.diagnose()}")
    return rows, bayesdcm.compare_posteriors(fits)


def row(name: str, explained: float, cpu: float | None = None) -> dict[str, Any]:
    return {
        "fit": name,
        "variance explained (%)": f"{100 * explained:.1f}",
        "CPU s": "" if cpu is None else cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evoked", help="file of averages")
    parser.add_argument("covariance", help="file of the noise covariance")
    parser.add_argument("--condition", default="Left Auditory")
    parser.add_argument("--channels", default="eeg", choices=["eeg", "mag", "grad", "meg"])
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--draws", type=int, default=750, help="of each of 4 chains")
    options = parser.parse_args()
    data = read(options)
    print(data, end="\n\n")
    dipoles = Dipoles(data)
    positions, best = dipoles.best_positions()
    rows = [
        row("two dipoles that turn", dipoles.explained(dipoles.turning(POSITIONS))),
        row("two dipoles of one direction", dipoles.directions()),
        row("two dipoles that turn, best positions", best),
    ]
    fitted, comparison = dcm_rows(data, dipoles, options)
    print("\n" + table(rows + fitted))
    print("\nBest positions (MNI, mm): " + ", ".join(str(p.round(1).tolist()) for p in positions))
    print("\nLaplace against NUTS, the furthest apart first:\n")
    print(comparison.head(8).round(2).to_string(index=False))
    print(
        f"\nmedian |shift| {comparison['shift'].abs().median():.2f}, "
        f"median sd ratio {comparison['sd_ratio'].median():.2f}"
    )
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
