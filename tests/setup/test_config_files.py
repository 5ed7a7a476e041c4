"""Where configs are found, by path and by name, from any folder."""

import sys

import pytest

from dear_jax.errors import UserError
from dear_jax.setup import config_files
from tests.repository import REPOSITORY

IMPORTING = "from configs import base\ndef get_config(): return base.get_config()"


@pytest.mark.parametrize("name", ["base2new", "base2new.py", "configs/base2new.py", "configs/base2new"])
def test_own_configs_are_found_by_name_from_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert config_files.find(name) == REPOSITORY / "configs" / "base2new.py"
    assert config_files.load(f"{name}:oxford_pets").data.dataset == "oxford_pets"


def test_the_configs_of_the_current_folder_come_first(tmp_path, monkeypatch):
    folder = tmp_path / "configs"
    folder.mkdir()
    own = "import ml_collections\ndef get_config(): return ml_collections.ConfigDict({'job': 'mine'})"
    (folder / "base.py").write_text(own)
    (folder / "base2new.py").write_text(IMPORTING)
    monkeypatch.chdir(tmp_path)
    assert config_files.load("base2new").job == "mine"
    assert config_files.load(str(REPOSITORY / "configs" / "base2new.py")).job == "train"  # its own base beside it
    assert config_files.load("few_shot").protocol == "few_shot"


def test_another_package_called_configs_is_in_nobody_s_way(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise RuntimeError('another project')\n")
    (tmp_path / "mine.py").write_text(IMPORTING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = sys.modules.get("configs")
    assert config_files.load("mine.py").job == "train"
    assert sys.modules.get("configs") is before


@pytest.mark.parametrize("name", ["absent", "configs/absent.py", "elsewhere/base2new.py", "base", ""])
def test_what_is_no_config_is_said_with_those_that_are(name):
    with pytest.raises(UserError, match=r"--config: no file .*base2new, cross_dataset, .*retrieve\."):
        config_files.find(name)


@pytest.mark.parametrize("path", ["configs/base.py", "configs/few_shot.py"])
def test_paths_of_the_pages_work_without_a_clone(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert config_files.load(path).job == "train"
