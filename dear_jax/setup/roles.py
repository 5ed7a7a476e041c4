"""Which role map a run uses: the one it names, the shipped one, or one made first from its own training images."""

import dataclasses
import functools
import hashlib
import re
import shutil
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.errors import UserError
from dear_jax.files import storage
from dear_jax.files.local_copy import local_folder
from dear_jax.files.workdir import Workdir
from dear_jax.parallel import agreement, processes
from dear_jax.roles import role_map as role_maps
from dear_jax.roles import sentences
from dear_jax.roles.analysis import analyse
from dear_jax.roles.options import Options, deeper_third
from dear_jax.roles.role_map import GENERALIZATION, RoleMap, Roles
from dear_jax.setup import data, values
from dear_jax.setup.data import DataPlan


@dataclasses.dataclass(frozen=True)
class RolePlan:
    """How role maps are made, and of which images: keys of `config.roles` and `.data`."""

    options: Options
    cache: str  # folder of the maps that training jobs make
    data: DataPlan
    workers: int


def read(config: ConfigDict) -> RolePlan:
    """The plan of a config."""
    return RolePlan(values.read(Options, config.roles), config.roles.cache, data.read(config), config.data.workers)


def first_layer(backbone: Backbone, asked: int | None) -> int:
    """J of an analysis: the layer that is asked for, else that of the deeper third.

    Raises:
        UserError: the backbone has no such layer.
    """
    layers = backbone.config.vision.layers
    layer = deeper_third(layers) if asked is None else asked
    if not 1 <= layer <= layers:
        raise UserError(f"config.roles.first_layer is {layer}: expected 1 to {layers}, the layers of the backbone.")
    return layer


class RoleMaps:
    """The role maps of a backbone. Where `make` is false none is made: what would be is noted, and stood in for."""

    def __init__(self, plan: RolePlan, backbone: Backbone, make: bool = True) -> None:
        self.plan, self.backbone, self.make = plan, backbone, make
        self.found: dict[str, str] = {}  # path -> what is to be said of it
        self.used: dict[str, dict[str, Any]] = {}  # path -> which map it is, by its SHA-256, and of what it was made
        self.missing: dict[epath.Path, tuple[int, tuple[str, ...]]] = {}  # path -> first layer and attributes

    def roles(self, named: str, first_layer: int, attributes: tuple[str, ...]) -> Roles:
        """The roles of the map that is named, else of the shipped one, else of one that is made first and kept.

        Raises:
            UserError: the map is of another backbone, of other layers or attributes, or cannot be read or made.
        """
        wanted = self._wanted(first_layer, attributes)
        if named:
            path: epath.Path | None = storage.to_path(named)
        elif self.make:
            path = self._find_or_make(wanted)
        else:
            path = self._find(wanted)
            if path is None:
                path = self._path(first_layer, attributes, self._encoder.key)
                self.found[str(path)] = f"to be made from the training images of {self.plan.data.dataset}"
                self.missing[path] = (first_layer, attributes)
                return NoRoleMaps(self.backbone.config.vision.layers, wanted["heads"]).roles("", first_layer, ())
            self.found[str(path)] = "found"
        role_map = role_maps.load(path)
        role_maps.check(role_map, **wanted)
        self.used[str(path)] = role_maps.describe(role_map, path)
        return role_map.roles

    def load(self, named: str, first: int | None, attributes: tuple[str, ...]) -> tuple[RoleMap, dict[str, Any]]:
        """The whole map that is named, of any layers, else that of the backbone; and what is to be noted of it.

        Args:
            named: its file; empty: that of the backbone, of layers `first`.. (None: the deeper third) and `attributes`.

        Raises:
            UserError: the map is of another backbone, or cannot be read or made.
        """
        if named:
            path = storage.to_path(named)
            role_map = role_maps.load(path)
            wanted = self._wanted(role_map.first_layer, role_map.attributes)
        else:
            wanted = self._wanted(first_layer(self.backbone, first), attributes)
            path = self._find_or_make(wanted)
            role_map = role_maps.load(path)
        role_maps.check(role_map, **wanted)
        if "entropy" not in role_map.details:
            raise UserError(f"Role map {path} lacks entropy, so that only its roles are known. Give one of find_roles.")
        return role_map, role_maps.describe(role_map, path)

    def _find_or_make(self, wanted: dict[str, Any]) -> epath.Path:
        """The shipped map if it fits; else the first process of a job looks for one or makes it, the others read it."""
        if role_maps.fits(role_maps.load(role_maps.EMBEDDED), **wanted):
            return role_maps.EMBEDDED  # wherever this process has it
        path = ""
        with processes.together():
            if processes.is_first():
                path = str(self._find(wanted) or self._make(wanted["first_layer"], wanted["attributes"]))
        return storage.to_path(agreement.from_first(path))

    def _find(self, wanted: dict[str, Any]) -> epath.Path | None:
        """The shipped map if it fits, or one that an earlier run has made.

        Where the preferred sentence encoder has made none, what another made in its stead counts as long as the
        preferred one cannot be loaded.
        """
        if role_maps.fits(role_maps.load(role_maps.EMBEDDED), **wanted):
            return role_maps.EMBEDDED
        place = (wanted["first_layer"], wanted["attributes"])
        made = self._path(*place, sentences.preferred(self.plan.options.sentence_encoder, self.backbone))
        if not made.exists():
            made = self._path(*place, self._encoder.key)
        return made if made.exists() else None

    @functools.cached_property
    def _encoder(self) -> sentences.SentenceEncoder:
        """The one that a map would be made by now."""
        return sentences.choose(self.plan.options.sentence_encoder, self.backbone)

    def _wanted(self, first_layer: int, attributes: tuple[str, ...]) -> dict[str, Any]:
        tower = self.backbone.config.vision
        return {
            "fingerprint": self.backbone.fingerprint,
            "first_layer": first_layer,
            "layers": tower.layers - first_layer + 1,
            "heads": tower.heads,
            "attributes": attributes,
        }

    def _make(self, first_layer: int, attributes: tuple[str, ...]) -> epath.Path:
        """From the training images of the plan's data set; the next run with the same settings finds it again."""
        path, backbone, plan = self._path(first_layer, attributes, self._encoder.key), self.backbone, self.plan
        print(
            f"No role map is known for backbone {backbone.name} ({backbone.fingerprint}), layers "
            f"{first_layer} to {backbone.config.vision.layers} and the attributes "
            f"{', '.join(attributes)}: making one from the training images of {plan.data.dataset}.",
            flush=True,
        )
        with _hold(local_folder(path.with_suffix(".partial"))) as files:
            storage.remove_temporaries(path.parent, path.name)
            analysis = analyse(
                backbone,
                data.open_dataset(plan.data),
                first_layer=first_layer,
                attributes=attributes,
                options=plan.options,
                folder=files.path,
                encoder=self._encoder,
                skip_bad=plan.data.places.skip_bad,
                workers=plan.workers,
            )
            analysis.role_map.save(path)
            shutil.rmtree(files.path)
        print(f"The role map is {path}; later runs with these settings find it there.", flush=True)
        return path

    def _path(self, first_layer: int, attributes: tuple[str, ...], encoder: str) -> epath.Path:
        """Where the map of this backbone, these images and these settings (and what their files say) is kept.

        Args:
            first_layer: J.
            attributes: the core attributes.
            encoder: key of the sentence encoder that makes the map.
        """
        plan = self.plan
        options = dataclasses.asdict(plan.options)
        given = [storage.to_path(name) for name in (options["bank"], options["anchors"])]
        texts = [file.read_bytes() for file in given if file.is_file()]
        key = (options, texts, plan.data.places, first_layer, attributes, encoder)
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:8]
        name = re.sub(r"[^\w.-]+", "_", encoder.rstrip("/").rsplit("/")[-1])
        return storage.to_path(plan.cache) / f"{plan.data.dataset}-{self.backbone.fingerprint}-{name}-{digest}.json"


@dataclasses.dataclass(frozen=True)
class NoRoleMaps:
    """Stands in for role maps where only shapes count: every head has the same role."""

    layers: int  # L
    heads: int

    def roles(self, named: str, first_layer: int, attributes: tuple[str, ...]) -> Roles:
        """A table of the right shape."""
        return ((GENERALIZATION,) * self.heads,) * (self.layers - first_layer + 1)


def _hold(path: epath.Path) -> Workdir:
    """The folder of what is decomposed: one process at a time, and an interrupted run goes on from it."""
    try:
        return Workdir(path)
    except UserError as error:
        raise UserError(f"A role map has to be made first, in a folder below config.roles.cache: {error}") from error
