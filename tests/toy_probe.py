"""A second method, as small as one can be: a linear classifier on frozen image features, started at the class names."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dear_jax.clip.layers import unit
from dear_jax.clip.split import logit_scale, plain_split
from dear_jax.methods import losses
from dear_jax.methods.contract import Method

TITLE, ARRAYS, STRUCTURAL, PRESETS = "Linear probe", ("decay",), (), {}


@dataclasses.dataclass(frozen=True)
class Options:
    decay: float = 0.01  # of the weights towards the class names' features


class Settings(NamedTuple):
    decay: Any


@dataclasses.dataclass(frozen=True)
class LinearProbe(Method):
    open_classes = False

    def init(self, key, params, prompts, start):
        return {"weights": jnp.asarray(prompts.features)}

    def settings_like(self):
        return Settings(jax.ShapeDtypeStruct((), jnp.float32))

    def classes(self, adapter, settings, frozen):
        return unit(adapter["weights"])

    def logits(self, adapter, settings, params, classes, seen):
        return logit_scale(params) * (seen.features @ classes.T)[:, None]

    def features(self, adapter, settings, params, seen):
        return seen.features[:, None]

    def loss(self, adapter, settings, frozen, seen, labels, carried=()):
        logits = self.logits(adapter, settings, frozen.params, self.classes(adapter, settings, frozen), seen)
        logits = logits[: len(labels), 0]
        parts = {
            "cross_entropy": losses.cross_entropy(logits, labels),
            "distance": jnp.square(adapter["weights"] - frozen.prompts.features).sum(),
            "accuracy": jnp.mean(jnp.argmax(logits, axis=-1) == labels),
        }
        return parts["cross_entropy"] + settings.decay * parts["distance"], parts


def recipe(protocol, dataset, shots):
    return {}


def problems(options):
    return {} if options.decay >= 0 else {"decay": "0 or more"}


def remarks(options):
    return []


def build(options, config, dtype, class_chunk=0):
    return LinearProbe(plain_split(config, dtype, class_chunk))


def settings(options, method, roles):
    return Settings(jnp.float32(options.decay))


def start(options):
    return None


def restore(structure, config, dtype):
    return LinearProbe.restore(structure, config, dtype)
