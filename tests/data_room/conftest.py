"""Synthetic SPM files: a DCM structure, and writers of MATLAB's two file formats."""

import itertools

import numpy as np
import pytest
import scipy.io
import scipy.sparse

_KEYS = itertools.count()


def make_dcm(n=3, m=2, n_scans=20, bins=4, *, gates=0, estimated=True, sparse=True, seed=0):
    """A DCM as SPM stores it: arrays in (to, from, slice) order, cells as lists."""
    rng = np.random.default_rng(seed)
    regions, inputs = [f"R{i + 1}" for i in range(n)], [f"input{j + 1}" for j in range(m)]
    u = (rng.random((n_scans * bins, m)) < 0.3).astype(float)
    a = np.ones((n, n))
    b = np.zeros((n, n, m))
    b[-1, 0, -1] = 1
    c = np.zeros((n, m))
    c[0, 0] = 1
    d = np.zeros((n, n, gates))
    if gates:
        d[0, -1, gates - 1] = 1
    dcm = {
        "n": float(n),
        "v": float(n_scans),
        "a": a,
        "b": b,
        "c": c,
        "d": d,
        "delays": np.linspace(0.25, 1.75, n)[:, None],
        "Y": {
            "y": rng.normal(size=(n_scans, n)),
            "dt": 2.0,
            "name": regions,
            "X0": np.column_stack([np.ones(n_scans), np.linspace(-1, 1, n_scans)]),
        },
        "U": {"u": scipy.sparse.csc_array(u) if sparse else u, "dt": 2.0 / bins, "name": inputs},
        "options": {"two_state": 0.0, "centre": 0.0, "nonlinear": float(gates > 0)},
    }
    if estimated:
        add_estimates(dcm, rng)
    return dcm


def add_estimates(dcm, rng):
    """Ep, Cp, F and M.pC, in the order of SPM's parameter vector."""
    fields = [dcm["a"], dcm["b"], dcm["c"], dcm["d"]]
    n = len(dcm["a"])
    free = np.concatenate([field.ravel(order="F") for field in fields] + [np.ones(n + 2)])
    prior = np.where(np.arange(free.size) < free.size - n - 2, 1.0, 1 / 256) * free
    root = np.diag(np.sqrt(prior)) @ rng.normal(size=(free.size, free.size)) / free.size
    dcm["Ep"] = {
        name: rng.normal(size=field.shape) * field
        for name, field in zip("ABCD", fields, strict=True)
    }
    dcm["Ep"] |= {
        "transit": scipy.sparse.csc_array(rng.normal(size=(n, 1)) / 16),
        "decay": scipy.sparse.csc_array([[0.05]]),
        "epsilon": -0.02,
    }
    dcm["Cp"] = scipy.sparse.csc_array(root @ root.T)
    dcm["M"] = {"pC": np.diag(prior)}
    dcm["F"] = -123.5


def write_v5(path, dcm, name="DCM"):
    """Write a compressed MATLAB file of version 5, with cells as cells."""
    scipy.io.savemat(path, {name: _with_cells(dcm)}, do_compression=True)


def _with_cells(value):
    if isinstance(value, np.ndarray) and value.dtype == object:
        cells = np.empty(value.shape, dtype=object)
        for index in np.ndindex(value.shape):
            cells[index] = _with_cells(value[index])
        return cells
    if isinstance(value, dict):
        return {key: _with_cells(entry) for key, entry in value.items()}
    if isinstance(value, list):
        cell = np.empty((1, len(value)), dtype=object)
        for i, entry in enumerate(value):
            cell[0, i] = _with_cells(entry)
        return cell
    # scipy writes matrices of its own sparse kind only.
    return scipy.sparse.csc_matrix(value) if scipy.sparse.issparse(value) else value


def write_v73(path, dcm, name="DCM"):
    """Write a MATLAB file of version 7.3: HDF5 behind a header, arrays transposed."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        references = file.create_group("#refs#")
        _write_hdf5(h5py, file, references, name, dcm)
    with open(path, "r+b") as stream:
        text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(116)
        stream.write(text + bytes(8) + b"\x00\x02IM")


def _write_hdf5(h5py, group, references, name, value):
    def label(entry, matlab_class):
        entry.attrs["MATLAB_class"] = np.bytes_(matlab_class)
        return entry

    if isinstance(value, dict):
        child = label(group.create_group(name), "struct")
        for key, entry in value.items():
            _write_hdf5(h5py, child, references, key, entry)
    elif isinstance(value, str):
        codes = np.array([[ord(letter)] for letter in value], dtype=np.uint16)
        label(group.create_dataset(name, data=codes), "char").attrs["MATLAB_int_decode"] = 2
    elif isinstance(value, np.ndarray) and value.dtype == object:
        pointers = np.empty(value.shape[::-1], dtype=h5py.ref_dtype)
        for index in np.ndindex(value.shape):
            key = f"cell{next(_KEYS)}"
            _write_hdf5(h5py, references, references, key, value[index])
            pointers[index[::-1]] = references[key].ref
        label(group.create_dataset(name, data=pointers), "cell")
    elif isinstance(value, list):
        pointers = []
        for entry in value:
            key = f"cell{next(_KEYS)}"
            _write_hdf5(h5py, references, references, key, entry)
            pointers.append([references[key].ref])
        data = np.array(pointers, dtype=h5py.ref_dtype)
        label(group.create_dataset(name, data=data), "cell")
    elif scipy.sparse.issparse(value):
        matrix = scipy.sparse.csc_array(value)
        child = label(group.create_group(name), "double")
        child.attrs["MATLAB_sparse"] = np.uint64(matrix.shape[0])
        if matrix.nnz:  # MATLAB leaves both out of a matrix of zeros
            child.create_dataset("data", data=matrix.data)
            child.create_dataset("ir", data=matrix.indices.astype(np.uint64))
        child.create_dataset("jc", data=matrix.indptr.astype(np.uint64))
    else:
        array = np.atleast_2d(np.asarray(value))
        if array.dtype.kind == "c":
            # MATLAB writes complex numbers as records.
            record = np.empty(array.shape, [("real", float), ("imag", float)])
            record["real"], record["imag"] = array.real, array.imag
            array = record
        else:
            array = array.astype(float)
        if array.size:
            label(group.create_dataset(name, data=array.T), "double")
        else:
            shape = np.array(array.shape, dtype=np.uint64)
            empty = label(group.create_dataset(name, data=shape), "double")
            empty.attrs["MATLAB_empty"] = np.uint8(1)


@pytest.fixture
def dcm_structure():
    """The maker of DCM structures."""
    return make_dcm


@pytest.fixture
def estimate_dcm():
    """A function that fills a DCM structure with made-up estimates of its free parameters."""
    return lambda dcm: add_estimates(dcm, np.random.default_rng(5))


@pytest.fixture(params=["v5", "v7.3"])
def save_dcm(request, tmp_path):
    """A writer of one of MATLAB's formats, which returns the file's path."""
    write = write_v5 if request.param == "v5" else write_v73

    def save(dcm, name="DCM"):
        path = tmp_path / "DCM_test.mat"
        write(path, dcm, name)
        return path

    return save
