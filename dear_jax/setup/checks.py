"""Which values a config may have: every key in its range, in every variant, all problems in one message."""

from ml_collections import ConfigDict

from dear_jax.errors import UserErrors
from dear_jax.methods import paths
from dear_jax.roles.options import Options
from dear_jax.setup import methods, ranges, recipes, values, variants


def check(config: ConfigDict, trains: bool) -> None:
    """Refuse values outside their range.

    Args:
        config: the resolved config.
        trains: whether the job trains, so that the keys of a method and of the variants count.

    Raises:
        UserErrors: every offending key with its value and what is expected.
    """
    configs = variants.variant_configs(config).values() if trains else [config]
    problems = [text for variant in configs for text in _problems(variant, trains)]
    if problems:
        raise UserErrors(list(dict.fromkeys(problems)))
    if config.eval.new_classes:
        paths.parse_rule(config.eval.new_classes)
    values.read(Options, config.roles).check()


def _problems(config: ConfigDict, trains: bool) -> list[str]:
    name = config.method
    unread = methods.METHODS.keys() - ({name} if trains else set())
    read = [key for key in values.flat_values(config) if key.partition(".")[0] not in unread]
    expected = ranges.problems(config, read) | values.out_of_range(_rules(config, trains))
    if trains:
        entry = methods.find(name)
        own = entry.problems(values.read(entry.Options, config[name]))
        expected = {f"{name}.{key}": text for key, text in own.items()} | expected
    return ranges.messages(config, expected)


def _rules(config: ConfigDict, trains: bool) -> dict[str, tuple[bool, str]]:
    """Of keys that depend on others, or have several values: key -> whether it is in its range, and the range."""
    recipe = recipes.of(config.method, config.protocol, config.data.dataset, config.data.shots)
    fitted = recipe["train.epochs"] == 0  # without steps
    none = f"0: {config.method} is fitted to its images at once, without steps"
    attributes, scale = config.roles.attributes, config.data.crop_scale
    return {
        "train.epochs": (config.train.epochs == 0, none) if fitted else (config.train.epochs >= 1, "1 or more"),
        "train.steps": (not (fitted and config.train.steps), none),
        "eval.ablation": (
            not (trains and config.eval.ablation),
            "empty: --config.job=evaluate with the finished run as config.run ablates heads",
        ),
        "select.folds": (config.select.folds % 2 == 0, "an even number, 2 or more"),
        "roles.attributes": (0 < len(attributes) == len(set(attributes)), "one or more different names"),
        "log.profile": (
            values.is_span(config.log.profile),
            "FIRST:LAST, the first and the last of the steps, counted from 1, such as 20:25",
        ),
        "data.crop_scale": (
            len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1,
            "the least and the greatest area share of the random crop, 0 < least <= greatest <= 1",
        ),
    }
