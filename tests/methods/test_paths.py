"""How paths become one prediction: the method's own weights, or those of a rule."""

import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.errors import UserError
from dear_jax.methods import paths


def test_combine_weighs_the_paths():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    theta = jnp.array([0.3, -1.0, 2.0])
    alpha = np.exp(theta) / np.exp(theta).sum()
    expected = sum(alpha[i] * logits[:, i] for i in range(3))
    np.testing.assert_allclose(paths.combine(jnp.asarray(logits), jnp.asarray(alpha)), expected, rtol=1e-5)


def test_rules_share_what_the_class_path_leaves():
    found = paths.rows(jnp.array([0.5, 0.3, 0.2]), ("learned", "class_only", "equal", 0.2))
    expected = [[0.5, 0.3, 0.2], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.2, 0.4, 0.4]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_single_path_has_all_the_weight_under_every_rule():
    np.testing.assert_array_equal(paths.rows(jnp.array([1.0]), (*paths.RULES, 0.2)), np.ones((4, 1)))


@pytest.mark.parametrize(
    ("text", "rule"), [("learned", "learned"), ("class_only", "class_only"), ("equal", "equal"), ("0", 0.0), ("1", 1.0)]
)
def test_rules_have_names_or_are_numbers(text, rule):
    assert paths.parse_rule(text) == rule


@pytest.mark.parametrize("text", ["", "leaned", "-0.1", "1.1", "nan"])
def test_other_rules_are_refused(text):
    message = rf"or another rule, is '{text}': expected learned, class_only, equal or a number in \[0, 1\]"
    with pytest.raises(UserError, match=message):
        paths.parse_rule(text)


def test_the_chosen_rule_comes_first():
    assert paths.all_rules("learned") == ("learned", "class_only", "equal")
    assert paths.all_rules("equal") == ("equal", "learned", "class_only")
    assert paths.all_rules(0.2) == (0.2, "learned", "class_only", "equal")
