"""Simulates one trial of each network that it is told of; `HnnSimulator` runs it as a script.

It imports nothing of the package, so that it starts fast. Lines of JSON come by standard input: the
file of a network, the file for the result, the duration and the step in ms. A line of JSON answers
each by standard output, where hnn-core and NEURON print nothing: what they say goes to standard
error.
"""

import json
import os
import sys
import traceback
from typing import Any


def simulate(network: str, result: str, duration: float, step: float) -> None:
    """Simulate the trial, and write what came of it."""
    import hnn_core
    import numpy as np

    net = hnn_core.read_network_configuration(network)
    dipole = hnn_core.simulate_dipole(net, tstop=duration, dt=step, n_trials=1, verbose=False)[0]
    cells = list(net.cell_types)
    response = net.cell_response
    # Those of drives are told by their events.
    numbers = {cell: number for number, cell in enumerate(cells)}
    types = np.array([numbers.get(each, -1) for each in response.spike_types[0]], int)
    events = {name: drive["events"][0] for name, drive in net.external_drives.items()}
    # A result is whole or not there.
    partial = f"{result}.part"
    with open(partial, "wb") as file:
        np.savez(
            file,
            dipole=np.array([dipole.data[layer] for layer in ("agg", "L2", "L5")]),
            spike_times=np.array(response.spike_times[0], float),
            spike_cells=types,
            about=json.dumps({"cells": cells, "events": events}),
        )
    os.replace(partial, result)


def answer_lines() -> None:
    """Simulate what comes line by line, until there is no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        task: dict[str, Any] = json.loads(line)
        try:
            simulate(**task)
            fault = ""
        except Exception:
            fault = traceback.format_exc()
        answers.write(json.dumps({"fault": fault}) + "\n")
        answers.flush()


if __name__ == "__main__":
    answer_lines()
