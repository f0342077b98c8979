"""Fits on a cluster of two workers, one of which is killed."""

import os
import signal
import threading
import time

import pytest

import bayesdcm
from bayesdcm.group import fit_group

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def subjects():
    example = bayesdcm.load_example("attention")
    full, true = example.data, example.parameters
    design = bayesdcm.BoldData(
        full.signal[:60, :2], full.repetition_time, full.inputs[: 60 * 16], full.input_dt
    )
    model = bayesdcm.TaskDCM(example.model.A[:2, :2], C=example.model.C[:2], integrator="bilinear")
    parameters = {name: true[name][:2] for name in ("C", "transit")}
    parameters |= {"A": true["A"][:2, :2], "decay": true["decay"], "epsilon": true["epsilon"]}
    return model, {f"sub-{i:02d}": model.simulate(parameters, design, i, snr=3) for i in range(12)}


def test_a_lost_worker_changes_nothing(subjects, tmp_path):
    model, data = subjects
    expected = fit_group(model, data, progress=False)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, protocol="tcp"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = client.run(os.getpid)

        def kill() -> None:
            # Once the first fits are there.
            while not list(tmp_path.glob("*.nc")):
                time.sleep(0.05)
            os.kill(next(iter(pids.values())), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        found = fit_group(model, data, out=tmp_path, client=client, progress=False)
        killer.join()
        assert client.run(os.getpid) != pids
    assert found.subjects == expected.subjects
    assert not len(found.failures)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.log_evidence == theirs.log_evidence
        assert (mine.covariance == theirs.covariance).all(axis=None)
