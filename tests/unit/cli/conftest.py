"""Fixtures around a user's folder; ``user_project`` has the folder's making and the command line as a function."""

import shutil

import pytest
from user_project import FOREIGN, snn, user_folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a folder of a user."""
    monkeypatch.chdir(user_folder(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A user's folder with a bundle of the network, made once."""
    folder = user_folder(tmp_path_factory.mktemp("exported"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        answer = snn("export", "weights.pt", *FOREIGN, "--data", "data.npz", "--no-lava", "-o", "net.snn")
        assert answer.status == 0, answer.err
    return folder


@pytest.fixture
def bundle(exported, tmp_path, monkeypatch):
    """A user's folder with a bundle of its own to damage."""
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    monkeypatch.chdir(folder)
    return folder / "net.snn"
