"""Classify images with what a run has learned, from Python.

    from dear_jax import Classifier

    classifier = Classifier.load("runs/mine", classes=["cat", "dog"])  # or a run on the hub: "USER/NAME"
    prediction = classifier("photos/*.jpg")      # or paths, PIL images, uint8 arrays
    print(prediction)                            # what the whole says, zero-shot CLIP, and each path; or a table
    prediction.probabilities                     # [images, classes]; prediction.paths["color"] is what color says
    classifier("photos/*.jpg", explain=True).explanations[0]  # of an image, per path: where a class's logit comes from

Probabilities are the softmax of fused logits (methods/dear section 4), of the logits of a path, and of zero-shot CLIP.
Of several seeds the mean of their probabilities is given.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Float, Int, UInt8

from dear_jax.clip import tokenizer as tokenizers
from dear_jax.clip.checkpoints import weights
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.clip.layers import Params
from dear_jax.clip.split import logit_scale
from dear_jax.data import prompts, unlabelled
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.unlabelled import Item
from dear_jax.errors import UserError, count
from dear_jax.evaluation import explanation
from dear_jax.evaluation.explanation import Explainer
from dear_jax.evaluation.features import ClassGroup, Encoder
from dear_jax.files import hub, storage
from dear_jax.methods import adapter_file, paths
from dear_jax.methods.adapter_file import Trained
from dear_jax.methods.contract import Adapter, Method, Settings, check_classes
from dear_jax.methods.paths import Rule
from dear_jax.report import predictions, tables, text_tables
from dear_jax.report.frames import to_frame
from dear_jax.report.heat_maps import Explained
from dear_jax.setup.backbones import DTYPES

if TYPE_CHECKING:
    import pandas

SHOWN = 20  # images, or names of classes, in a table on the screen


@dataclasses.dataclass(frozen=True, repr=False)
class Prediction:
    """What N images are, among C classes."""

    images: tuple[str, ...]  # their names
    class_names: tuple[str, ...]
    probabilities: np.ndarray  # float32 [N, C]: of the whole, rows sum to 1
    paths: Mapping[str, np.ndarray]  # float32 [N, C] for "class" and each further path, what it alone says
    zero_shot: np.ndarray  # float32 [N, C], what CLIP says without an adapter
    explanations: tuple[list[Explained], ...] = ()  # where asked for, of each image: of its predicted class, per path

    @property
    def labels(self) -> list[str]:
        """The most probable class of each image."""
        return [self.class_names[index] for index in self.probabilities.argmax(axis=1)]

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        return "\n".join(
            predictions.describe(name, self.class_names, row)
            for name, row in zip(self.images, self.rows(), strict=True)
        )

    def __repr__(self) -> str:
        return tables.to_markdown(self._table())

    def _repr_html_(self) -> str:
        return tables.to_html([self._table()])

    def _table(self) -> tables.Numbers:
        more = f", of which {SHOWN} are shown" if len(self) > SHOWN else ""
        caption = f"{count(len(self), 'image')} among {count(len(self.class_names), 'class')}{more}."
        return predictions.table(
            caption, self.class_names, itertools.islice(zip(self.images, self.rows(), strict=True), SHOWN)
        )

    def records(self) -> list[dict[str, str | float]]:
        """Per image its name, the prediction and its probability, and the same of zero-shot CLIP and of each path."""
        pairs = zip(self.images, self.rows(), strict=True)
        return [predictions.record(name, self.class_names, row) for name, row in pairs]

    def to_csv(self, path: epath.PathLike) -> None:
        """Write the records to a file, as the job `predict` does.

        Raises:
            UserError: it cannot be written.
        """
        pairs = zip(self.images, self.rows(), strict=True)
        rows = [predictions.row(name, self.class_names, row) for name, row in pairs]
        names = (predictions.WHOLE, predictions.ZERO_SHOT, *self.paths)
        try:
            storage.write_atomically(storage.to_path(path), text_tables.to_csv([predictions.header(names), *rows]))
        except storage.failures() as error:
            raise UserError(f"cannot write {path}: {storage.reason(error)}. Give a file that you may write.") from error

    def to_pandas(self) -> "pandas.DataFrame":
        """The records as a table of pandas.

        Raises:
            UserError: pandas is not installed.
        """
        return to_frame(self.records())

    def rows(self) -> Iterator[dict[str, np.ndarray]]:
        """Per image, float32 [C] for each of "all paths", "zero-shot CLIP", "class" and the further paths."""
        opinions = {predictions.WHOLE: self.probabilities, predictions.ZERO_SHOT: self.zero_shot, **self.paths}
        for index in range(len(self.images)):
            yield {name: values[index] for name, values in opinions.items()}

    def select(self, chosen: Sequence[int]) -> "Prediction":
        """The images at these places."""
        index = np.asarray(chosen, np.int64)
        return Prediction(
            tuple(self.images[i] for i in index),
            self.class_names,
            self.probabilities[index],
            {name: values[index] for name, values in self.paths.items()},
            self.zero_shot[index],
            tuple(self.explanations[i] for i in index) if self.explanations else (),
        )


class Classifier:
    """A trained adapter with classes to tell apart."""

    def __init__(
        self,
        trained: Trained,
        backbone: Backbone,
        classes: Sequence[str] | None = None,
        *,
        template: str = "",
        new_classes: str = "",
        dtype: str = "float32",
        matmul_precision: str = "float32",
        batch_size: int = 32,
        workers: int = 0,
        exif: bool = True,
    ):
        """Of adapters and their backbone in memory; `load` reads both from a run and describes the arguments."""
        if dtype not in DTYPES:
            raise UserError(f"dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}.")
        if batch_size < 1:
            raise UserError(f"batch_size: expected 1 or more, found {batch_size}.")
        self.trained, self.backbone = trained, backbone
        self.template = template or trained.template
        self._rule_of_new = paths.parse_rule(str(new_classes)) if new_classes else None
        self._exif, self._precision = exif, matmul_precision
        self._encoder = Encoder(trained, backbone, DTYPES[dtype], batch_size, workers)
        self._probabilities = jax.jit(
            functools.partial(_probabilities, self._encoder.method),
            static_argnames="rule",
            out_shardings=self._encoder.everywhere,
        )
        self.classes = trained.class_names if classes is None else classes

    @classmethod
    def load(
        cls,
        run: str | Path,
        classes: Sequence[str] | None = None,
        *,
        variant: str = "",
        seed: int | None = None,
        backbone: str = "",
        **options: Any,
    ) -> "Classifier":
        """The classifier that a training run has left.

        Args:
            run: the run's workdir, or its `adapter.safetensors`; or a repository of the Hugging Face Hub, as USER/NAME,
                and with a branch, tag or commit of it as USER/NAME@REVISION.
            classes: C different names; none: the classes that the run was trained on. They can be set anew at any time.
            variant: which, of a run with several; empty: the first.
            seed: which; none: the mean of what all seeds of the run say.
            backbone: where the frozen CLIP is, if no longer where the run had it.
            **options: template (a prompt with one {}; empty: that of the training), new_classes (how paths are weighed
                for classes that were not trained on: learned, class_only, equal or the weight of the class path; empty:
                the method's own rule),
                dtype (float32 or bfloat16), matmul_precision (of accelerators: float32, tensorfloat32 or bfloat16),
                batch_size (images at a time), workers (processes that read images), exif (whether to turn images as
                their EXIF tag says).

        Raises:
            UserError: no run, another backbone than the run's, or classes that cannot be told apart.
        """
        trained = adapter_file.load(hub.address(run)).select(variant, seed)
        return cls(trained, weights.load_backbone(backbone or trained.backbone, trained.image_size), classes, **options)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; setting them encodes their prompts.

        Raises:
            UserError: none, two that give the same prompt, or one that is too long for the text tower.
        """
        return self._class_names

    @classes.setter
    def classes(self, names: Sequence[str]) -> None:
        tokenize(names, self.template, self.backbone, self.trained.class_names)
        check_classes(self._encoder.method, self.trained.class_names, {"the list of classes": names})
        names = tuple(names)
        with jax.default_matmul_precision(self._precision):
            self._groups = self._encoder.classes(names, self.template)
        of_new = self._encoder.method.new_classes if self._rule_of_new is None else self._rule_of_new
        self._rule = of_new if self.trained.is_new(names) else "learned"
        self._class_names = names
        self.__dict__.pop("_explainer", None)

    @functools.cached_property
    def _explainer(self) -> Explainer:
        return explanation.of_run(self._encoder, self._groups, self._rule)

    def check_explainable(self) -> None:
        """Refuse a method of whose logits there are no maps.

        Raises:
            UserError: it says why.
        """
        explanation.check(self._encoder.method, self._encoder.run, self._encoder.params)

    def __repr__(self) -> str:
        return tables.to_markdown(self._table())

    def _repr_html_(self) -> str:
        return tables.to_html([self._table()])

    def _table(self) -> tables.Numbers:
        trained, classes = self.trained, ", ".join(self.classes[:SHOWN])
        more = f", and {len(self.classes) - SHOWN} more" if len(self.classes) > SHOWN else ""
        rows = {
            "method": trained.method,
            "backbone": f"{trained.backbone} ({trained.fingerprint})",
            "trained on": f"{trained.dataset}, {count(len(trained.class_names), 'class')}, "
            f"{count(trained.shots, 'shot')}",
            "seeds": ", ".join(map(str, trained.seeds)),
            "variant": trained.names[0],
            "paths": ", ".join(self.paths),
            "prompt": self.template,
            "classes": f"{classes}{more}",
        }
        return tables.Numbers("Classifier.", ("", ""), tuple(rows.items()))

    @property
    def paths(self) -> tuple[str, ...]:
        """The names of the paths, "class" first."""
        return self._encoder.paths

    def __call__(self, images: str | Path | Item | Sequence[Item], explain: bool = False) -> Prediction:
        """Probabilities of the classes for one or many images.

        Args:
            images: a text: a folder, a pattern such as "photos/**/*.jpg", a list of paths in a `.txt` file, or one
                file; or a path, a PIL image or an array uint8 `[H, W, 3]`; or a sequence of these.
            explain: also say where the logit of each predicted class comes from (`Prediction.explanations`).

        Raises:
            UserError: nothing is found, an image cannot be read, or there are no maps of the method.
        """
        found = unlabelled.gather(images, self._exif)
        parts = list(self.stream(found, explained=len(found) if explain else 0))
        return Prediction(
            found.names,
            self.classes,
            np.concatenate([part.probabilities for part, _ in parts]),
            {path: np.concatenate([part.paths[path] for part, _ in parts]) for path in self.paths},
            np.concatenate([part.zero_shot for part, _ in parts]),
            tuple(one for part, _ in parts for one in part.explanations),
        )

    def stream(
        self, images: ImageSplit, skip_bad: bool = False, explained: int = 0
    ) -> Iterator[tuple[Prediction, np.ndarray]]:
        """Predictions batch by batch in the images' order, and bool `[B]`: which could be read.

        What could not be read is an error, or, with `skip_bad`, has a prediction without meaning. The first `explained`
        images are explained, too.
        """
        start, all_names = 0, images.names
        with jax.default_matmul_precision(self._precision):
            for pixels, valid in self._encoder.batches(images, skip_bad):
                names = all_names[start : start + len(valid)]
                wanted = min(len(names), explained - start)
                start += len(names)
                found = self._probabilities(
                    self._encoder.params, *self._encoder.run, self._groups, pixels, rule=self._rule
                )
                whole, of_paths, zero_shot = (np.asarray(array)[: len(names)] for array in found)
                by_path = {name: of_paths[:, i] for i, name in enumerate(self.paths)}
                explanations: tuple[list[Explained], ...] = ()
                if wanted > 0:
                    chosen = np.resize(whole.argmax(axis=1), len(valid))[:, None]  # of what fills up a batch: any
                    explanations = tuple(self._explainer(pixels, chosen, self.classes))[:wanted]
                prediction = Prediction(names, self.classes, whole, by_path, zero_shot, explanations)
                yield prediction, valid[: len(names)]


def tokenize(
    names: Sequence[str], template: str, backbone: Backbone, trained: Sequence[str]
) -> tuple[list[str], Int[np.ndarray, "C T"]]:
    """The prompts of the classes, and their token ids.

    Classes of one name are no mistake where the run was `trained` on these very classes: its data set has them.

    Raises:
        UserError: there is no class, two give the same prompt, or one is too long for the text tower.
    """
    if isinstance(names, str):
        raise UserError(f"classes: expected a list of names, found the text {names!r}; give [{names!r}].")
    if not len(names):
        raise UserError("The list of classes is empty. Give the names to tell apart, such as cat,dog.")
    texts = prompts.prompts(names, template)
    token_ids = backbone.tokenizer(texts)
    if tuple(names) != tuple(trained):
        prompts.check_distinct(names, token_ids)
    return texts, tokenizers.shorten(token_ids)


def _probabilities(
    method: Method,
    params: Params,
    adapter: Adapter,
    settings: Settings,
    groups: Sequence[ClassGroup],
    images: UInt8[Array, "B h w 3"],
    rule: Rule,
) -> tuple[Float[Array, "B C"], Float[Array, "B N C"], Float[Array, "B C"]]:
    """Of the whole, of each path and of zero-shot CLIP; seed by seed, so that the memory is that of one.

    Leaves of `adapter` are `[S, 1, ...]`, of `settings` `[1, ...]`, of the groups' classes `[S, ...]`.
    """
    seen = method.split.look(params, images)
    settings = jax.tree.map(lambda leaf: leaf[0], settings)

    def of_seed(seed: tuple[Adapter, list[Any]]) -> tuple[Array, Array]:
        adapter, classes = seed
        parts = [method.logits(adapter, settings, params, group, seen) for group in classes]
        logits = jnp.concatenate(parts, axis=-1)
        weights = paths.rows(method.weights(adapter, settings), [rule])[0]
        return jax.nn.softmax(paths.combine(logits, weights)), jax.nn.softmax(logits)

    def add(total: tuple[Array, Array], seed: tuple[Adapter, list[Any]]) -> tuple[tuple[Array, Array], None]:
        return jax.tree.map(jnp.add, total, of_seed(seed)), None

    seeds = (jax.tree.map(lambda leaf: leaf[:, 0], adapter), [group.adapted for group in groups])
    shapes = jax.eval_shape(of_seed, jax.tree.map(lambda leaf: leaf[0], seeds))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (whole, of_paths), _ = jax.lax.scan(add, zeros, seeds)
    seed_count = len(jax.tree.leaves(adapter)[0])
    plain = jnp.concatenate([group.plain for group in groups])
    zero_shot = jax.nn.softmax(logit_scale(params) * seen.features @ plain.T)
    return whole / seed_count, of_paths / seed_count, zero_shot
