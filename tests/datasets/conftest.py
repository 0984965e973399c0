"""Fixtures of several of these files."""

import data_folder
import pytest

from jfsed_jax.datasets import extraction


@pytest.fixture
def data(tmp_path):
    """A data folder as `data_folder.make_folder` makes it."""
    root = tmp_path / "data"
    data_folder.make_folder(root)
    return root


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files decoded since the fixture was last cleared."""
    names = []
    original = extraction.extract_clip

    def spy(path, front_end):
        names.append(path.name)
        return original(path, front_end)

    monkeypatch.setattr(extraction, "extract_clip", spy)
    return names
