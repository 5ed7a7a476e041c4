"""The settings of an analysis of heads, each in its range (methods/dear section 1)."""

import dataclasses

from dear_jax.errors import UserError
from dear_jax.roles import concepts

BY = ("entropy", "cause")
THRESHOLDS = ("quantile", "bits", "chance")


@dataclasses.dataclass(frozen=True)
class Options:
    """The keys of `config.roles`; configs/base.py has their meaning."""

    images: int
    seed: int
    batch_size: int
    bank: str
    anchors: str
    descriptions: int
    rank: int
    sentence_encoder: str
    min_cluster_size: int
    min_samples: int
    noise: str
    name_similarity: float
    weight: str
    thresholds: str
    low: float
    high: float
    level: float
    by: str
    causes: bool

    def check(self) -> None:
        """Refuse values outside their range, all in one message.

        Raises:
            UserError: every offending key with its value and what is expected.
        """
        limit = 1.0 if self.thresholds == "quantile" else float("inf")
        rules = {
            "images": (self.images >= 0, "0 (all) or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "descriptions": (1 <= self.descriptions <= self.rank, f"1 to config.roles.rank, which is {self.rank}"),
            "rank": (self.rank >= 1, "1 or more"),
            "min_cluster_size": (self.min_cluster_size >= 2, "2 or more"),
            "min_samples": (self.min_samples >= 1, "1 or more"),
            "noise": (self.noise in concepts.NOISE_CHOICES, f"one of {', '.join(concepts.NOISE_CHOICES)}"),
            "name_similarity": (-1 <= self.name_similarity <= 1, "a cosine, in [-1, 1]"),
            "weight": (self.weight in concepts.WEIGHTS, f"one of {', '.join(concepts.WEIGHTS)}"),
            "thresholds": (self.thresholds in THRESHOLDS, f"one of {', '.join(THRESHOLDS)}"),
            "low": (0 <= self.low <= self.high, f"0 to config.roles.high, which is {self.high}"),
            "high": (self.high <= limit, f"{limit} at most"),
            "by": (self.by in BY, f"one of {', '.join(BY)}"),
            "thresholds (with by=cause)": (
                self.by != "cause" or self.thresholds != "chance",
                "quantile or bits: what a head carries has no descriptions to shuffle",
            ),
            "level": (0 < self.level < 1, "a probability between 0 and 1, exclusive"),
        }
        problems = [
            f"config.roles.{key} is {getattr(self, key.partition(' ')[0])!r}, expected {expected}"
            for key, (valid, expected) in rules.items()
            if not valid
        ]
        if problems:
            raise UserError("; ".join(problems) + ".")


def deeper_third(layers: int) -> int:
    """First layer of a tower's deeper third, J: 9 of 12, as in the paper; 17 of 24."""
    return 2 * layers // 3 + 1
