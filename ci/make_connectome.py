"""Make bayesdcm/data/examples/connectome.npz, connectomes of 80 and 8 regions that nobody has.

    python ci/make_connectome.py [FILE]

Every number in the file follows from this script, so that anyone can make it again, in half a
minute. Nothing in it was measured. Centres lie evenly on half an ellipsoid of a brain's size and
are mirrored to the right; tracts are somewhat longer than the distances of centres, and those
between hemispheres pass through a corpus callosum; weights fall with length, vary as widely as
numbers of streamlines do, and are high between homologous regions. Eight lobes are the 80 regions,
put together.
"""

import sys
from pathlib import Path

import numpy as np

from bayesdcm import Connectome, NetworkModel
from bayesdcm.neural import White, WongWang
from bayesdcm.observe import HrfConvolution

FILE = Path(__file__).parents[1] / "bayesdcm" / "data" / "examples" / "connectome.npz"
SEED = 15
PER_HEMISPHERE = 40
# Semi-axes and centre of the ellipsoid, in mm (MNI).
SEMI_AXES, MIDDLE = np.array([60.0, 82.0, 56.0]), np.array([0.0, -18.0, 14.0])
# Regions do not lie nearer than this to the plane between the hemispheres, in mm.
MEDIAL = 7.0
CALLOSUM_HEIGHT = 22.0  # mm
DECAY = 24.0  # mm
SPREAD = 0.6  # sd of the log weights
HOMOLOGOUS = 0.37
DENSITY = 0.4
# BOLD of a network of reduced Wong-Wang nodes, just below the coupling at which it would jump to
# its upper state, as a share of 1 / spectral radius.
REPETITION_TIME, SCANS, STEP = 2.0, 300, 1e-3  # s, number, s
COUPLING, SPEED, NEURAL_NOISE = 0.835, 10.0, 0.03  # -, m/s, 1/sqrt(s)
SIGNAL, NOISE = 0.5, 0.15  # sd in %
LOBES = ("frontal", "temporal", "parietal", "occipital")


def left_centres(rng):
    """Centres of the left hemisphere, (regions, 3) in mm, evenly spread and then moved a little."""
    n = 4 * PER_HEMISPHERE
    height = 1 - 2 * (np.arange(n) + 0.5) / n
    angle = np.pi * (1 + np.sqrt(5)) * np.arange(n)
    radius = np.sqrt(1 - height**2)
    points = np.c_[radius * np.cos(angle), radius * np.sin(angle), height] * SEMI_AXES + MIDDLE
    points = points[(points[:, 0] < -MEDIAL) & (points[:, 2] > -32)]
    points = points[np.linspace(0, len(points) - 1, PER_HEMISPHERE).round().astype(int)]
    return points + rng.normal(scale=2.0, size=points.shape)


def lobe(centre):
    """Index of the lobe that a centre lies in."""
    _, y, z = centre
    if y > 5 and z > -12:
        return 0
    if z < 4 and y > -62:
        return 1
    return 2 if y > -62 else 3


def regions(rng):
    """Names and centres, from front to back in every lobe."""
    left = left_centres(rng)
    lobes = np.array([lobe(centre) for centre in left])
    order = np.lexsort((-left[:, 1], lobes))
    left, lobes = left[order], lobes[order]
    right = left * [-1, 1, 1] + rng.normal(scale=2.0, size=left.shape)
    counts = [int((lobes[:i] == lobes[i]).sum()) + 1 for i in range(len(lobes))]
    labels = [f"{LOBES[k]} {count}" for k, count in zip(lobes, counts, strict=True)]
    names = [f"{side} {label}" for side in "LR" for label in labels]
    return names, np.vstack([left, right]).round(1)


def tracts(centres, rng):
    """Lengths in mm and weights, symmetric, largest weight 1."""
    n = len(centres)
    crossing = np.sign(centres[:, None, 0]) != np.sign(centres[None, :, 0])
    lengths = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    # Where the tract crosses the plane between the hemispheres.
    gate = (centres[:, None] + centres[None]) / 2
    gate[..., 0], gate[..., 2] = 0.0, CALLOSUM_HEIGHT
    detour = np.linalg.norm(centres[:, None] - gate, axis=-1)
    lengths = np.where(crossing, detour + detour.T, lengths)
    lengths *= 1.15 + 0.2 * np.triu(rng.random((n, n)), 1)
    lengths = np.triu(lengths, 1) + np.triu(lengths, 1).T
    weights = np.exp(-lengths / DECAY + SPREAD * rng.normal(size=(n, n)))
    half = n // 2
    pairs = np.arange(half)
    weights[pairs, pairs + half] = HOMOLOGOUS * np.exp(0.2 * rng.normal(size=half))
    upper = np.triu_indices(n, 1)
    weakest = np.quantile(weights[upper], 1 - DENSITY)
    weights = np.triu(np.where(weights >= weakest, weights, 0.0), 1)
    weights += weights.T
    return (lengths * (weights > 0)).round(1), (weights / weights.max()).round(5)


def lobes_of(names, centres, weights, lengths):
    """The same brain with a region for each lobe of a hemisphere."""
    labels = [name.rsplit(" ", 1)[0] for name in names]
    merged = list(dict.fromkeys(labels))
    member = np.array([[label == lobe for label in labels] for lobe in merged], dtype=float)
    size = member.sum(1)
    total = member @ weights @ member.T
    length = np.divide(
        member @ (weights * lengths) @ member.T, total, out=np.zeros_like(total), where=total > 0
    )
    outside = 1 - np.eye(len(merged))
    coupling = outside * total / np.sqrt(np.outer(size, size))
    return (
        merged,
        (member @ centres / size[:, None]).round(1),
        (coupling / coupling.max()).round(5),
        (outside * length).round(1),
    )


def bold(connectome, rng):
    """BOLD in percent, (scans, regions): a haemodynamic response to activity, and white noise."""
    radius = np.abs(np.linalg.eigvals(connectome.weights)).max()
    model = NetworkModel(
        WongWang(),
        connectome,
        coupling="additive",
        coupled=("S", "S_in"),
        strength=COUPLING / radius,
        speed=SPEED,
        noise=White(NEURAL_NOISE, into="S"),
    )
    seen = model.simulate(
        SCANS * REPETITION_TIME,
        STEP,
        seed=SEED,
        transient=10.0,
        progress=False,
        observers=[HrfConvolution("mixture_of_gammas", REPETITION_TIME)],
    ).bold.to_numpy()
    signal = seen - seen.mean(0)
    signal *= SIGNAL / signal.std()
    signal += NOISE * rng.normal(size=signal.shape)
    return (signal - signal.mean(0)).round(4).astype(np.float32)


def structures():
    """Names, centres, weights and lengths, by number of regions."""
    rng = np.random.default_rng(SEED)
    names, centres = regions(rng)
    lengths, weights = tracts(centres, rng)
    fields = ("region_names", "centres", "weights", "lengths")
    both = (names, centres, weights, lengths), lobes_of(names, centres, weights, lengths)
    return {len(parts[0]): dict(zip(fields, parts, strict=True)) for parts in both}


def arrays():
    """Everything that the file holds."""
    rng = np.random.default_rng(SEED + 1)
    held = {"repetition_time": np.array(REPETITION_TIME)}
    for count, fields in structures().items():
        fields["bold"] = bold(Connectome(**fields), rng)
        held |= {f"{name}_{count}": np.array(value) for name, value in fields.items()}
    return held


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    np.savez_compressed(file, **arrays())
