"""Programs of a run's variants, and keys that do not fit the backbone or the data: all before the first step."""

import pytest

from dear_jax import main
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.errors import UserError
from dear_jax.setup import data
from dear_jax.setup.plans import train
from dear_jax.setup.programs import make_programs
from dear_jax.setup.roles import RoleMaps
from tests.repository import REPOSITORY

CONFIG = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("embedded")


def make_plan(*flags: str):
    config, _, _ = main.parse([CONFIG, *flags])
    return train.make_plan(config)


def programs_of(plan, backbone):
    return make_programs(plan.variants, plan.backbone, backbone.config, RoleMaps(plan.roles, backbone))


def test_variants_of_one_structure_are_one_program(backbone):
    plan = make_plan("--config.variants=a: | late: tokens.vision_layer=6 | b: loss.reg=0; optimizer.learning_rate=0.1")
    first, second = programs_of(plan, backbone)
    assert (first.names, second.names) == (("a", "b"), ("late",))
    assert first.settings.reg_weight.tolist() == [1.0, 0.0]
    assert first.rates.learning_rate.tolist() == pytest.approx([1e-3, 0.1])
    assert (first.method.split.vision_layer, second.method.split.vision_layer) == (5, 6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.dear.mask.set=1.0=mixed"], "the masked layers are"),
        (["--config.dear.mask.set=7.9=mixed"], "the masked heads are 0 to 7"),
        (
            ["--config.dear.mask.pattern=roles", "--config.dear.mask.role_map=absent.json"],
            "absent.json cannot be read",
        ),
        (["--config.dear.mask.file=absent.npy"], "absent.npy cannot be read"),
        (["--config.dear.tokens.vision_layer=99"], "config.dear.tokens.vision_layer is 99: expected 1 to"),
        (["--config.dear.tokens.text_layer=99"], "config.dear.tokens.text_layer is 99: expected 1 to 3"),
    ],
)
def test_what_does_not_fit_the_backbone_is_refused(backbone, flags, message):
    plan = make_plan(*flags)
    with pytest.raises(UserError) as error:
        programs_of(plan, backbone)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.data.dataset=world_object"], "there are world_objects, world_compositions,"),
        (["--config.data.template=photo"], "config.data.template is 'photo': expected a prompt with {} once"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(backbone, flags, message):
    plan = make_plan(*flags)
    with pytest.raises(UserError) as error:
        data.load_task(plan.data, backbone)
    assert message in str(error.value)
