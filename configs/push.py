"""Put a finished training run on the Hugging Face Hub, for others to load.

    python -m dear_jax.main --config=configs/push.py --config.run=WORKDIR --config.repo=USER/NAME

Before it, `hf auth login`. Others then give `hf://USER/NAME` as config.run, or `Classifier.load("USER/NAME")`. With
--dry_run it says what would be uploaded.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """The defaults of `configs/base.py`; run and repository are flags."""
    config = base.get_config()
    config.job = "push"
    return config
