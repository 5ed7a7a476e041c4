"""What is asked of settings on several draws of classes: one row of `STUDIES` for each question.

A study trains its variants side by side on every draw, so that they are compared on the same images, and its tables
give differences to a reference that are paired by draw. Settings are chosen on `TUNING` draws alone; what a page
reports comes from `REPORTED`.
"""

import dataclasses
from collections.abc import Mapping

from dear_jax.data.world.tasks import draws as draws_of
from experiments.sweep.items import DRAWS as REPORTED

TUNING = tuple(f"world_compositions_{draw}" for draw in range(5, 15))
STARTS = (0.3, 0.5, 0.7, 0.9, 0.95)
LAMBDAS = (0, 0.1, 1)


@dataclasses.dataclass(frozen=True)
class Study:
    """A question.

    Attributes:
        question: what it asks.
        draws: data sets, each trained on once.
        variants: name -> settings of `config.variants`.
        reference: the variant that the others are compared with.
        seeds: trained side by side with the variants.
        twins: for each draw, a data set of the same classes that its adapters are measured on as well.
        choices: variants among which a selection without a test image can choose for each draw; empty: there is none.
    """

    question: str
    draws: tuple[str, ...]
    variants: dict[str, str]
    reference: str
    seeds: tuple[int, ...] = (1, 2, 3)
    twins: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    def twin(self, draw: str) -> str:
        """The twin of a draw; empty: it has none."""
        return self.twins[self.draws.index(draw)] if self.twins else ""

    def flags(self, draw: str) -> list[str]:
        """Of `dear_jax.main`, for one draw."""
        return [*self._training(draw, self.variants), f"--config.seeds={','.join(map(str, self.seeds))}"]

    def selection_flags(self, draw: str) -> list[str]:
        """The same of the job that chooses among `choices`, by two folds of three seeds and the config's own rule."""
        chosen_from = {name: self.variants[name] for name in self.choices}
        own = ["--config.job=select", "--config.select.folds=2", "--config.select.rules=learned"]
        return [*self._training(draw, chosen_from), *own]

    def _training(self, draw: str, variants: Mapping[str, str]) -> list[str]:
        listed = " | ".join(f"{name}: {settings}" for name, settings in variants.items())
        return [f"--config=configs/base2new.py:{draw}", f"--config.variants={listed}"]


MASKS = {
    "roles": "mask.pattern=roles",
    "permuted": "mask.pattern=permuted",
    "layer_wise": "mask.pattern=layer_wise",
    "only_generalization": "mask.pattern=only_generalization",
    "only_attribute": "mask.pattern=only_attribute",
    "open": "mask.pattern=open",
    "isolated": "mask.pattern=isolated",
}

DECISIONS = {
    "default": "loss.reg=1",
    "own_token_alone false": "mask.own_token_alone=false",
    "a projection for each attribute": "tokens.shared_projection=false",
    "projection drawn, not copied": "tokens.projection_init=normal",
    "beta 0.5": "tokens.beta=0.5",
    "beta 1": "tokens.beta=1",
    "init_std 0.002": "tokens.init_std=0.002",
    "lambda_reg 0": "loss.reg=0",
    "lambda_reg 5": "loss.reg=5",
    "regularization by l1": "loss.reg_form=l1",
    "regularization of all paths": "loss.reg_paths=all",
    "entry behind layer J": "tokens.vision_layer=6",  # of the embedded CLIP; before it, J is 5
    "2 text tokens": "tokens.text_count=2",
}
# By more than its interval, by the study `decisions`.
GAINED = ("default", "a projection for each attribute", "projection drawn, not copied", "init_std 0.002")

STUDIES = {
    "fusion": Study(
        "Where should the class path's weight start, and how strongly should the loss hold it up?",
        TUNING,
        {
            f"start_{start}_lambda_{weight}": f"fusion.class_start={start}; loss.fusion={weight}"
            for start in STARTS
            for weight in LAMBDAS
        },
        "start_0.5_lambda_0.1",
    ),
    "masks": Study(
        "Do masks help?",
        REPORTED,
        {
            **MASKS,
            **{f"random, seed {seed}": f"mask.pattern=random; mask.seed={seed}" for seed in range(10)},
            "open, lambda_reg 0": "mask.pattern=open; loss.reg=0",
        },
        "open",
        (1, 2, 3, 4, 5),
        choices=tuple(MASKS),
    ),
    "dose": Study(
        "How do masks do at every start of the class path's weight?",
        REPORTED,
        {
            f"{mask}, start {start}": f"{MASKS[mask]}; fusion.class_start={start}"
            for mask in ("roles", "permuted", "only_generalization", "open", "isolated")
            for start in (0.3, 0.5, 0.7, 0.9, 0.97)
        },
        "open, start 0.5",
    ),
    "spurious": Study(
        "Do masks help where the background tells the class in training, and not in the test?",
        draws_of("world_spurious"),
        MASKS,
        "open",
        (1, 2, 3, 4, 5),
    ),
    "stickers": Study(
        "Do masks help where each test picture carries a small picture of another class?",
        draws_of("world_stickers"),
        MASKS,
        "open",
        (1, 2, 3, 4, 5),
        twins=draws_of("world_unmarked"),
    ),
    "maps": Study(  # which experiments/README.md says how to make
        "Does it matter which role map the mask is made of?",
        REPORTED,
        {
            "roles": MASKS["roles"],
            "roles by chance thresholds": f"{MASKS['roles']}; mask.role_map=runs/map_by_chance/role_map.json",
            "roles by cause": f"{MASKS['roles']}; mask.role_map=runs/map_by_cause/role_map.json",
            "permuted": MASKS["permuted"],
            "open": MASKS["open"],
        },
        "open",
    ),
    "decisions": Study(
        "What do the decisions of this project cost or gain?",
        TUNING,
        DECISIONS,
        "default",
    ),
    "decisions_again": Study(
        "Do the decisions that gain on tuning draws gain on others?",
        REPORTED,
        {name: DECISIONS[name] for name in GAINED},
        "default",
    ),
}
