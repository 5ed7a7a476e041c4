"""MMRL and MMRL++ against what the official modules gave, and in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip.split import Split
from dear_jax.methods import mmrl, mmrlpp
from dear_jax.methods.mmrl import MMRL
from dear_jax.methods.mmrlpp import MMRLPP
from dear_jax.setup import methods as rows
from tests.methods import golden

pytestmark = pytest.mark.slow
LAYERS = range(3)  # blocks 2 to 4
REP = "mmrl.representation_learner.compound_rep_tokens"
SRRA = "mmrlpp.representation_learner.srra_r2"


def official_mmrl():
    """The rule's arrays, and the golden file's names of each leaf: `{leaf: (names, transposed)}`."""
    learned = {
        "tokens": golden.adapter(REP, 5, 512, std=0.3),
        "projection": golden.adapter("mmrl.visual.proj_rep", 768, 512, std=768**-0.5),
    }
    for tower, width in (("vision", 768), ("text", 512)):
        names = [f"{REP}_r2{tower[0]}proj.{i}" for i in LAYERS]
        kernels = [golden.adapter(f"{name}.weight", width, 512, std=512**-0.5).T for name in names]
        learned[f"{tower}_kernel"] = jnp.stack(kernels)
        learned[f"{tower}_bias"] = jnp.stack([golden.adapter(f"{name}.bias", width, std=0.02) for name in names])
    return learned


def official_mmrlpp():
    learned = {
        "tokens": golden.adapter(f"mmrlpp.{REP.removeprefix('mmrl.')}", 5, 512, std=0.3),
        "projection_a": golden.adapter("mmrlpp.visual.A", 768, 64, std=1 / 8),
        "projection_b": golden.adapter("mmrlpp.visual.B", 64, 512, std=0.05),
    }
    for tower, width in (("vision", 768), ("text", 512)):
        name = f"{SRRA}{tower[0]}proj"
        learned[f"{tower}_kernel"] = golden.adapter(f"{name}.weight", width, 512, std=512**-0.5).T
        for leaf, shape, std in (("A", (width, 4), 0.1), ("B", (4, 512), 0.1), ("bias", (width,), 0.02)):
            layers = [golden.adapter(f"{name}.srra.{i}.{leaf}", *shape, std=std) for i in LAYERS]
            learned[f"{tower}_{leaf.lower()}"] = jnp.stack(layers)
    return learned


@pytest.fixture(scope="module")
def split():
    return Split(golden.backbone()[0], 2, 2)


@pytest.fixture(scope="module")
def found(split):
    settings = mmrl.Settings(jnp.float32(0.5), jnp.float32(0.7))
    return golden.call(MMRL(split), official_mmrl(), settings, golden.token_ids())


@pytest.fixture(scope="module")
def found_pp(split):
    settings = mmrlpp.Settings(jnp.float32(0.5), jnp.float32(0.7), jnp.float32(0.9))
    return golden.call(MMRLPP(split), official_mmrlpp(), settings, golden.token_ids())


def test_logits_and_loss_are_those_of_the_official_module(found):
    logits, loss, _, _ = found
    fused = 0.7 * logits[:, 0] + 0.3 * logits[:, 1]
    expected = [[-3.9479, 0.6668, -6.5127], [-0.9307, -0.8057, -5.1709]]
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(fused, [[-1.9192, 1.6724, -2.8081], [0.1296, -0.5169, -2.1720]], atol=1e-4)
    np.testing.assert_allclose(loss, 2.207342, atol=1e-5)


def test_logits_and_loss_of_the_second_version(found_pp):
    logits, loss, _, _ = found_pp
    expected = [[-5.0595, -2.8249, -10.0750], [-0.9461, -3.2687, -9.8126]]
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(loss, 3.502719, atol=1e-5)


def test_gradients_are_the_official_ones(found):
    gradient = found[3]
    file = golden.read("mmrl")
    rep = "representation_learner.compound_rep_tokens"
    np.testing.assert_allclose(found[0][:, 1], file["logits_rep"], atol=1e-4)
    golden.check_gradient(gradient["tokens"], file[f"grad.{rep}"], "tokens")
    norm = np.linalg.norm(gradient["projection"])
    np.testing.assert_allclose(norm, file["gradnorm.image_encoder.proj_rep"], rtol=1e-3)
    for tower in ("vision", "text"):
        for i in LAYERS:
            name = f"{rep}_r2{tower[0]}proj.{i}"
            golden.check_gradient(gradient[f"{tower}_bias"][i], file[f"grad.{name}.bias"], name)
            norm = np.linalg.norm(gradient[f"{tower}_kernel"][i])
            np.testing.assert_allclose(norm, file[f"gradnorm.{name}.weight"], rtol=1e-3)


def test_gradients_of_the_second_version(found_pp):
    gradient, file = found_pp[3], golden.read("mmrlpp")
    np.testing.assert_allclose(found_pp[0][:, 1], file["logits_rep"], atol=1e-4)
    golden.check_gradient(gradient["tokens"], file["grad.representation_learner.compound_rep_tokens"], "tokens")
    golden.check_gradient(gradient["projection_a"], file["grad.image_encoder.A"], "A")
    golden.check_gradient(gradient["projection_b"], file["grad.image_encoder.B"], "B")
    for tower in ("vision", "text"):
        name = f"representation_learner.srra_r2{tower[0]}proj"
        norm = np.linalg.norm(gradient[f"{tower}_kernel"])
        np.testing.assert_allclose(norm, file[f"gradnorm.{name}.weight"], rtol=1e-3)
        for leaf in ("A", "B", "bias"):
            for i in LAYERS:
                expected = file[f"grad.{name}.srra.{i}.{leaf}"]
                golden.check_gradient(gradient[f"{tower}_{leaf.lower()}"][i], expected, f"{name} {leaf} {i}")


def test_the_second_version_without_its_additions_is_the_first_with_one_map(split, found):
    """beta 1, no addition, equal biases, the same projection."""
    one, config = official_mmrl(), split.config
    names = [f"{tower}_{kind}" for tower in ("vision", "text") for kind in ("kernel", "bias")]
    shared = {name: one[name][0] for name in names}
    first = one | {name: jnp.stack([leaf] * len(LAYERS)) for name, leaf in shared.items()}
    # A B = P - CLIP's own projection, exactly, where the rank is that of the joint space.
    _, params = golden.backbone()
    second = {
        "tokens": one["tokens"],
        "projection_a": one["projection"] - params["visual_projection"]["kernel"],
        "projection_b": jnp.eye(512),
    }
    for tower, width in (("vision", config.vision.width), ("text", config.text.width)):
        second |= {f"{tower}_kernel": shared[f"{tower}_kernel"], f"{tower}_bias": first[f"{tower}_bias"]}
        second |= {f"{tower}_a": jnp.ones((3, width, 4)), f"{tower}_b": jnp.zeros((3, 4, 512))}
    weights = jnp.float32(0.5), jnp.float32(0.7)
    ids = golden.token_ids()
    expected = golden.call(MMRL(split), first, mmrl.Settings(*weights), ids)[:2]
    method = MMRLPP(split, projection_rank=512)
    again = golden.call(method, second, mmrlpp.Settings(*weights, jnp.float32(1)), ids)[:2]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), again, expected)


@pytest.mark.parametrize(
    ("name", "dataset", "count"),
    [("mmrl", "dtd", 4_992_256), ("mmrl", "eurosat", 18_762_496), ("mmrlpp", "dtd", 813_312)],
)
def test_as_many_numbers_as_published_are_learned(name, dataset, count):
    assert golden.count_parameters(name, dataset) == count


def test_each_data_set_has_its_weights():
    recipe = rows.METHODS["mmrl"].recipe("base2new", "stanford_cars", 16)
    assert recipe["mmrl.reg"] == 7
    assert rows.METHODS["mmrl"].recipe("cross_dataset", "imagenet", 16)["mmrl.reg"] == 0.2
    assert rows.METHODS["mmrlpp"].recipe("few_shot", "dtd", 4)["train.epochs"] == 100
