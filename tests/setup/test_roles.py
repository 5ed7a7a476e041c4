"""Which role map a run uses."""

import dataclasses
import hashlib

import numpy as np
import pytest

from configs import base
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.data.loading import Places
from dear_jax.errors import UserError
from dear_jax.roles import role_map as role_maps
from dear_jax.roles import sentences
from dear_jax.setup import roles as setup_roles
from dear_jax.setup.methods.dear import Options
from dear_jax.setup.roles import NoRoleMaps, RoleMaps

ATTRIBUTES = Options().tokens.attributes


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("embedded")


def test_the_embedded_clip_uses_the_shipped_map(backbone):
    maps = RoleMaps(setup_roles.read(base.get_config()), backbone)
    shipped = role_maps.load(role_maps.EMBEDDED).roles
    assert maps.roles("", 5, ATTRIBUTES) == shipped
    looking = RoleMaps(setup_roles.read(base.get_config()), backbone, make=False)
    assert looking.roles("", 5, ATTRIBUTES) == shipped
    assert (looking.found, looking.missing) == ({str(role_maps.EMBEDDED): "found"}, {})


def test_a_map_that_is_not_there_is_noted_and_stood_in_for(backbone, tmp_path):
    config = base.get_config()
    config.roles.cache = str(tmp_path)
    looking = RoleMaps(setup_roles.read(config), backbone, make=False)
    table = looking.roles("", 6, ("color", "shape"))
    assert table == NoRoleMaps(7, 8).roles("", 6, ("color", "shape"))
    assert (len(table), len(table[0])) == (2, 8)
    ((path, wanted),) = looking.missing.items()
    assert (path.parent, wanted) == (tmp_path, (6, ("color", "shape")))
    assert looking.found == {str(path): "to be made from the training images of world_compositions"}
    assert not list(tmp_path.iterdir())


def test_a_named_map_has_to_fit(backbone):
    maps = RoleMaps(setup_roles.read(base.get_config()), backbone)
    assert maps.roles(str(role_maps.EMBEDDED), 5, ATTRIBUTES) == role_maps.load(role_maps.EMBEDDED).roles
    with pytest.raises(UserError, match="attributes"):
        maps.roles(str(role_maps.EMBEDDED), 5, ("color", "size"))


def test_a_map_is_kept_for_what_it_was_made_of(backbone, tmp_path):
    plan = setup_roles.read(base.get_config())
    bank = tmp_path / "bank.txt"

    def path(plan, first_layer=5, attributes=ATTRIBUTES, encoder=sentences.SBERT):
        looking = RoleMaps(dataclasses.replace(plan, cache=str(tmp_path / "maps")), backbone)
        return looking._path(first_layer, attributes, encoder)

    first = path(plan)
    assert first == path(plan)
    plan = dataclasses.replace(plan, options=dataclasses.replace(plan.options, descriptions=7))
    other_settings = path(plan)
    plan = dataclasses.replace(plan, data=dataclasses.replace(plan.data, places=Places(root="elsewhere")))
    other_images = path(plan)
    plan = dataclasses.replace(plan, options=dataclasses.replace(plan.options, bank=str(bank)))
    bank.write_text("a red thing\n")
    one_bank = path(plan)
    bank.write_text("a blue thing\n")
    other_bank = path(plan)
    assert len({first, other_settings, other_images, one_bank, other_bank}) == 5
    by_text_tower = path(plan, encoder=sentences.TEXT_TOWER)
    assert len({other_bank, path(plan, first_layer=6), path(plan, attributes=("color",)), by_text_tower}) == 4
    assert "-all-MiniLM-L6-v2-" in other_bank.name
    assert "-text_tower-" in by_text_tower.name
    assert "-a_model-" in path(plan, encoder="/some/a model/").name


def test_a_map_of_the_stand_in_is_not_used_once_the_preferred_encoder_loads(backbone, tmp_path, monkeypatch):
    other = dataclasses.replace(backbone, name="elsewhere", fingerprint="f" * 16)
    plan = dataclasses.replace(setup_roles.read(base.get_config()), cache=str(tmp_path))
    wanted = RoleMaps(plan, other)._wanted(5, ATTRIBUTES)
    loads, chosen = [], []

    def choose(name, backbone):
        chosen.append(name)
        return sentences.SentenceEncoder(loads[0], loads[0], lambda texts: np.ones((len(texts), 2)))

    monkeypatch.setattr(sentences, "choose", choose)
    by_text_tower = RoleMaps(plan, other)._path(5, ATTRIBUTES, sentences.TEXT_TOWER)
    by_text_tower.write_text("made")
    loads[:] = [sentences.TEXT_TOWER]
    assert RoleMaps(plan, other)._find(wanted) == by_text_tower
    loads[:] = [sentences.SBERT]
    assert RoleMaps(plan, other)._find(wanted) is None
    by_sbert = RoleMaps(plan, other)._path(5, ATTRIBUTES, sentences.SBERT)
    by_sbert.write_text("made")
    chosen.clear()
    assert RoleMaps(plan, other)._find(wanted) == by_sbert
    assert chosen == []  # a map of the best there is: nothing has to be loaded


def test_a_run_says_which_map_it_used(backbone, tmp_path):
    maps = RoleMaps(setup_roles.read(base.get_config()), backbone)
    maps.roles("", 5, ATTRIBUTES)
    (shipped,) = maps.used.values()
    content = role_maps.EMBEDDED.read_bytes()
    assert shipped["path"] == "dear_jax/roles/maps/embedded.json"
    assert shipped["file_sha256"] == hashlib.sha256(content).hexdigest()
    assert shipped["sentence_encoder"] == "lexicon of the embedded world"
    assert len(shipped["bank_sha256"]) == 16
    copy = tmp_path / "mine.json"
    copy.write_bytes(content)
    maps.roles(str(copy), 5, ATTRIBUTES)
    maps.roles(str(copy), 5, ATTRIBUTES)
    assert [one["path"] for one in maps.used.values()] == [shipped["path"], str(copy)]
