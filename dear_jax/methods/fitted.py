"""What methods have in common that work on plain CLIP's features of images alone: no token enters a tower.

They know the classes trained on and no others, and are fitted to the features of a `Support`, as a rule without steps.
"""

import dataclasses
from typing import Any, ClassVar

from jaxtyping import Array, Float, Int, PRNGKeyArray

from dear_jax.clip.layers import Params
from dear_jax.clip.split import Frozen, Prompts, Seen
from dear_jax.data.templates import A_PHOTO_OF_A, IMAGENET_7
from dear_jax.methods.contract import Adapter, Method, Targets


@dataclasses.dataclass(frozen=True)
class Fitted(Method):
    """A method without steps whose text features are plain CLIP's."""

    steps: ClassVar[bool] = False

    @property
    def open_classes(self) -> bool:
        """What was learned is of the classes trained on alone."""
        return False

    def targets(self, dataset: str, ensemble: tuple[str, ...]) -> Targets:
        """Of ImageNet and its variants seven templates, unless a user has given another."""
        unasked = dataset.startswith("imagenet") and ensemble == (A_PHOTO_OF_A,)
        return Targets(IMAGENET_7 if unasked else ensemble)

    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """Nothing, before the images are there."""
        return {}

    def classes(self, adapter: Adapter, settings: Any, frozen: Frozen) -> Float[Array, "C d"]:
        """Text features, unit length."""
        return frozen.prompts.features

    def features(self, adapter: Adapter, settings: Any, params: Params, seen: Seen) -> Float[Array, "B N d"]:
        """Plain CLIP's own."""
        return seen.features[:, None]

    def loss(
        self,
        adapter: Adapter,
        settings: Any,
        frozen: Frozen,
        seen: Seen,
        labels: Int[Array, "B"],
        carried: Any = (),
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """There is none without steps."""
        raise NotImplementedError(f"{type(self).__name__} has no steps, and no loss.")
