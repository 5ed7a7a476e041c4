"""Role maps: a round trip, and every way in which one is refused."""

import json
import os

import pytest

from dear_jax.errors import UserError
from dear_jax.roles import role_map as role_maps
from dear_jax.roles.role_map import MIXED, RoleMap

ROLE_MAP = RoleMap(
    backbone="embedded",
    fingerprint="0123456789abcdef",
    first_layer=2,
    attributes=("color", "shape"),
    roles=(("generalization", "attribute:color"), (MIXED, "other")),
    details={"entropy": [[2.0, 0.1], [1.0, 0.2]]},
)
FITTING = dict(fingerprint="0123456789abcdef", first_layer=2, layers=2, heads=2, attributes=("color", "shape"))


def test_round_trip(tmp_path):
    ROLE_MAP.save(tmp_path / "map.json")
    loaded = role_maps.load(tmp_path / "map.json")
    assert loaded == ROLE_MAP
    role_maps.check(loaded, **FITTING)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fingerprint", "f" * 16, "fingerprint is '0123456789abcdef', expected 'ffffffffffffffff'"),
        ("first_layer", 9, "first_layer is 2, expected 9"),
        ("layers", 4, "layers is 2, expected 4"),
        ("heads", 12, "heads is 2, expected 12"),
        ("attributes", ("shape", "color"), "attributes is"),
    ],
)
def test_a_map_for_something_else_is_refused(key, value, message):
    with pytest.raises(UserError, match=message):
        role_maps.check(ROLE_MAP, **(FITTING | {key: value}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "something"}, "is not a role map"),
        ({"attributes": None}, "attributes is None, expected a list of names"),
        ({"first_layer": "nine"}, "first_layer is 'nine', expected a whole number"),
        ({"roles": None}, "must be a list of layers"),
        ({"roles": [["mixed"], ["mixed", "mixed"]]}, r"layers have \[1, 2\] heads"),
        ({"entropy": [[1.0]]}, r"entropy must be a list of \d+ layers, each with a number of bits"),
        ({"entropy": "one"}, "entropy must be a list"),
        ({"entropy": [["a", "b"], ["c", "d"]]}, "entropy must be a list"),
        ({"roles": [["mixed", "attribute:size"]]}, "row 0, head 1 has the role 'attribute:size'"),
    ],
)
def test_damaged_maps_are_refused(change, message, tmp_path):
    path = tmp_path / "map.json"
    ROLE_MAP.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        role_maps.load(path)


def test_absent_truncated_and_incomplete_files_are_refused(tmp_path):
    path = tmp_path / "map.json"
    with pytest.raises(UserError, match="cannot be read"):
        role_maps.load(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="it is a pipe or a device, no file"):
        role_maps.load(tmp_path / "pipe")
    ROLE_MAP.save(path)
    path.write_text(path.read_text()[:50])
    with pytest.raises(UserError, match="not valid JSON"):
        role_maps.load(path)
    path.write_text(json.dumps({"format": role_maps.FORMAT, "roles": [["mixed"]]}))
    with pytest.raises(UserError, match="lacks backbone, fingerprint, first_layer, attributes"):
        role_maps.load(path)


@pytest.mark.parametrize("content", ["[" * 100_000, "null", "[]", '{"format": ' + "[" * 90 + "]" * 90 + "}"])
def test_what_is_no_map_is_refused(tmp_path, content):
    path = tmp_path / "map.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"map\.json"):
        role_maps.load(path)


def test_a_map_that_has_changed_is_refused_and_without_its_checksum_taken(tmp_path):
    path = tmp_path / "map.json"
    ROLE_MAP.save(path)
    values = json.loads(path.read_text())
    changed = values | {"first_layer": values["first_layer"] + 1}
    path.write_text(json.dumps(changed))
    with pytest.raises(UserError, match="has changed since it was written"):
        role_maps.load(path)
    del changed["sha256"]
    path.write_text(json.dumps(changed))
    assert role_maps.load(path).first_layer == changed["first_layer"]


def test_roles_follow_the_thresholds():
    entropy = [[0.2, 1.0], [2.0, 0.5]]
    dominant = [["color", "color"], ["shape", "background"]]
    roles = role_maps.assign(entropy, dominant, 0.5, 2.0, ("color", "shape"))
    assert roles == (("attribute:color", MIXED), ("generalization", "other"))
    same = role_maps.assign([[1.0, 1.0]], [["color", "shape"]], 1.0, 1.0, ("color", "shape"))
    assert same == ((MIXED, MIXED),)


def test_roles_by_chance_leave_no_head_mixed():
    roles = role_maps.assign_by_chance(
        [[0.05, 0.051], [1.0, 0.001]], [["color", "color"], ["shape", "background"]], 0.05, ("color", "shape")
    )
    assert roles == (("attribute:color", "generalization"), ("generalization", "other"))
