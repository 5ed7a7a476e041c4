"""Find out what each attention head of the deeper layers does (methods/dear section 1).

    python -m dear_jax.main --config=configs/find_roles.py                                    # the embedded CLIP
    python -m dear_jax.main --config=configs/find_roles.py:DATASET --config.backbone=DIR      # your CLIP and images

The workdir then holds `role_map.json` (give it to a training run with --config.mask.role_map=FILE), `roles.html`,
figures and tables. From the defaults comes the map that travels with the package, `dear_jax/roles/maps/embedded.json`.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(dataset: str = "world_scenes") -> ConfigDict:
    """The defaults of `configs/base.py`; the argument after the colon names the data set."""
    config = base.get_config()
    config.job = "find_roles"
    config.data.dataset = dataset
    if dataset.startswith("world"):
        # The embedded world has words for 42 values: 20 equal votes would name half of them for every head.
        config.roles.weight = "variance"
    return config
