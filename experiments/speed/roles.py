"""How long the analysis of heads takes beside the forward passes that it needs: CLIP ViT-B/16 with random weights.

    python -m experiments.speed.roles --images=400

prints seconds of plain forward passes over the images, of decomposing them, and of everything after it: moments,
TEXTSPAN over a bank of 3,000 descriptions, clustering, entropy. Encoding the bank by the text tower, once per
backbone, stands apart.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from dear_jax.clip.checkpoints import weights
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.roles import causes, concepts, contributions, sentences, textspan
from experiments.speed.case import VIT_B16

FIRST_LAYER, BANK, DESCRIPTIONS = 9, 3000, 20
RANK = 64  # 80, capped by what a head spans: its width
TEXT_LENGTH = 16  # tokens of a description, marks included
SENTENCE_WIDTH, CONCEPTS = 384, 12  # all-MiniLM-L6-v2's width; groups of the made-up sentence embeddings


class RandomTokenizer:
    """Ids without meaning."""

    def __call__(self, texts: list[str]) -> np.ndarray:
        """As many as there are texts."""
        ids = np.random.default_rng(0).integers(1, 49000, (len(texts), TEXT_LENGTH)).astype(np.int32)
        ids[:, -1] = VIT_B16.eos_token_id
        return ids


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch_size", type=int, default=50)
    arguments = parser.parse_args()
    backbone = Backbone("random", VIT_B16, weights.initialize(VIT_B16, seed=0), RandomTokenizer(), "0" * 16)
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (448, 448, 3), np.uint8)
    split = ImageSplit(
        np.zeros(arguments.images, int), lambda i: picture[i % 224 : i % 224 + 224, i // 224 : i // 224 + 224]
    )

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        causes.outputs(backbone, split, arguments.batch_size)
        plain = time.perf_counter() - start
        start = time.perf_counter()
        array = contributions.stream(backbone, split, FIRST_LAYER, folder=Path(folder), batch_size=arguments.batch_size)
        forward = time.perf_counter() - start
        start = time.perf_counter()
        bank = sentences.encode_texts(backbone, [""] * BANK)
        encoding = time.perf_counter() - start
        start = time.perf_counter()
        bits = analyse(array, bank, generator)
        analysis = time.perf_counter() - start
        size = array.nbytes / 2**20
    print(f"{arguments.images} images of ViT-B/16, layers {FIRST_LAYER} to 12: {size:.0f} MiB of contributions")
    print(f"plain passes    {plain:7.1f} s  ({arguments.images / plain:.1f} images/s, compilation included)")
    print(f"decomposing     {forward:7.1f} s  ({forward / plain:.2f} times that)")
    print(f"analysis        {analysis:7.1f} s  ({len(bits)} heads, {BANK} descriptions)")
    print(f"bank encoding   {encoding:7.1f} s  (once per backbone)")
    print(f"all of it       {(forward + analysis + encoding) / plain:7.2f} times the plain passes")


def analyse(array: np.ndarray, bank: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """All that follows the forward passes; sentence embeddings are made up, in groups."""
    centers = generator.normal(size=(CONCEPTS, SENTENCE_WIDTH))
    meaning = centers[np.arange(BANK) % CONCEPTS] + 0.5 * generator.normal(size=(BANK, SENTENCE_WIDTH))
    meaning /= np.linalg.norm(meaning, axis=1, keepdims=True)
    flat = array.reshape(len(array), -1, array.shape[-1])
    spans = textspan.textspan(textspan.moments(flat), bank, descriptions=DESCRIPTIONS, rank=RANK)
    used, places = np.unique(spans.picks, return_inverse=True)
    clusters = concepts.cluster(
        meaning[used],
        {"color": meaning[0]},
        min_cluster_size=2,
        min_samples=1,
        noise="nearest",
        name_similarity=0.5,
    )
    labels = clusters.labels[places.reshape(spans.picks.shape)]
    return concepts.entropy(concepts.distribution(labels, spans.variance, len(clusters.names), "count"))


if __name__ == "__main__":
    main()
