"""From trained adapters, or none, to every metric on every class set."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from dear_jax.clip.checkpoints.weights import Backbone, cast
from dear_jax.clip.split import plain_split
from dear_jax.data.class_set import ClassSet
from dear_jax.evaluation.accuracy import Evaluator, Scores
from dear_jax.methods import paths
from dear_jax.methods.adapter_file import Trained
from dear_jax.methods.contract import check_classes
from dear_jax.methods.paths import Rule
from dear_jax.parallel import sharding
from dear_jax.setup import runs
from dear_jax.setup.backbones import BackbonePlan
from dear_jax.setup.plans.evaluate import Measuring


def measure(
    measuring: Measuring,
    plan: BackbonePlan,
    backbone: Backbone,
    classes: Mapping[str, ClassSet],
    trained: Trained | None,
    rules: Sequence[Rule] = (),
) -> dict[str, Scores]:
    """The scores on every class set under every rule; the first is how predictions are made there.

    Args:
        measuring: how.
        plan: of the backbone.
        backbone: that of the adapters.
        classes: the class sets.
        trained: the adapters; None: zero-shot CLIP alone.
        rules: those that are wanted; empty: the one asked for, or the method's own, then all others of `measuring`.

    Raises:
        UserError: adapters of another backbone.
    """
    dtype, chunk = plan.compute_dtype, plan.class_chunk
    adapters = runs.restore(trained, backbone, dtype, chunk) if trained else ()
    for of_program in adapters:
        assert trained is not None
        others = {name: class_set.class_names for name, class_set in classes.items()}
        check_classes(of_program.method, trained.class_names, others)
    plain = adapters[0].method.split if adapters else plain_split(backbone.config, dtype, chunk)
    mesh = sharding.data_mesh()
    params = sharding.place_backbone(cast(backbone.params, dtype), mesh, plan.shard)
    own = adapters[0].method.new_classes if adapters else "learned"
    first = own if measuring.rule is None else measuring.rule
    rules = tuple(rules) or (*paths.all_rules(first), *measuring.more_rules)
    rules = tuple(dict.fromkeys((*rules, "learned")))  # of the classes trained on
    evaluator = Evaluator(plain, params, adapters, mesh, measuring.batch_size, rules, measuring.workers)
    # Under every rule also where one will do, so that all class sets take the same compiled program.
    scores = {name: evaluator(class_set) for name, class_set in classes.items()}
    if trained is None:
        return {name: of_set.under("learned") for name, of_set in scores.items()}
    learned_first = ("learned", *(rule for rule in rules if rule != "learned"))
    return {
        name: of_set
        if trained.is_new(classes[name].class_names)
        else of_set.under(*learned_first)._replace(trained_on=True)
        for name, of_set in scores.items()
    }


def path_weights(plan: BackbonePlan, backbone: Backbone, trained: Trained | None) -> dict[str, dict[str, np.ndarray]]:
    """Variant -> path -> its weight in the prediction of the classes trained on, [S]; of one path alone nothing."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for method, names, adapter, settings in runs.restore(trained, backbone, plan.compute_dtype) if trained else ():
        if len(method.paths) > 1:
            weights = np.asarray(jax.vmap(jax.vmap(method.weights), (0, None))(adapter, settings))  # [S, V, N]
            found |= {name: dict(zip(method.paths, weights[:, v].T, strict=True)) for v, name in enumerate(names)}
    return found
