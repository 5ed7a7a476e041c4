"""The candidates of a selection (`config.job=select`): what may be chosen, in the order in which ties are decided.

A candidate is a variant of `config.variants`, with one rule for classes not trained on (`config.select.rules`), trained
for one share of its recipe (`config.select.shares`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from dear_jax.errors import UserError
from dear_jax.methods import paths
from dear_jax.setup import methods, recipes, values, variants
from dear_jax.setup.selection import RULE, SHARE

ALL = "all"  # the preset of a method's variants that a selection takes where none are asked for


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One setting that may be chosen.

    Attributes:
        name: of the variant, with the share and, once they are known to differ, the rule.
        settings: dotted keys that it sets apart from the config, with their values.
        variant: the variant whose training it is.
        rule: how paths are weighed where a class was not trained on; empty: the method's own rule.
        share: of the recipe's length that it is trained for.
    """

    name: str
    settings: Mapping[str, Any]
    variant: str
    rule: str
    share: float


def find(config: ConfigDict, new_classes: bool) -> tuple[Candidate, ...]:
    """The candidates of a config: those that change fewest keys first, else as variants, rules and shares are listed.

    Args:
        config: with open keys of the recipe or without; what no candidate changes is common to all.
        new_classes: whether classes are met that were not trained on, so that rules differ.

    Raises:
        UserError: there are fewer than two; a rule or share that is none; shares of a length that is given.
    """
    own, share = config.eval.new_classes, config.train.share
    rules = (own, *(rule for rule in config.select.rules if rule != own)) if new_classes else (own,)
    if not all(isinstance(other, int | float) and other > 0 for other in config.select.shares):
        raise UserError(f"config.select.shares: expected positive numbers, found {tuple(config.select.shares)}.")
    shares = (share, *(float(other) for other in config.select.shares if other != share))
    for rule in filter(None, rules):
        paths.parse_rule(rule)
    if len(shares) > 1 and recipes.is_length_given(config):
        raise UserError(
            "config.select.shares are of the recipe's length, and config.train.epochs or config.train.steps gives "
            "another. Leave one out."
        )
    found = []
    for other in shares:
        for variant, changes in _changes(config, other).items():
            for rule in rules:
                settings = {**changes}
                settings |= {} if rule == own else {RULE: rule}
                settings |= {} if other == share else {SHARE: other}
                name = f"{variant}, {other:g} of the recipe" if len(shares) > 1 else variant
                found.append(Candidate(name, settings, variant, rule, other))
    if len(found) < 2:
        raise UserError(
            "config.job=select has one candidate, and nothing to choose. Give config.variants (presets of "
            f"{config.method}: {', '.join(variants.presets(recipes.resolve(config)))}), or config.select.shares."
        )
    return tuple(sorted(found, key=lambda candidate: len(candidate.settings)))


def distinct(found: Sequence[Candidate], own: str, several_paths: bool) -> tuple[Candidate, ...]:
    """The candidates whose predictions may differ, called after their rules where they differ in them.

    Args:
        found: the candidates of a config.
        own: the method's own rule, which an empty one stands for.
        several_paths: whether the method has more than one, so that rules matter.
    """
    by_rule: dict[tuple[str, float, str], Candidate] = {}
    for candidate in found:
        rule = (candidate.rule or own) if several_paths else paths.RULES[0]
        by_rule.setdefault((candidate.variant, candidate.share, rule), dataclasses.replace(candidate, rule=rule))
    named = len({candidate.rule for candidate in by_rule.values()}) > 1
    return tuple(
        dataclasses.replace(candidate, name=f"{candidate.name}, {candidate.rule}") if named else candidate
        for candidate in by_rule.values()
    )


def variant_configs(config: ConfigDict, share: float) -> dict[str, ConfigDict]:
    """Variant -> its resolved config: those asked for, else a preset, beside one that changes nothing.

    The preset is the method's `all`, else, of methods with steps, learning rates.
    """
    config = recipes.resolve(values.set_open(config, {SHARE: share}))
    text = config.variants.strip()
    if not text:
        rates = variants.RATE_PRESET if config.train.epochs else ""
        text = ALL if ALL in methods.find(config.method).PRESETS else rates
    found = variants.variant_configs(values.set_all(config, {"variants": text})) if text else {}
    plain = values.flat_values(values.set_all(config, {"variants": ""}))
    for name, variant in found.items():
        found[name] = values.set_all(variant, {"variants": ""})
    if any(values.flat_values(variant) == plain for variant in found.values()):
        return found
    return {variants.DEFAULT: values.set_all(config, {"variants": ""}), **found}


def _changes(config: ConfigDict, share: float) -> dict[str, dict[str, Any]]:
    """Variant -> what it sets apart from the config."""
    common = values.flat_values(recipes.resolve(values.set_open(config, {SHARE: share})))
    found = {name: values.flat_values(variant) for name, variant in variant_configs(config, share).items()}
    return {
        name: {key: value for key, value in variant.items() if key != "variants" and value != common[key]}
        for name, variant in found.items()
    }
