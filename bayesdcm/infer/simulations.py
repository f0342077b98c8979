"""Draws from the prior and what is simulated with them, kept on disk where that is asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha1
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.evaluation import observed_values, predictive, prior_sample, site_values
from bayesdcm.infer.plain_objects import NotPlain, PlainWriter
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.progress import Progress
from bayesdcm.observe.spectra import WishartNoise

# Simulations of a file, and of a step of the progress.
PART = 250
RECORD = "simulations.json"


def own_simulator(problem: Problem) -> Callable[..., dict[str, NDArray]] | None:
    """How a model simulates what it observes, where that is not its program's business."""
    return getattr(getattr(problem.source, "model", None), "simulate_terms", None)


def simulations(
    problem: Problem,
    count: int,
    seed: int,
    progress: bool,
    out: str | Path | None = None,
    title: str = "simulations",
) -> tuple[NDArray, dict[str, NDArray]]:
    """Flat draws from the prior, (simulations, size), and what is observed with them, by site.

    `out`: a folder for them, in which those of an earlier run are found again. A ValueError if
    it holds those of another model, or of another seed.
    """
    flat = prior_sample(problem, count, seed)
    seeds = np.random.SeedSequence([seed, 1]).generate_state(count)
    folder = None if out is None else _folder(Path(out), problem, seed)
    parts = []
    with Progress(title, count, "simulation", progress) as shown:
        for first in range(0, count, PART):
            at = slice(first, min(first + PART, count))
            path = None if folder is None else folder / f"{at.start:06d}-{at.stop:06d}.npz"
            if path is not None and path.is_file():
                with np.load(path, allow_pickle=False) as kept:
                    part = dict(kept)
            else:
                part = _simulated(problem, flat[at], seeds[at])
                if path is not None:
                    _keep(path, part)
            parts.append(part)
            shown.advance(at.stop - at.start)
    return flat, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _simulated(problem: Problem, flat: NDArray, seeds: NDArray) -> dict[str, NDArray]:
    simulate = own_simulator(problem)
    if simulate is not None:
        values = site_values(problem, flat)
        free = {site.name.removesuffix("_free") for site in problem.sites.sites}
        parameters = {name: value for name, value in values.items() if name in free}
        return simulate(parameters, [int(each) for each in seeds], False)
    # What is learnt from must hold as much as data do; draws of spectra are independent, and
    # estimates that share samples are not.
    prepared = jax.tree.map(_fewer_samples, problem.prepared, is_leaf=_is_wishart)
    counted_once = replace(problem, prepared=prepared)
    replicated = predictive(counted_once, flat, int(seeds[0]))["predictive"]
    return {name: replicated[name] for name in observed_values(problem)}


def _is_wishart(node: Any) -> bool:
    return isinstance(node, WishartNoise)


def _fewer_samples(node: Any) -> Any:
    return node._replace(samples=node.degrees_of_freedom) if _is_wishart(node) else node


def _folder(folder: Path, problem: Problem, seed: int) -> Path:
    """The folder, made or found, of simulations of this model."""
    record = {"model": problem.description, "key": _key(problem), "seed": seed}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RECORD
    if path.is_file():
        found = json.loads(path.read_text())
        if found != record:
            raise ValueError(
                f"out: {str(folder)!r} holds simulations of {found['model']} with seed "
                f"{found['seed']}, and these are of {record['model']} with seed {seed}, or of "
                "other settings; give another folder"
            )
    path.write_text(json.dumps(record))
    return folder


def _key(problem: Problem) -> str:
    """What tells models apart; of programs, no more than their parameters."""
    writer = PlainWriter()
    try:
        plain: Any = writer.plain(problem.model)
    except NotPlain:
        plain = problem.description
    digest = sha1(json.dumps([plain, problem.flat_labels], sort_keys=True).encode())
    for name, array in sorted(writer.arrays.items()):
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _keep(path: Path, part: dict[str, NDArray]) -> None:
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(file, **part)
    os.replace(unfinished, path)
