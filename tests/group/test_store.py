"""Folders of groups of fits."""

import pytest

from bayesdcm.group.store import Store


def test_a_file_is_no_folder_of_fits(tmp_path):
    file = tmp_path / "fits"
    file.write_text("")
    for folder in (file, file / "below"):
        with pytest.raises(ValueError, match="out must be a folder, but .* is a file; choose"):
            with Store(folder, ["model"]).opened({}):
                pass
