"""Tables of roles: patterns with and without a role map, and single heads."""

import pytest

from dear_jax.errors import UserError
from dear_jax.methods.dear import patterns
from dear_jax.roles.role_map import GENERALIZATION, MIXED, OTHER

ATTRIBUTES = ("color", "shape", "texture")
COLOR, SHAPE = "attribute:color", "attribute:shape"
MAP = (
    (GENERALIZATION, OTHER, MIXED, COLOR),
    (SHAPE, COLOR, COLOR, MIXED),
)


def test_random_deals_thirds_and_depends_on_the_seed_alone():
    roles = patterns.plain_roles("random", 3, 8, ATTRIBUTES, seed=1)
    flat = [role for row in roles for role in row]
    assert flat.count(GENERALIZATION) == flat.count(MIXED) == 8
    assert sorted({r for r in flat if r.startswith("attribute")}) == [f"attribute:{n}" for n in sorted(ATTRIBUTES)]
    assert roles == patterns.plain_roles("random", 3, 8, ATTRIBUTES, seed=1)
    assert roles != patterns.plain_roles("random", 3, 8, ATTRIBUTES, seed=2)


def test_single_heads_are_set_in_order():
    roles = patterns.plain_roles("open", 3, 4, ATTRIBUTES)
    roles = patterns.set_heads(roles, "9.0=generalization, 10.*=other,11.3=attribute:color,10.1=mixed", 9, ATTRIBUTES)
    assert roles[0] == (GENERALIZATION, MIXED, MIXED, MIXED)
    assert roles[1] == (OTHER, MIXED, OTHER, OTHER)
    assert roles[2] == (MIXED, MIXED, MIXED, "attribute:color")
    assert patterns.set_heads(roles, "", 9, ATTRIBUTES) == roles


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8.0=mixed", r"layer '8'; the masked layers are 9 to 11"),
        ("9.4=mixed", r"head '4'; the masked heads are 0 to 3"),
        (
            "9.0=color",
            r"names no role; expected one of generalization, mixed, other, attribute:color",
        ),
        ("9=mixed", r"not of the form LAYER.HEAD=ROLE"),
        ("9.0", r"not of the form LAYER.HEAD=ROLE"),
        ("9.-1=mixed", r"head '-1'"),
        ("9.2-1=mixed", r"head '2-1'"),
        ("9-12.0=mixed", r"layer '9-12'; the masked layers are 9 to 11, a range of them such as 9-11, or \* for all"),
        ("9.attribute:size=mixed", r"head 'attribute:size'; .* or a role for the heads that have it"),
    ],
)
def test_bad_assignments_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        patterns.set_heads(patterns.plain_roles("open", 3, 4, ATTRIBUTES), text, 9, ATTRIBUTES)


def test_ranges_and_heads_by_role():
    """A role before the equals sign means the heads that have it at first, whatever was set before."""
    text = "*.*=mixed,9-10.generalization=generalization,10.attribute=other,10.attribute:shape=attribute:shape"
    assert patterns.set_heads(MAP, text, 9, ATTRIBUTES) == (
        (GENERALIZATION, MIXED, MIXED, MIXED),
        (SHAPE, OTHER, OTHER, MIXED),
    )
    assert patterns.set_heads(MAP, "9.other=mixed,10.generalization=mixed", 9, ATTRIBUTES)[1] == MAP[1]


def test_patterns_of_a_role_map():
    assert patterns.mapped_roles("roles", MAP) == MAP
    assert patterns.mapped_roles("only_generalization", MAP) == (
        (GENERALIZATION, OTHER, MIXED, MIXED),
        (MIXED, MIXED, MIXED, MIXED),
    )
    assert patterns.mapped_roles("only_attribute", MAP) == (
        (MIXED, MIXED, MIXED, COLOR),
        (SHAPE, COLOR, COLOR, MIXED),
    )
    assert patterns.mapped_roles("layer_wise", MAP) == ((COLOR,) * 4, (COLOR,) * 4)


def test_permuted_keeps_the_roles_of_each_layer():
    table = patterns.mapped_roles("permuted", MAP, seed=1)
    assert [sorted(row) for row in table] == [sorted(row) for row in MAP]
    assert table != MAP
    assert table == patterns.mapped_roles("permuted", MAP, seed=1)
    assert len({patterns.mapped_roles("permuted", MAP, seed=seed) for seed in range(5)}) > 1
