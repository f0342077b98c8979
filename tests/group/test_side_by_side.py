"""What lanes do with fits that end, wait or fail; the program in them is made up."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from bayesdcm.group import side_by_side
from bayesdcm.group.side_by_side import LANES, Job, run_side_by_side


class Attempt(NamedTuple):
    state: jax.Array


class Program:
    """Counts down from the start of each fit; 99 fails in the first iteration that sees it."""

    def lower(self, *arguments):
        return self

    def compile(self, options):
        return self

    def __call__(self, lanes):
        if (lanes.attempt.state == 99).any():
            raise FloatingPointError("made to fail")
        state = lanes.attempt.state - 1
        return lanes._replace(attempt=Attempt(state)), state <= 0


def begin(source, sites, iterations, prepared, start):
    if start[0] == 13:
        raise ValueError("unlucky")
    return Attempt(start[0])


@pytest.fixture(autouse=True)
def counting(monkeypatch):
    monkeypatch.setattr(side_by_side, "_advance", Program())
    monkeypatch.setattr(side_by_side, "_begin", begin)
    monkeypatch.setattr(side_by_side, "result_of", lambda sites, state: float(state))


def run(starts):
    jobs = [Job((i,), [jnp.zeros(2)], jnp.array([float(s)])) for i, s in enumerate(starts)]
    found = list(run_side_by_side(None, None, (128, "exact"), jobs, (True,)))
    assert sorted(key for key, _ in found) == [job.key for job in jobs]
    return dict(found)


def test_finished_fits_make_room_for_those_that_wait():
    starts = [1 + i % 7 for i in range(5 * LANES)]
    assert set(run(starts).values()) == {0.0}


def test_a_fit_that_cannot_begin_stops_nobody_else():
    found = run([2] * 4 + [13] + [3] * (3 * LANES))
    assert isinstance(found.pop((4,)), ValueError)
    assert set(found.values()) == {0.0}


def test_fits_beside_one_that_breaks_the_program_are_told():
    found = run([2] * 4 + [99] + [3] * (3 * LANES))
    assert isinstance(found[(4,)], FloatingPointError)


def test_a_program_that_cannot_be_made_fails_all(monkeypatch):
    def refuse(*arguments):
        raise ValueError("no")

    monkeypatch.setattr(side_by_side, "_begin", refuse)
    assert all(isinstance(each, ValueError) for each in run([1, 2, 3]).values())
