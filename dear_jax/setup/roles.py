"""Which role map a run uses: the one it names, the shipped one, or one made first from its own training images.

Like `setup.py` it reads a config, and nothing below it does.
"""

import dataclasses
import hashlib
import shutil
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data.image_dataset import ImageDataset
from dear_jax.errors import UserError
from dear_jax.files import storage
from dear_jax.files.local_copy import local_folder
from dear_jax.files.workdir import Workdir
from dear_jax.methods.dear.model import Model
from dear_jax.parallel import processes
from dear_jax.roles import role_map as role_maps
from dear_jax.roles.analysis import Inputs, analyse, prepare
from dear_jax.roles.options import Options
from dear_jax.setup import data as setup_data


def mapped_roles(config: ConfigDict, backbone: Backbone, model: Model) -> role_maps.Roles:
    """The roles of the map that is named, else of the shipped one, else of one that is made first and kept."""
    path = config.mask.role_map
    if not path and jax.process_count() > 1:
        with processes.together():  # the first process makes it, the others find it
            if processes.is_first() and not find_role_map(config, backbone, model):
                _make_role_map(config, backbone, model)
    path = path or find_role_map(config, backbone, model)
    role_map = role_maps.load(path) if path else _make_role_map(config, backbone, model)
    role_maps.check(role_map, **_wanted(backbone, model))
    return role_map.roles


def find_role_map(config: ConfigDict, backbone: Backbone, model: Model) -> epath.Path | None:
    """The shipped map if it is of this backbone, layers and attributes, or one that an earlier run has made."""
    shipped = role_maps.load(role_maps.EMBEDDED)
    if role_maps.fits(shipped, **_wanted(backbone, model)):
        return role_maps.EMBEDDED
    made = role_map_path(config, backbone, model)
    return made if made.exists() else None


def _wanted(backbone: Backbone, model: Model) -> dict[str, Any]:
    tower, structure = model.config.vision, model.structure
    return {
        "fingerprint": backbone.fingerprint,
        "first_layer": structure.vision_layer,
        "layers": tower.layers - structure.vision_layer + 1,
        "heads": tower.heads,
        "attributes": structure.attributes,
    }


def _make_role_map(config: ConfigDict, backbone: Backbone, model: Model) -> role_maps.RoleMap:
    """From the training images of the config's data set; the next run with the same settings finds it again."""
    path = role_map_path(config, backbone, model)
    print(
        f"No role map is known for backbone {backbone.name} ({backbone.fingerprint}), layers "
        f"{model.structure.vision_layer} to {model.config.vision.layers} and the attributes "
        f"{', '.join(model.structure.attributes)}: making one from the training images of {config.data.dataset}.",
        flush=True,
    )
    with _hold(local_folder(path.with_suffix(".partial"))) as files:
        analysis = analyse(
            backbone,
            setup_data.open_dataset(config),
            first_layer=model.structure.vision_layer,
            attributes=model.structure.attributes,
            options=role_options(config),
            folder=files.path,
            skip_bad=config.data.skip_bad,
            workers=config.data.workers,
        )
        analysis.role_map.save(path)
        shutil.rmtree(files.path)
    print(f"The role map is {path}; later runs with these settings find it there.", flush=True)
    return analysis.role_map


def role_map_path(config: ConfigDict, backbone: Backbone, model: Model) -> epath.Path:
    """Where the map of this backbone, these images and these settings (and what their files say) is kept."""
    options = dataclasses.asdict(role_options(config))
    given = [storage.to_path(name) for name in (options["bank"], options["anchors"])]
    texts = [file.read_bytes() for file in given if file.is_file()]
    key = (options, texts, setup_data.places_of(config), model.structure.vision_layer, model.structure.attributes)
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:8]
    return storage.to_path(config.roles.cache) / f"{config.data.dataset}-{backbone.fingerprint}-{digest}.json"


def role_inputs(config: ConfigDict, backbone: Backbone, model: Model, dataset: ImageDataset) -> Inputs:
    """What a role map would be made of, checked without a look at any image."""
    return prepare(backbone, dataset.train, model.structure.attributes, role_options(config))


def role_options(config: ConfigDict) -> Options:
    """The settings of the analysis."""
    return Options(**{field.name: config.roles[field.name] for field in dataclasses.fields(Options)})


def _hold(path: epath.Path) -> Workdir:
    """The folder of what is decomposed: one process at a time, and an interrupted run goes on from it."""
    try:
        return Workdir(path)
    except UserError as error:
        raise UserError(f"A role map has to be made first, in a folder below config.roles.cache: {error}") from error
