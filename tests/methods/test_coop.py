"""CoOp against what the official module gave, and in closed form."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base2new, few_shot
from dear_jax import Classifier, jobs
from dear_jax.clip.split import Split
from dear_jax.errors import UserError
from dear_jax.methods import adapter_file, learned_words, wording
from dear_jax.methods.contract import check_classes
from dear_jax.methods.coop import CoOp, Settings
from dear_jax.setup import methods as rows
from dear_jax.setup import recipes, values
from dear_jax.setup.methods import coop
from tests.methods import golden

X = (343,)  # "x", as a word
FOUR_X = X * 4


@pytest.fixture(scope="module")
def split():
    config, _ = golden.backbone()
    return Split(config, config.vision.layers, 1)


def call(split, learned, ids, **options):
    return golden.call(CoOp(split, **options), {"context": learned}, Settings(), ids)


@pytest.mark.slow
def test_a_random_context_gives_what_the_official_module_gave(split):
    learned = golden.adapter("coop.ctx", 4, 512, std=0.3)
    logits, loss, _, gradient = call(split, learned, golden.token_ids(FOUR_X), words="")
    expected = [[-0.3585, -2.2069, -5.1920], [3.0409, 1.1014, -1.3010]]
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(loss, 3.244540, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(gradient["context"]), 3.999041, rtol=1e-3)
    golden.check_gradient(gradient["context"], golden.array("coop_random", "grad"))


@pytest.mark.slow
def test_untrained_words_are_zero_shot_clip(split):
    _, params = golden.backbone()
    method, ids = CoOp(split), golden.token_ids()
    prompts = method.encode_prompts(params, ids)
    learned = method.init(jax.random.key(0), params, prompts, None)["context"]
    logits, loss, _, gradient = call(split, learned, ids)
    expected = [[-3.4977, -3.7339, -4.3248], [-0.1525, -3.1607, -2.8156]]
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(loss, 1.906223, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(gradient["context"]), 3.022443, rtol=1e-3)
    plain = golden.look(split, params, golden.images()).features @ prompts.features.T
    np.testing.assert_allclose(logits[:, 0], 100 * plain, atol=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("position", "front", "behind", "expected"),
    [
        ("middle", X * 2, X * 2, [[-2.4022, -7.8028, -5.1226], [2.5826, -3.2798, -1.6766]]),
        ("front", (), FOUR_X, [[-2.3530, -7.2328, -2.1262], [2.5340, -3.3377, 1.4446]]),
    ],
)
def test_contexts_of_each_class_stand_where_the_official_ones_do(split, position, front, behind, expected):
    learned = golden.adapter("coop.csc", 3, 4, 512, std=0.3)
    ids = golden.token_ids(front, (*behind, golden.DOT))
    logits = call(split, learned, ids, words="", position=position, class_specific=True)[0]
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("position", learned_words.POSITIONS)
def test_equal_contexts_of_all_classes_are_a_common_one(split, position):
    learned = golden.adapter("coop.ctx", 4, 512, std=0.3)
    front = {"end": 4, "middle": 2, "front": 0}[position]
    ids = golden.token_ids(X * front, (*X * (4 - front), golden.DOT))
    common = call(split, learned, ids, position=position)
    own = call(split, jnp.stack([learned] * 3), ids, position=position, class_specific=True)
    np.testing.assert_allclose(own[0], common[0], atol=2e-5)
    summed = own[3]["context"].sum(axis=0)
    np.testing.assert_allclose(summed, common[3]["context"], atol=1e-5 * np.abs(summed).max())


@pytest.mark.parametrize(
    ("keys", "protocol", "count"),
    [
        ({}, "base2new", 2_048),
        ({}, "few_shot", 8_192),
        ({"position": "middle"}, "few_shot", 8_192),
        ({"class_specific": True}, "few_shot", 100 * 8_192),
    ],
)
def test_as_many_numbers_as_published_are_learned(keys, protocol, count):
    assert golden.count_parameters("coop", "caltech101", protocol, 100, **keys) == count


@pytest.mark.parametrize(
    ("protocol", "dataset", "shots", "epochs", "tokens"),
    [
        ("base2new", "dtd", 16, 200, 4),
        ("base2new", "imagenet", 16, 50, 4),
        ("few_shot", "dtd", 1, 50, 16),
        ("few_shot", "dtd", 2, 100, 16),
        ("few_shot", "dtd", 4, 100, 16),
        ("few_shot", "dtd", 8, 200, 16),
        ("few_shot", "imagenet", 16, 50, 16),
        ("cross_dataset", "imagenet", 16, 50, 4),
    ],
)
def test_recipes_are_those_of_the_official_scripts(protocol, dataset, shots, epochs, tokens):
    recipe = rows.METHODS["coop"].recipe(protocol, dataset, shots)
    assert (recipe["train.epochs"], recipe["coop.tokens"], recipe["train.batch_size"]) == (epochs, tokens, 32)
    assert recipe["coop.words"] == ("" if protocol == "few_shot" else "a photo of a")
    assert (recipe["optimizer.name"], recipe["optimizer.learning_rate"]) == ("sgd", 2e-3)


@pytest.mark.parametrize(
    ("words", "position", "expected"),
    [
        ("a photo of a", "end", "a photo of a {}."),
        ("", "end", "X X X X {}."),
        ("", "middle", "X X {} X X ."),
        ("a photo of a", "front", "{} a photo of a ."),
    ],
)
def test_the_name_stands_among_the_words(words, position, expected):
    assert learned_words.template(words, 4, position) == expected


def test_an_odd_context_has_its_smaller_half_in_front():
    ends = np.array([6, 8], np.int32)
    assert learned_words.places(ends, 3, "middle").tolist() == [[1, 3, 4], [1, 5, 6]]
    assert learned_words.template("", 3, "middle") == "X {} X X ."


@pytest.fixture
def options():
    return coop.Options(tokens=4, words="a photo of a")


def test_words_and_tokens_must_agree(options):
    assert coop.problems(options) == {}
    assert coop.problems(coop.Options(4, "a_photo_of_a")) == {}
    expected = "4 words without braces, as many as config.coop.tokens, or none (a random start)"
    assert coop.problems(coop.Options(4, "a photo")) == {"words": expected}
    assert set(coop.problems(coop.Options(0, "", position="left"))) == {"tokens", "position"}


def test_more_tokens_than_the_text_tower_has_room_for_are_refused(clip_config):
    coop.build(coop.Options(16, ""), clip_config, np.float32)
    with pytest.raises(UserError, match=r"config.coop.tokens is 17: expected 1 to 16"):
        coop.build(coop.Options(17, ""), clip_config, np.float32)


def test_contexts_of_classes_know_these_alone(clip_config):
    method = coop.build(coop.Options(4, "", class_specific=True), clip_config, np.float32)
    known = ("cat", "dog")
    check_classes(method, known, {"base": known})
    for others in (("cat", "cow"), ("cat",), ("dog", "cat")):
        with pytest.raises(UserError, match="The method knows the classes that it was trained on and no others"):
            check_classes(method, known, {"base": known, "new": others})
    check_classes(coop.build(coop.Options(4, ""), clip_config, np.float32), known, {"new": ("cow",)})


def test_words_of_several_tokens_are_refused(clip_config):
    """A tokenizer that cuts "image" in two."""
    method = coop.build(coop.Options(2, "an image"), clip_config, np.float32)

    def tokenize(template):
        words = template.replace(".", " .").replace("image", "im age").split()
        ids = np.zeros((1, 20), np.int32)
        ids[0, : len(words) + 2] = [48, *range(1, len(words) + 1), 49]
        return ids

    with pytest.raises(UserError, match=r"the 2 words 'an image' of the prompt 'an image {}.', but these are 3 tokens"):
        wording.encode(method, {}, wording.Named("dtd", "{} texture.", ("{} texture.",), tokenize))


@pytest.mark.slow
def test_forms_of_the_context_train_side_by_side(tiny_clip, tmp_path, compilation_cache, few_test_scenes):
    """Each a program of its own; a class-specific one is measured on its classes, and refuses others."""
    changes = {
        "method": "coop",
        "backbone": tiny_clip,
        "seeds": (1, 2),
        "data.shots": 1,
        "train.epochs": 2,
        "train.batch_size": 5,
        "coop.tokens": 3,
        "coop.words": "",
        "variants": "end: | front: position=front | own: class_specific=True | both: class_specific=1; position=middle",
    }
    config = recipes.resolve(values.set_all(few_shot.get_config("world_objects"), changes))
    job = jobs.find("train").load()
    job.run(job.make_plan(config), tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["variants"].keys() == {"end", "front", "own", "both"}
    names = adapter_file.load(tmp_path / "run").class_names
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    for variant in ("front", "both"):
        classifier = Classifier.load(str(tmp_path / "run"), variant=variant)
        np.testing.assert_allclose(classifier([image]).probabilities.sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(UserError, match="all of them and in their order; the list of classes has others"):
        classifier.classes = names[::-1]

    config = recipes.resolve(values.set_all(base2new.get_config("world_objects"), changes))
    with pytest.raises(UserError, match=r"The method knows the classes that it was trained on .* new has others"):
        job.run(job.make_plan(config), tmp_path / "base2new")
