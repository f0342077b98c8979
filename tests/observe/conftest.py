"""SPM's observer arrays, read once."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def observer():
    path = Path(__file__).parents[1] / "data" / "spm_observer.npz"
    with np.load(path) as arrays:
        return dict(arrays)
