"""From the variants of a plan to programs: methods, settings, rates and starts, grouped by what compiles as one."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax.numpy as jnp

from dear_jax.clip.config import CLIPConfig
from dear_jax.methods.contract import Method
from dear_jax.setup import methods
from dear_jax.setup.backbones import BackbonePlan
from dear_jax.setup.methods import RoleSource
from dear_jax.setup.variants import Variant
from dear_jax.training.optimizer import Rates
from dear_jax.training.program import Program

Arrays = TypeVar("Arrays", bound=tuple[Any, ...])


def make_programs(
    variants: Sequence[Variant], plan: BackbonePlan, config: CLIPConfig, roles: RoleSource
) -> tuple[Program, ...]:
    """The variants in their order, but for those that join an earlier program.

    Args:
        variants: of the run.
        plan: the towers' dtype, and the class prompts at a time.
        config: the backbone's architecture.
        roles: of its heads, for methods that ask.

    Raises:
        UserError: keys that do not fit the backbone; a role map or mask that cannot be had.
    """
    groups: dict[Method, list[Variant]] = {}
    for variant in variants:
        method = methods.find(variant.method).build(variant.options, config, plan.compute_dtype, plan.class_chunk)
        groups.setdefault(method, []).append(variant)
    return tuple(_make_program(method, group, roles) for method, group in groups.items())


def _make_program(method: Method, variants: Sequence[Variant], roles: RoleSource) -> Program:
    entries = [(methods.find(variant.method), variant.options) for variant in variants]
    return Program(
        method,
        names=tuple(variant.name for variant in variants),
        settings=_stack([entry.settings(options, method, roles) for entry, options in entries]),
        rates=_stack([Rates(*map(jnp.float32, variant.rates)) for variant in variants]),
        starts=tuple(entry.start(options) for entry, options in entries),
    )


def _stack(variants: Sequence[Arrays]) -> Arrays:
    """V variants on a leading axis."""
    return type(variants[0])(*(jnp.stack(leaves) for leaves in zip(*variants, strict=True)))
