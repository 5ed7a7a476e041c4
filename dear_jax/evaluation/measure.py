"""From trained adapters, or none, to every metric on every class set."""

from collections.abc import Mapping

from dear_jax.clip.checkpoints.weights import Backbone, cast
from dear_jax.clip.split import plain_split
from dear_jax.data.class_set import ClassSet
from dear_jax.evaluation.accuracy import Evaluator, Scores
from dear_jax.methods import paths
from dear_jax.methods.adapter_file import Trained
from dear_jax.methods.contract import check_classes
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
) -> dict[str, Scores]:
    """The scores on every class set; on one with a class that was not trained on, under every rule.

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
    rules = paths.all_rules(own if measuring.rule is None else measuring.rule)
    evaluator = Evaluator(plain, params, adapters, mesh, measuring.batch_size, rules, measuring.workers)
    # Under every rule also where one will do, so that all class sets take the same compiled program.
    scores = {name: evaluator(class_set) for name, class_set in classes.items()}
    return {
        name: of_set if trained and trained.is_new(classes[name].class_names) else of_set.under("learned")
        for name, of_set in scores.items()
    }
