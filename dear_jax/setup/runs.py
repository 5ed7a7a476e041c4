"""From a config to the trained run that it names (`config.run`), and its backbone."""

from ml_collections import ConfigDict

from dear_jax.clip.checkpoints import weights
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.errors import UserError
from dear_jax.files import storage
from dear_jax.files.workdir import DRAWN_SPLITS, Workdir, read_json
from dear_jax.methods import adapter_file as adapters
from dear_jax.methods.adapter_file import Trained
from dear_jax.setup import programs as setup


def load(config: ConfigDict) -> tuple[Trained | None, Backbone]:
    """The run's adapters with the backbone that they were trained on; without a run, the config's backbone.

    With a run, its own backbone, image size, tokens and masks count, whatever the config's keys for them say.

    Raises:
        UserError: the run or its backbone cannot be loaded.
    """
    if not config.run:
        return None, setup.load_backbone(config)
    trained = adapters.load(config.run)
    return trained, weights.load_backbone(config.run_backbone or trained.backbone, trained.image_size)


def load_chosen(config: ConfigDict) -> tuple[Trained, Backbone]:
    """The variant `config.run_variant` of the run, its seed `config.run_seed` or all seeds, and the backbone.

    Raises:
        UserError: there is no run, or not this variant or seed; the run or its backbone cannot be loaded.
    """
    if not config.run:
        raise UserError(
            f"config.run is empty: {config.job} needs what a training run has learned. Give the run's workdir by "
            "--config.run=WORKDIR."
        )
    trained, backbone = load(config)
    assert trained is not None
    return trained.select(config.run_variant, config.run_seed), backbone


def inherit_splits(config: ConfigDict, files: Workdir) -> None:
    """Where the run drew splits of the same images for itself, an evaluation must not draw others: it copies them."""
    earlier = storage.to_path(config.run) / DRAWN_SPLITS
    if not config.run or not earlier.is_file() or (files.path / DRAWN_SPLITS).exists():
        return
    theirs = read_json(storage.to_path(config.run) / "config.json")["data"]
    if all(theirs[key] == config.data[key] for key in ("dataset", "source", "root")):
        files.write_json(DRAWN_SPLITS, read_json(earlier))
