"""What a method of adapting CLIP is to the rest of the project: a frozen dataclass of pure functions.

The step, its compiled program, sharding, checkpoints, the adapter file, evaluation, predictions, retrieval, the dry run
and the tables know this and nothing else. README.md here says how to write one.
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params
from dear_jax.clip.split import Frozen, Prompts, Seen, Split
from dear_jax.data.class_set import WHOLE
from dear_jax.errors import UserError
from dear_jax.methods import paths
from dear_jax.roles.decompose import ReadOut

# What is learned, float32: all that is differentiated, saved and placed on devices. `Method.fit` may add what
# predictions need beside it.
Adapter = dict[str, Array]
Settings = Any  # a NamedTuple of arrays: what variants of a run set apart without compiling again
Classes = Any  # a tree of arrays that `classes` makes and `logits` reads

CLASS_PATH = "class"  # the path that every method has


@dataclasses.dataclass(frozen=True)
class Length:
    """How long a run is; fixed when its step is compiled."""

    epochs: int
    steps_per_epoch: int
    limit: int = 0  # of steps, where a recipe counts these and not epochs; 0: none

    @property
    def steps(self) -> int:
        """All of a run."""
        return self.limit or self.epochs * self.steps_per_epoch


class Targets(NamedTuple):
    """The prompts whose mean features are plain CLIP's idea of a class, which a method compares with or starts from."""

    templates: tuple[str, ...]  # each with one {} for the class name
    unit_mean: bool = True  # the mean of unit features (OpenAI's), or of features as they come (PromptSRC's)


class Wanted(NamedTuple):
    """Which images a method is fitted to by their frozen features, beside those that its steps see."""

    passes: int = 0  # over the training images, cropped and mirrored as in training; 0: one, as in evaluation
    validation: str = WHOLE  # WHOLE, SHOTS or FEW, see `Task.validation`


class Support(NamedTuple):
    """What frozen CLIP makes of the images of one seed and of the classes: NumPy arrays, which no test image is in."""

    features: Float[np.ndarray, "N d"]  # of the training images, not of unit length; the mean over the passes
    labels: Int[np.ndarray, "N"]
    val_features: Float[np.ndarray, "M d"]  # the same of validation images; M may be 0
    val_labels: Int[np.ndarray, "M"]
    text: Float[np.ndarray, "C d"]  # `Prompts.features`


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """Static and hashable: two equal methods make one compiled program.

    A prediction is a weighted sum of the logits of N paths, of which the first is the class path. Functions are of ONE
    run: its adapter and its settings; seeds, variants and devices are the caller's.
    """

    split: Split

    steps: ClassVar[bool] = True  # whether it is trained step by step; else it is `fit` alone, and has no `loss`
    new_classes: ClassVar[str] = "learned"  # how its paths are weighed for these, a rule of `paths`

    @property
    def paths(self) -> tuple[str, ...]:
        """The names of the N paths, the class path first."""
        return (CLASS_PATH,)

    @property
    def open_classes(self) -> bool:
        """Whether other classes than those trained on can be told apart, and in another order."""
        return True

    @property
    def context(self) -> int:
        """How many of the prompts' words, the first beside the class name, learned tokens take the places of."""
        return 0

    def prompt(self, dataset: str, template: str) -> str:
        """The template of what its text tower reads, given a data set's name and its own template."""
        return template

    def targets(self, dataset: str, ensemble: tuple[str, ...]) -> Targets:
        """What `Prompts.features` are made of, given a data set's name and the templates of zero-shot CLIP."""
        return Targets(ensemble)

    def encode_prompts(self, params: Params, token_ids: Int[np.ndarray, "C T"]) -> Prompts:
        """The frozen side of the classes' prompts, see `Split.encode_prompts`."""
        return self.split.encode_prompts(params, token_ids)

    @property
    def reading(self) -> tuple[Any, ...]:
        """Equal for methods of one class for which `encode_prompts`, `prompt` and `targets` give the same."""
        return (self.split.text_layer, self.split.class_chunk)

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """A fresh adapter.

        Args:
            key: of the run's seed.
            params: CLIP's, float32.
            prompts: of the classes trained on: their ids, and plain CLIP's text features.
            start: where to start, a value of the method's own type.
        """

    @abc.abstractmethod
    def settings_like(self) -> Settings:
        """Shapes and dtypes of the settings of one variant, as `jax.ShapeDtypeStruct`."""

    @abc.abstractmethod
    def classes(self, adapter: Adapter, settings: Settings, frozen: Frozen) -> Classes:
        """What there is to know of the classes at hand: made once per class set, whatever the number of images."""

    def logits(
        self, adapter: Adapter, settings: Settings, params: Params, classes: Classes, seen: Seen
    ) -> Float[Array, "B N C"]:
        """The logits of every path: scale * cos(feature, class), where `classes` are unit features."""
        return paths.cosine_logits(self.features(adapter, settings, params, seen), classes, params)

    @abc.abstractmethod
    def features(self, adapter: Adapter, settings: Settings, params: Params, seen: Seen) -> Float[Array, "B N d"]:
        """Unit features of the images on every path, by which images are retrieved.

        Raises:
            UserError: the method has none.
        """

    def read_out(self, adapter: Adapter, settings: Settings, params: Params) -> ReadOut:
        """How the vision tower is read, by which `roles.places` says where in an image each path's logits come from.

        The logits must be those of the contract: scale * cos(feature, class) of unit `classes` `[C, d]`.

        Raises:
            UserError: the method's logits are something else.
        """
        raise UserError(
            f"There are no maps of {type(self).__name__}: its logits are more than the similarity of an image's "
            "feature with a class's, so that they are no sum over places of the image. Without config.run, "
            "config.job=explain shows where plain CLIP looks."
        )

    @abc.abstractmethod
    def loss(
        self,
        adapter: Adapter,
        settings: Settings,
        frozen: Frozen,
        seen: Seen,
        labels: Int[Array, "B"],
        carried: Any = (),
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The training loss of a batch, and its parts: named float32 scalars, of which `accuracy` in [0, 1] is one.

        `seen` may hold more images than there are labels: they only fill up the devices, and are to be dropped. Nothing
        but `adapter` takes a gradient.
        """

    def weights(self, adapter: Adapter, settings: Settings) -> Float[Array, "N"]:
        """The share of each path in the prediction, sums to 1."""
        return jnp.full(len(self.paths), 1 / len(self.paths))

    def begin(self, adapter: Adapter, key: PRNGKeyArray) -> Any:
        """What training carries along beside the adapter, and checkpoints hold: a running average, random bits."""
        return ()

    def carry(self, carried: Any, adapter: Adapter, step: Int[Array, ""], length: Length) -> Any:
        """What is carried after update number `step`, counted from 1, has made `adapter`."""
        return carried

    def finish(self, adapter: Adapter, carried: Any) -> Adapter:
        """What a run has learned once it is at its end."""
        return adapter

    @property
    def wanted(self) -> Wanted | None:
        """What it is fitted to; none: its steps are all, and `meet`, `review` and `fit` are not called."""
        return None

    @property
    def images(self) -> int:
        """How many training images each run has, where the shapes of its adapter depend on them; see `sized`."""
        return 0

    def sized(self, images: int) -> Self:
        """The same for so many training images, where the shapes of its adapter depend on them."""
        return self

    def meet(self, adapter: Adapter, carried: Any, support: Support) -> tuple[Adapter, Any]:
        """What training starts from and carries along, made of what `init` and `begin` gave and of the images.

        May be traced. Not called where there are no steps.
        """
        return adapter, carried

    def review(self, adapter: Adapter, carried: Any, settings: Settings, params: Params, support: Support) -> Any:
        """What is carried on at the end of an epoch, once it was looked at on the validation images."""
        return carried

    def fit(
        self, adapter: Adapter, carried: Any, settings: Settings, params: Params, support: Support
    ) -> tuple[Adapter, dict[str, float]]:
        """What predictions are made with, after the last step or without any; and numbers for the log.

        Called for each run alone, with NumPy or JAX arrays, and not traced. `init` made the adapter where there are no
        steps, and nothing is carried. The shapes are `learned_like`'s.
        """
        return adapter, {}

    def spread(self, shards: int, class_chunk: int) -> Self:
        """The same method with its class prompts dealt to so many groups of devices, see `Split.spread`."""
        return dataclasses.replace(self, split=self.split.spread(shards, class_chunk))

    def adapter_like(self, params: Params, classes: int, start: Any) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an adapter of so many classes: all that is trained."""
        config = self.split.config
        ids = np.zeros((classes, config.context_length), np.int32)
        prompts: Any = Prompts(None, None, None, jnp.zeros((classes, config.embed_dim)), ids)  # type: ignore[arg-type]
        make = functools.partial(self.init, prompts=prompts, start=start)
        found: Any = jax.eval_shape(make, jax.random.key(0), params)
        return dict(found)

    def learned_like(self, params: Params, classes: int, start: Any) -> dict[str, jax.ShapeDtypeStruct]:
        """The same of what a finished run has: what its file holds."""
        return self.adapter_like(params, classes, start)

    def support_like(self, classes: int) -> Support:
        """Shapes and dtypes of what `meet` takes, without validation images."""
        width, like = self.split.config.embed_dim, jax.ShapeDtypeStruct
        rows: Any = [like((count, width), jnp.float32) for count in (self.images, 0, classes)]
        labels: Any = [like((count,), jnp.int32) for count in (self.images, 0)]
        return Support(rows[0], labels[0], rows[1], labels[1], rows[2])

    def structure(self) -> dict[str, Any]:
        """All that the method is beside the backbone, in JSON's types: what an adapter file says of it."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "split"}
        return {"vision_layer": self.split.vision_layer, "text_layer": self.split.text_layer, **own}

    @classmethod
    def restore(cls, structure: Mapping[str, Any], config: CLIPConfig, dtype: DTypeLike) -> Self:
        """The method that `structure` describes, on a backbone."""
        values: dict[str, Any] = dict(structure)
        values |= {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(Split(config, values.pop("vision_layer"), values.pop("text_layer"), dtype), **values)


def check_classes(method: Method, trained_on: Sequence[str], others: Mapping[str, Sequence[str]]) -> None:
    """Refuse class sets beside the one that was trained on where the method knows that one alone.

    Raises:
        UserError: there is one: with other classes, or some of these, or in another order.
    """
    known = tuple(trained_on)
    new = [name for name, class_names in others.items() if tuple(class_names) != known]
    if new and not method.open_classes:
        raise UserError(
            "The method knows the classes that it was trained on and no others, all of them and in their order; "
            f"{', '.join(new)} has others. Take --config=configs/few_shot.py, where all classes are trained on, or "
            "another config.method, or a form of it that takes any classes."
        )
