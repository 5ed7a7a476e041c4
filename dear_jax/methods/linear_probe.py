"""Linear probe: multinomial logistic regression on CLIP's image features; class names are not read.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020, appendix
A.3), with few shots as CoOp measured it: github.com/KaiyangZhou/CoOp, `lpclip`, at ff61507. With g the feature of an
image in the joint space, as it is and not of unit length, from the image as in evaluation:

    logit_c = w_c . g + b_c

by scikit-learn's LogisticRegression (L-BFGS, at most 1,000 iterations, L2). The inverse strength C is chosen on the few
validation images of CoOp's draw (at most four a class): first of 10^6, 10^4, ..., 10^-6, of the best the largest; then
in eight rounds, between its tenth and ten times it at first, the better end is taken and half of what lies between
dropped at the other, on a logarithmic scale. Learned are C d + C numbers.

Departures: the images are CoOp's draw for each seed, where `lpclip` draws by NumPy. ImageNet's validation images are
its test images, on which `lpclip` chooses: here they are training images that were not drawn. Without any, C is that
of the example in OpenAI's repository, 0.316. OpenAI's paper takes the features before the projection to the joint
space; `lpclip`, as here, those behind it.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dear_jax.clip.layers import Params
from dear_jax.clip.split import Prompts, Seen
from dear_jax.data.class_set import FEW
from dear_jax.errors import UserError
from dear_jax.methods.contract import Adapter, Support, Wanted
from dear_jax.methods.fitted import Fitted

EXPONENTS = (6.0, 4.0, 2.0, 0.0, -2.0, -4.0, -6.0)  # of the first sweep
ROUNDS = 8
UNCHOSEN = 0.316
ITERATIONS = 1000


class Settings(NamedTuple):
    """What variants may set apart without compiling again."""

    inverse_l2: Float[Array, ""]  # C; 0: chosen on validation images


@dataclasses.dataclass(frozen=True)
class LinearProbe(Fitted):
    """Weights and biases."""

    @property
    def wanted(self) -> Wanted:
        """All images as in evaluation, and few of the validation images."""
        return Wanted(0, FEW)

    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """Nothing of it starts without the images.

        Returns:
            weights `[C, d]`, bias `[C]`.
        """
        classes, width = prompts.features.shape
        return {"weights": jnp.zeros((classes, width)), "bias": jnp.zeros(classes)}

    def settings_like(self) -> Settings:
        """One number."""
        return Settings(jax.ShapeDtypeStruct((), jnp.float32))  # type: ignore[arg-type]

    def logits(
        self, adapter: Adapter, settings: Any, params: Params, classes: Float[Array, "C d"], seen: Seen
    ) -> Float[Array, "B N C"]:
        """Of the one path."""
        features = self.split.image_features(params, seen.prefix)
        return (features @ adapter["weights"].T + adapter["bias"][None])[:, None]

    def fit(
        self, adapter: Adapter, carried: Any, settings: Settings, params: Params, support: Support
    ) -> tuple[Adapter, dict[str, float]]:
        """The regression.

        Raises:
            UserError: there is one class alone.
        """
        if len(support.text) < 2:
            raise UserError("A linear probe tells two classes or more apart; there is one.")
        solve = functools.cache(lambda chosen: regress(support.features, support.labels, chosen))
        count = len(support.val_labels)

        def correct(exponent: float) -> int:
            return _count_correct(*solve(10.0**exponent), support.val_features, support.val_labels)

        chosen = float(settings.inverse_l2) or (10.0 ** sweep(correct) if count else UNCHOSEN)
        weights, bias = solve(chosen)
        notes = {"inverse_l2": chosen}
        if count:
            right = _count_correct(weights, bias, support.val_features, support.val_labels)
            notes["validation_accuracy"] = 100 * right / count
        return {"weights": np.float32(weights), "bias": np.float32(bias)}, notes  # type: ignore[dict-item]


def regress(
    features: Float[np.ndarray, "N d"], labels: Int[np.ndarray, "N"], inverse_l2: float
) -> tuple[Float[np.ndarray, "C d"], Float[np.ndarray, "C"]]:
    """Weights and biases of the regression on all of its classes, float64."""
    from sklearn.exceptions import ConvergenceWarning  # slow to import
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=inverse_l2, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak penalties often take all iterations
        warnings.filterwarnings("ignore", "The number of unique classes is greater")  # as with one shot
        model.fit(features.astype(np.float64), labels)
    weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:  # of two classes scikit-learn gives the difference
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return weights, bias


def sweep(correct: Callable[[float], int]) -> float:
    """log10 C, given how many validation images are right at one."""
    start = max(EXPONENTS, key=correct)  # the first of the best
    left, right = start - 1, start + 1
    chosen = start
    for _ in range(ROUNDS):
        middle = (left + right) / 2
        if correct(left) < correct(right):
            chosen, left = right, middle
        else:
            chosen, right = left, middle
    return chosen


def _count_correct(
    weights: np.ndarray, bias: np.ndarray, features: np.ndarray, labels: np.ndarray
) -> int:
    return int(np.sum(np.argmax(features @ weights.T + bias, axis=-1) == labels))
