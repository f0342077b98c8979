"""Dipoles in hnn-core's files: values, units, averages, and what is no such file."""

import numpy as np
import pytest

from bayesdcm.data import read_dipole

TIMES = np.arange(0, 170, 0.5)
L2, L5 = -3 * np.sin(0.05 * TIMES), 10 * np.cos(0.03 * TIMES)


def write_text(path, *columns, heading="", delimiter="\t"):
    formats = ["%3.3f"] + ["%5.4f"] * (len(columns) - 1)
    np.savetxt(path, np.transpose(columns), formats, delimiter, header=heading, comments="")


def write_hdf5(path, *, kind="Dipole", scale=1, n=7, moments=None):
    """As h5io stores what hnn-core hands it."""
    h5py = pytest.importorskip("h5py")
    moments = {"agg": L2 + L5, "L2": L2, "L5": L5} if moments is None else moments
    entries = {
        "object_type": ("unicode", np.frombuffer(kind.encode(), np.uint8)),
        "times": ("ndarray", TIMES),
        "sfreq": ("float", np.array([2000.0])),
        "nave": ("int", np.array([n])),
        "scale_applied": ("int", np.array([scale])),
    }
    with h5py.File(path, "w") as file:
        root = file.create_group("h5io")
        root.attrs["TITLE"] = "dict"
        for name, (title, values) in entries.items():
            root.create_dataset(f"key_{name}", data=values).attrs["TITLE"] = title
        data = root.create_group("key_data")
        data.attrs["TITLE"] = "dict"
        for name, values in moments.items():
            data.create_dataset(f"key_{name}", data=values).attrs["TITLE"] = "ndarray"
    return path


@pytest.mark.parametrize("heading", ["", "# hnn", "time agg L2 L5"])
@pytest.mark.parametrize("delimiter", ["\t", ", ", ";"])
def test_text_files_are_read(tmp_path, heading, delimiter):
    path = tmp_path / "S1.txt"
    write_text(path, TIMES, L2 + L5, L2, L5, heading=heading, delimiter=delimiter)
    data = read_dipole(path, noise_sd=0.5, smoothing=20.0, n_averages=30)
    np.testing.assert_allclose(data.nanoampere_metres, L2 + L5, atol=5.1e-5)
    np.testing.assert_allclose(data.layers["L5"] * 1e9, L5, atol=5.1e-5)
    np.testing.assert_allclose(data.times, TIMES / 1000, atol=1e-12)
    assert (data.name, data.n_averages, data.smoothing) == ("S1", 30, 0.02)
    assert data.noise_sd == pytest.approx(5e-10)


def test_measured_dipoles_have_two_columns_and_rounded_times(tmp_path):
    path = tmp_path / "measured.txt"
    times = np.arange(100) / 600.615 * 1e3
    write_text(path, times, 20 * np.sin(times / 30))
    data = read_dipole(path)
    assert data.layers is None and data.sampling_rate == pytest.approx(600.615, rel=1e-4)
    assert np.ptp(np.diff(data.times)) < 1e-15
    in_seconds = tmp_path / "seconds.txt"
    np.savetxt(in_seconds, np.c_[times / 1e3, 20e-9 * np.sin(times / 30)])
    same = read_dipole(in_seconds, unit="Am", time_unit="s")
    np.testing.assert_allclose(same.dipole, data.dipole, atol=5.1e-14)
    with pytest.raises(ValueError, match="If they were seconds already"):
        read_dipole(in_seconds, unit="Am")


def test_small_dipoles_in_text_files_are_coarse(tmp_path):
    path = tmp_path / "small.txt"
    write_text(path, TIMES, (L2 + L5) / 1500)
    with pytest.warns(
        UserWarning, match=r"keeps 4 decimals.*0.0067 nAm.*the last decimal is 1.5 %"
    ):
        read_dipole(path)


def test_hdf5_files_are_read(tmp_path):
    data = read_dipole(write_hdf5(tmp_path / "one.hdf5"))
    np.testing.assert_allclose(data.nanoampere_metres, L2 + L5, rtol=1e-13)
    np.testing.assert_allclose(data.layers["L2"] * 1e9, L2, rtol=1e-13)
    assert (data.n_averages, data.name) == (7, "one")
    measured = write_hdf5(tmp_path / "agg.h5", moments={"agg": L5})
    assert read_dipole(measured, n_averages=3).layers is None


def test_scaling_is_never_removed_or_kept_in_silence(tmp_path):
    path = write_hdf5(tmp_path / "scaled.hdf5", scale=3000)
    with pytest.warns(UserWarning, match="multiplied by 3000 .*scaled=False to divide"):
        kept = read_dipole(path)
    np.testing.assert_array_equal(read_dipole(path, scaled=True).dipole, kept.dipole)
    divided = read_dipole(path, scaled=False)
    np.testing.assert_allclose(divided.dipole * 3000, kept.dipole)
    np.testing.assert_allclose(divided.layers["L2"] * 3000, kept.layers["L2"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2 3\n2 3 4\n", r"lines of \[3\] numbers; expected 2 .time, moment. or 4"),
        ("1 2\n2 3 4 5\n", r"lines of \[2, 4\] numbers"),
        ("", r"lines of \[\] numbers"),
        ("time x\n1 2\n2 b\n", "holds what is no number"),
        ("0 1\n1 nan\n2 3\n", "dipole has 1 entries that are NaN"),
    ],
)
def test_other_texts_are_refused(tmp_path, content, message):
    path = tmp_path / "other.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_dipole(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_dipole(tmp_path / "none.txt")
    other = write_hdf5(tmp_path / "network.hdf5", kind="Network")
    with pytest.raises(ValueError, match="str 'Network' as its object_type; expected 'Dipole'"):
        read_dipole(other)
    with pytest.raises(ValueError, match="lacks times or the moment 'agg'"):
        read_dipole(write_hdf5(tmp_path / "layers.hdf5", moments={"L2": L2}))
    (tmp_path / "bytes.txt").write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match="is no text .*HDF5 files end in"):
        read_dipole(tmp_path / "bytes.txt")
    (tmp_path / "text.hdf5").write_text("0 1\n1 2\n")
    with pytest.raises(ValueError, match="is no HDF5 file"):
        read_dipole(tmp_path / "text.hdf5")
