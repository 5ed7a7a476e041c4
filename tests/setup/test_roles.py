"""Which role map a run uses."""

import pytest

from configs import base
from dear_jax.roles import role_map as role_maps
from dear_jax.setup import programs as setup
from dear_jax.setup import roles as setup_roles


@pytest.fixture(scope="module")
def loaded():
    config = base.get_config()
    backbone = setup.load_backbone(config)
    return backbone, setup.make_model(config, backbone)


def test_the_embedded_clip_uses_the_shipped_map(loaded):
    assert setup_roles.find_role_map(base.get_config(), *loaded) == role_maps.EMBEDDED
    roles = setup_roles.mapped_roles(base.get_config(), *loaded)
    assert roles == role_maps.load(role_maps.EMBEDDED).roles


def test_a_map_is_kept_for_what_it_was_made_of(loaded, tmp_path):
    config = base.get_config()
    first = setup_roles.role_map_path(config, *loaded)
    assert first == setup_roles.role_map_path(config, *loaded)
    config.roles.descriptions = 7
    other_settings = setup_roles.role_map_path(config, *loaded)
    config.data.root = "elsewhere"
    other_images = setup_roles.role_map_path(config, *loaded)
    config.roles.bank = str(tmp_path / "bank.txt")
    (tmp_path / "bank.txt").write_text("a red thing\n")
    one_bank = setup_roles.role_map_path(config, *loaded)
    (tmp_path / "bank.txt").write_text("a blue thing\n")
    other_bank = setup_roles.role_map_path(config, *loaded)
    assert len({first, other_settings, other_images, one_bank, other_bank}) == 5
