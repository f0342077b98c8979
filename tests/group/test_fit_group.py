"""Many fits: the same numbers as single ones, resumed after a kill, failures recorded."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import bayesdcm
from bayesdcm.compare.gaussian_fit import gaussian_of
from bayesdcm.group import GroupDiagnosis, fit_group, load_group
from bayesdcm.group.fingerprint import fingerprint
from bayesdcm.infer import many_inversions
from bayesdcm.infer.batches import alike, shape_of, stack_prepared
from bayesdcm.observe import gaussian


def program(data):
    level = numpyro.sample("level", dist.Normal(0, 1).expand([2]).to_event(1))
    if data is None:
        raise ValueError("data must be numbers, got None")
    numpyro.sample("y", gaussian(level.sum() * jnp.ones(len(data)), 0.0), obs=data)


def narrow(data):
    level = numpyro.sample("level", dist.Normal(0, 0.1))
    numpyro.sample("y", gaussian(level * jnp.ones(len(data)), 0.0), obs=data)


def rescaled(data):
    level = numpyro.sample("level", dist.Normal(0, 0.1))
    numpyro.sample("y", gaussian(level * jnp.ones(len(data)), 0.0), obs=2 * data)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return {name: rng.normal(1.0, 1.0, 5) for name in ("ann", "ben", "cat/3")}


@pytest.fixture(scope="module")
def group(data):
    return fit_group(program, data, progress=False)


def test_fits_are_those_of_fit(data, group):
    assert list(group.subjects) == list(data)
    for name, fit in zip(data, group, strict=True):
        single = bayesdcm.fit(program, data[name], seed=fit.status["seed"])
        assert fit.log_evidence == single.log_evidence
        assert_array_equal(fit.covariance, single.covariance)
        assert_array_equal(fit.idata.posterior["level"], single.idata.posterior["level"])


def test_a_group_is_a_sequence_with_names(group):
    assert len(group) == 3
    assert group["ben"] is group[1]
    assert group[-1] is group["cat/3"]
    assert group[1:].subjects == ["ben", "cat/3"]
    assert repr(group) == "GroupFit(3 fits of 3 subjects)"
    with pytest.raises(KeyError, match="no subject 'eve'"):
        group["eve"]
    with pytest.raises(IndexError):
        group[3]


def test_subjects_have_seeds_of_their_own(group):
    assert len({fit.status["seed"] for fit in group}) == 3


def test_tables_over_all_fits(data):
    group = fit_group({"wide": program, "narrow": narrow}, data, progress=False)
    assert group.models == ["wide", "narrow"]
    assert group["narrow"].subjects == list(data)
    evidence = group.evidence()
    assert evidence.loc["ben", "narrow"] == group["narrow"]["ben"].log_evidence
    assert bayesdcm.select_models(evidence)["frequency"].sum() == pytest.approx(1)
    summary = group.summary()
    assert summary.index.names == ["model", "subject", "parameter"]
    assert summary.loc[("wide", "ann", "level[1]"), "sd"] > 0.5
    diagnosis = group.diagnose(progress=False)
    assert list(diagnosis.table.index) == [(m, s) for m in ("wide", "narrow") for s in data]
    text = "- Little explained in 3 of 3 fits (ann (narrow), ben (narrow) and cat/3 (narrow)). Of "
    assert text + "ann (narrow): The model explains little" in str(diagnosis)


def test_evidences_of_other_data_are_not_put_side_by_side(data, tmp_path):
    models = {"as it is": narrow, "doubled": rescaled}
    group = fit_group(models, data, out=tmp_path, progress=False)
    message = "subject 'ann': .*'doubled' and 'as it is' differ: y has other values in 5 of 5"
    # Files know their data, too.
    for fits in (group, load_group(tmp_path)):
        with pytest.raises(ValueError, match=message):
            fits.evidence()
    assert group["doubled"].evidence().notna().all(axis=None)


# On disk


def test_fits_are_read_when_asked_for(data, group, tmp_path):
    written = fit_group(program, data, out=tmp_path, progress=False)
    assert sorted(p.name for p in tmp_path.glob("*.nc")) == ["ann.nc", "ben.nc", "cat%2F3.nc"]
    bare = load_group(tmp_path)
    for fit, fresh, memory in zip(bare, written, group, strict=True):
        assert fit.log_evidence == memory.log_evidence
        for name in ("mean", "sd"):
            assert_array_equal(getattr(fit, name)["level"], getattr(memory, name)["level"])
        assert_allclose(fit.summary()[["mean", "sd"]], memory.summary()[["mean", "sd"]])
        assert fit.trace.keys() == memory.trace.keys()
        assert_array_equal(fresh.idata.posterior["level"], memory.idata.posterior["level"])
        for mine, theirs in zip(gaussian_of(fit)[1:], gaussian_of(memory)[1:], strict=True):
            assert_array_equal(mine, theirs)
    with pytest.raises(ValueError, match=r"load_group\(folder, models, datasets\)"):
        bare[0].idata  # noqa: B018
    bound = load_group(tmp_path, program, data)
    assert bound["ann"].diagnose().problems == group["ann"].diagnose().problems
    # Nobody holds it any more.
    assert len(bound._loaded) == 0


def test_groups_are_saved(group, data, tmp_path):
    group.save(tmp_path / "copy")
    again = load_group(tmp_path / "copy", program, data)
    assert [fit.log_evidence for fit in again] == [fit.log_evidence for fit in group]


def test_only_what_is_missing_is_done_again(data, tmp_path, monkeypatch):
    first = fit_group(program, data, out=tmp_path, progress=False)
    before = {p.name: p.read_bytes() for p in tmp_path.glob("*.nc")}
    (tmp_path / "ben.nc").unlink()
    done = []
    run = many_inversions.run_laplace

    def counted(source, *arguments):
        done.append(source)
        return run(source, *arguments)

    monkeypatch.setattr(many_inversions, "run_laplace", counted)
    again = fit_group(program, data, out=tmp_path, progress=False)
    assert len(done) == 1
    assert [fit.log_evidence for fit in again] == [fit.log_evidence for fit in first]
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.nc")} == before


def test_fits_of_something_else_are_not_taken(data, tmp_path):
    fit_group(program, data, out=tmp_path, progress=False)
    for changed in (
        lambda: fit_group(program, data | {"ben": data["ben"] + 1}, out=tmp_path, progress=False),
        lambda: fit_group(program, data, out=tmp_path, progress=False, max_iterations=9),
        lambda: fit_group(narrow, data, out=tmp_path, progress=False),
    ):
        with pytest.raises(ValueError, match="made from other data, another model, method"):
            changed()


def test_one_run_at_a_time(data, tmp_path):
    from bayesdcm.group.store import Store

    with Store(tmp_path, ["model"]).opened({}):
        with pytest.raises(ValueError, match="another run is writing"):
            fit_group(program, data, out=tmp_path, progress=False)


def test_a_damaged_file_is_named(data, tmp_path):
    fit_group(program, data, out=tmp_path, progress=False)
    (tmp_path / "ben.nc").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"ben\.nc' is not a netCDF file .* by fit_group"):
        fit_group(program, data, out=tmp_path, progress=False)


def test_a_diagnosis_of_many_says_each_kind_of_problem_once(data):
    loud = {f"sub-{i:02d}": 30.0 + np.arange(5.0) / 9 + i / 99 for i in range(12)}
    group = fit_group(narrow, loud | data, progress=False)
    found = group.diagnose(progress=False)
    lines = str(found).splitlines()
    # A level explains no variance; means of 30 are at odds with a prior sd of 0.1.
    assert lines[0] == "0 of 15 fits have no problem."
    assert lines[1].startswith("- Little explained in 15 of 15 fits (sub-00, sub-01, sub-02 and 12")
    assert lines[2].startswith(
        "- Conflict with the prior in 12 of 15 fits (sub-00, sub-01, sub-02 and 9 more). Of "
        "sub-00: The posterior is at odds with the prior: level moved by "
    )
    assert len(lines) == 1 + len({p.kind for one in found.problems.values() for p in one})
    assert found.sentences() == [line.removeprefix("- ") for line in lines[1:]]


def test_failures_for_one_reason_are_said_once():
    table = pd.DataFrame({"converged": [True]}, index=["ann"])
    reasons = {("m", f"sub-{i}"): "ValueError: no data" for i in range(9)}
    reasons["m", "ben"] = "TypeError: other"
    found = GroupDiagnosis({("m", "ann"): []}, reasons, table)
    assert str(found).splitlines() == [
        "1 of 1 fits have no problem.",
        "- sub-0, sub-1, sub-2 and 6 more could not be fitted: ValueError: no data",
        "- ben could not be fitted: TypeError: other",
    ]


def test_failures_stop_nobody_else(data, tmp_path, caplog):
    broken = data | {"dan": None, "eve": np.full(5, np.nan)}
    group = fit_group(program, broken, out=tmp_path, progress=False)
    assert group.subjects == list(data)
    assert group.failures["subject"].tolist() == ["dan", "eve"]
    assert "data must be numbers, got None" in group.failures["reason"][0]
    assert "hold NaN or infinity" in group.failures["reason"][1]
    assert "dan could not be fitted" in caplog.text
    assert load_group(tmp_path).failures.equals(group.failures)
    with pytest.raises(KeyError, match="the fit of 'dan' failed: ValueError: data must be numbers"):
        group["dan"]
    assert "eve could not be fitted" in str(group.diagnose(progress=False))
    # Mended data are fitted, and the failure is forgotten.
    mended = fit_group(program, data | {"dan": data["ann"]}, out=tmp_path, progress=False)
    assert mended["dan"].log_evidence == group["ann"].log_evidence
    assert not (tmp_path / "dan.failed.json").exists()


def test_nothing_to_return_is_an_error():
    with pytest.raises(ValueError, match="none of 1 fits succeeded: ValueError: data must be"):
        fit_group(program, [None], progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"datasets": 3}, "datasets must be a sequence"),
        ({"datasets": []}, "datasets is empty"),
        ({"datasets": {1: np.ones(2)}}, "datasets must have names that are text, got 1"),
        ({"models": [program, narrow]}, "name them"),
        ({"models": {}}, "models is empty"),
        ({"method": "em"}, "method must be one of"),
        ({"client": 4}, "client must be a dask.distributed.Client"),
        ({"side_by_side": "both"}, "side_by_side must be one of"),
        ({"chains": 4}, "'chains' is not an option of method 'laplace'"),
    ],
)
def test_refused(arguments, message):
    given = {"models": program, "datasets": [np.ones(2)]} | arguments
    with pytest.raises((TypeError, ValueError), match=message):
        fit_group(given.pop("models"), given.pop("datasets"), progress=False, **given)


SCRIPT = textwrap.dedent(
    """
    import sys, time
    import numpy as np, numpyro, numpyro.distributions as dist
    from bayesdcm.observe import gaussian
    from bayesdcm.group import fit_group
    from bayesdcm.group.store import Store

    def program(data):
        level = numpyro.sample("level", dist.Normal(0, 1))
        numpyro.sample("y", gaussian(level + 0 * data, 0.0), obs=data)

    write = Store.write

    def slow(self, *arguments):
        time.sleep(0.2)
        write(self, *arguments)
        print("written", flush=True)

    Store.write = slow
    data = np.random.default_rng(0).normal(size=(6, 4))
    group = fit_group(program, list(data), out=sys.argv[1], progress=False)
    print([fit.log_evidence for fit in group])
    """
)


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path):
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "written\n"
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.glob("*.nc")}
    assert 1 <= len(left) < 6
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert text.count("written") == 6 - len(left)
    now = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.glob("*.nc")}
    assert left.items() <= now.items()
    assert not list(out.glob(".*.part"))


# Data of one shape


@pytest.mark.slow
def test_lanes_of_a_program_give_the_numbers_of_single_fits(monkeypatch):
    monkeypatch.setattr("bayesdcm.infer.many_inversions.LANES", 2)
    model = bayesdcm.TaskDCM(A=np.ones((2, 2)), C=[[1], [0]])
    seconds = np.arange(0, 60, 0.5)
    datasets = {}
    for i in range(3):  # more than there are lanes
        design = bayesdcm.BoldData(
            np.random.default_rng(i).normal(size=(30, 2)),
            repetition_time=2.0,
            inputs=((seconds - i) % 20 < 8)[:, None].astype(float),
            input_dt=0.5,
        )
        values = {"A": [[0, 0], [0.4, 0]], "C": [[0.6], [0]]}
        values |= {"transit": [0, 0], "decay": 0, "epsilon": 0}
        datasets[f"subject {i}"] = model.simulate(values, design, seed=i, snr=2.0)
    together = fit_group(model, datasets, side_by_side="vectorized", progress=False)
    apart = fit_group(model, datasets, side_by_side="threads", progress=False)
    assert list(together.subjects) == list(datasets)
    for one, other in zip(together, apart, strict=True):
        assert one.status["n_iterations"] == other.status["n_iterations"]
        assert_allclose(one.log_evidence, other.log_evidence, atol=1e-8)
        assert_allclose(one.mean["A"], other.mean["A"], atol=1e-6)
        assert_allclose(one.covariance, other.covariance, atol=1e-8)


@pytest.mark.exhaustive
def test_grids_of_different_subjects_are_brought_to_one_shape():
    example = bayesdcm.load_example("attention")
    model, full = example.model, example.data
    rng = np.random.default_rng(0)
    sets = []
    for n_blocks in (2, 40):
        inputs = np.zeros((40 * 16, 3))
        for onset in rng.choice(600, n_blocks, replace=False):
            inputs[onset : onset + 3, rng.integers(3)] = 1
        sets.append(
            bayesdcm.BoldData(full.signal[:40], full.repetition_time, inputs, full.input_dt)
        )
    prepared = [model.prepare(data) for data in sets]
    assert prepared[0].grid.step.shape != prepared[1].grid.step.shape
    assert shape_of(prepared[0]) == shape_of(prepared[1])
    stacked = stack_prepared(prepared)
    assert stacked.signal.shape == (2, 40, 3)
    parameters = {k: jnp.asarray(v) for k, v in example.parameters.items()}
    for data, padded in zip(prepared, alike(prepared), strict=True):
        expected = model.response(parameters, data.grid)
        assert_allclose(model.response(parameters, padded.grid), expected, rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match=r"datasets\[1\] does not have the shape of datasets\[0\]"):
        stack_prepared([prepared[0], model.prepare(full)])


def test_fingerprints_tell_apart():
    from functools import partial

    a, b = (bayesdcm.TaskDCM(A=[[1, 1], [x, 1]], C=[[1], [0]]) for x in (0, 1))
    given = [a, b, program, narrow, partial(program, 1), partial(program, 2), {"x": 1}, {"y": 1}]
    given += [np.ones(2), np.ones((1, 2)), [1, 2], "1", 1, None]
    assert len({fingerprint(value) for value in given}) == len(given)
    assert fingerprint(a) == fingerprint(bayesdcm.TaskDCM(A=[[1, 1], [0, 1]], C=[[1], [0]]))


def test_models_with_different_methods_of_their_own_are_refused(data):
    def sampled(data):
        return program(data)

    sampled.method = "nuts"
    models = {"plain": program, "sampled": sampled}
    with pytest.raises(ValueError, match=r"methods of their own \(laplace, nuts\); give method="):
        fit_group(models, data)
