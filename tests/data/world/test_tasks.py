"""The embedded world: reproducible pictures, true labels and captions, well-formed data sets."""

import pickle
import zlib

import numpy as np
import pytest

from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.world import captions, tasks, writing
from dear_jax.data.world.forms import ACCESSORIES, SHAPES, TEXTURES
from dear_jax.data.world.render import COLORS, SIZE, Shift, accessory_coverage, render, render_with_coverage
from dear_jax.data.world.scenes import ATTRIBUTES, NAMES, SIZES, draw_scenes

SHIFTS = [
    Shift(),
    tasks.SHIFT,
    Shift(clutter=5, darkness=0.4),
    Shift(outline=True, noise=0.1),
]


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
def test_a_scene_looks_the_same_alone_and_in_any_batch(shift: Shift) -> None:
    indices = np.array([7, 3, 2**40, 0, 12])
    together = render(draw_scenes(5, indices), shift)
    assert together.shape == (5, SIZE, SIZE, 3)
    assert together.dtype == np.uint8
    for picture, index in zip(together, indices, strict=True):
        np.testing.assert_array_equal(picture, render(draw_scenes(5, [index]), shift)[0])


def test_streams_differ() -> None:
    one, other = draw_scenes(1, range(50)), draw_scenes(2, range(50))
    assert (one.labels != other.labels).any(axis=1).mean() > 0.9
    assert len(np.unique(one.keys)) == 50


def test_every_value_of_the_vocabulary_can_be_painted() -> None:
    assert tuple(SHAPES) == ATTRIBUTES["shape"]
    assert tuple(TEXTURES) == ATTRIBUTES["texture"]
    assert tuple(ACCESSORIES) == ATTRIBUTES["object"]
    assert len(COLORS) == len(ATTRIBUTES["color"])


def test_attributes_are_uniform_and_independent() -> None:
    labels = draw_scenes(0, range(20_000)).labels
    for column, size in enumerate(SIZES):
        shares = np.bincount(labels[:, column], minlength=size) / len(labels)
        np.testing.assert_allclose(shares, 1 / size, atol=0.015)  # 5 standard errors
    correlations = np.corrcoef(labels.T) - np.eye(len(NAMES))
    assert np.abs(correlations).max() < 0.035  # 5 standard errors


def test_accessories_are_what_an_object_adds_beside_its_body() -> None:
    """Nothing else changes when the object does."""
    kinds = len(ATTRIBUTES["object"])
    scenes = [draw_scenes(3, range(20), {"object": np.full(20, value)}) for value in range(kinds)]
    for shift in (Shift(), tasks.SHIFT):
        found = [accessory_coverage(one, shift) for one in scenes]
        pictures = [render_with_coverage(one, shift) for one in scenes]
        for value, (share, (picture, body)) in enumerate(zip(found, pictures, strict=True)):
            other = (value + 1) % kinds
            assert share.min() >= 0
            assert (share + body).max() <= 1 + 1e-5
            assert ((share > 0.5).sum((1, 2)) > 10).all()
            differ = (picture != pictures[other][0]).any(-1)
            assert not differ[(share == 0) & (found[other] == 0)].any()


def test_plain_bodies_have_their_color() -> None:
    plain = ATTRIBUTES["texture"].index("plain")
    scenes = draw_scenes(3, range(200), {"texture": np.full(200, plain)})
    pictures, coverage = render_with_coverage(scenes)
    for picture, cover, color in zip(pictures, coverage, scenes.label("color"), strict=True):
        seen = np.median(picture[cover == 1].astype(np.float32), axis=0)
        direction = COLORS @ seen / np.linalg.norm(COLORS, axis=1)
        assert direction.argmax() == color


def test_bodies_stand_where_the_position_says() -> None:
    scenes = draw_scenes(4, range(300))
    _, coverage = render_with_coverage(scenes)
    axis = np.arange(SIZE) + 0.5
    mass = coverage.sum((1, 2))
    across = (coverage.sum(1) * axis).sum(1) / mass / SIZE
    down = (coverage.sum(2) * axis).sum(1) / mass / SIZE
    for x, y, label in zip(across, down, scenes.label("position"), strict=True):
        column = "left" if x < 0.4 else "right" if x > 0.6 else ""
        row = "top" if y < 0.4 else "bottom" if y > 0.6 else ""
        assert (f"{row} {column}".strip() or "center") == ATTRIBUTES["position"][label]
    assert mass.min() > 0.06 * SIZE**2


@pytest.mark.parametrize("attribute", NAMES)
def test_each_attribute_changes_the_picture(attribute: str) -> None:
    size = len(ATTRIBUTES[attribute])
    scenes = draw_scenes(6, np.full(size, 11), {attribute: np.arange(size)})
    pictures = render(scenes).astype(np.float32)
    differences = np.abs(pictures[:, None] - pictures[None]).mean((2, 3, 4))
    assert differences[~np.eye(size, dtype=bool)].min() > 0.5


@pytest.mark.parametrize(
    "shift",
    [Shift(rotation=12), Shift(hue_mix=0.2), Shift(tint=0.3), Shift(noise=0.1), Shift(clutter=3),
     Shift(outline=True), Shift(darkness=0.3)],
    ids=str,
)  # fmt: skip
def test_each_shift_changes_the_pictures_and_not_the_labels(shift: Shift) -> None:
    scenes = draw_scenes(8, range(20))
    assert np.abs(render(scenes, shift).astype(int) - render(scenes)).mean() > 0.5


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"color": "red", "shape": "heart", "texture": "striped"}, "striped red heart"),
        ({"object": "car"}, "car"),
        ({"color": "red", "object": "car", "shape": "star"}, "red star shaped car"),
        ({"position": "top left", "background": "sand"}, "thing at the top left on a sand background"),
    ],
)
def test_phrases(named: dict[str, str], expected: str) -> None:
    assert captions.phrase(named) == expected


def test_phrase_refuses_an_unknown_attribute() -> None:
    with pytest.raises(ValueError, match="size"):
        captions.phrase({"size": "big"})


def test_captions_mention_true_attributes_only() -> None:
    labels = draw_scenes(9, range(500)).labels
    texts, mentioned = captions.draw_captions(labels, np.random.default_rng(0))
    assert mentioned.any(axis=1).all()
    assert len(set(texts)) > 300
    for text, row, mask in zip(texts, labels, mentioned, strict=True):
        for name, value, is_mentioned in zip(NAMES, row, mask, strict=True):
            words = [word for word in ATTRIBUTES[name] if f" {word} " in f" {text.rstrip('.')} "]
            assert words == ([ATTRIBUTES[name][value]] if is_mentioned else []), text


@pytest.mark.parametrize("name", list(tasks.TASKS))
def test_data_sets(name: str) -> None:
    dataset = tasks.load(name)
    count = len(dataset.class_names)
    assert len(set(dataset.class_names)) == count >= 10
    # `world_scenes` is looked at for head roles, not trained on.
    train, test = (12, 5) if name == "world_scenes" else (32, 50)
    for split, least in ((dataset.train, train), (dataset.val, 4), (dataset.test, test)):
        assert np.bincount(split.labels, minlength=count).min() >= least
    last = len(dataset.test.labels) - 1
    np.testing.assert_array_equal(dataset.test.load(last), dataset.test.load(last))
    assert (dataset.test.load(0) != dataset.train.load(0)).any()
    assert dataset.train.load(5).shape == (SIZE, SIZE, 3)


def test_class_seeds_draw_other_classes() -> None:
    names = ["world_compositions", *(f"world_compositions_{draw}" for draw in range(1, 15))]
    draws = {frozenset(tasks.load(name).class_names) for name in names}
    assert len(draws) == 15


def test_classes_show_what_their_names_say() -> None:
    task = tasks.TASKS["world_compositions"]
    dataset, classes = tasks.load("world_compositions"), tasks.draw_classes(task)
    loader = dataset.train.load
    for index in (0, 41):
        named = classes[dataset.train.labels[index]]
        assert captions.phrase(named) == dataset.class_names[dataset.train.labels[index]]
        fixed = {name: np.array([ATTRIBUTES[name].index(value)]) for name, value in named.items()}
        scene = draw_scenes(tasks.stream_seed("world_compositions/train/0"), [index], fixed)
        np.testing.assert_array_equal(loader(index), render(scene, task.shift)[0])


def test_loaders_can_be_sent_to_other_processes() -> None:
    split = tasks.load("world_objects").train
    copy = pickle.loads(pickle.dumps(split))
    np.testing.assert_array_equal(copy.load(3), split.load(3))


def test_attributes_are_those_of_the_pictures() -> None:
    whole = tasks.load("world_objects").test
    split = whole.subset([3, 11]).keep_classes([1, 3])
    assert split.names == ("image 3", "image 11")
    assert set(split.attributes) == set(NAMES)
    for place, index in enumerate((3, 11)):
        scene = whole.load.scenes([index])
        for name, values in split.attributes.items():
            assert values[place] == ATTRIBUTES[name][scene.label(name)[0]]
        np.testing.assert_array_equal(split.load(place), render(scene, whole.load.shift)[0])


# Of the first scenes that were ever published: CRC of what training scenes show, sums over a picture's pixels.
PUBLISHED = {
    "world_compositions": (1614362115, [580388, 763324, 698432]),
    "world_objects": (3642704725, [1183685, 544643, 1200028]),
    "world_compositions_clutter": (1125968378, [621787, 866460, 1240373]),
    "world_compositions_outline": (1062141841, [1317703, 1110681, 1217530]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_scenes_are_those_that_results_were_made_of(name: str) -> None:
    crc, sums = PUBLISHED[name]
    dataset = tasks.load(name)
    shown = [dataset.train.attributes[key] == value for key in ("color", "background") for value in ATTRIBUTES[key]]
    assert zlib.crc32(np.stack(shown).tobytes()) == crc
    pictures = [dataset.train.load(0), dataset.train.load(17), dataset.test.load(5)]
    found = [picture.sum(dtype=np.int64) for picture in pictures]
    np.testing.assert_allclose(found, sums, atol=3)  # another CPU may round a pixel or two the other way
    assert dataset.test.groups is None


def test_the_background_tells_the_class_in_training_alone() -> None:
    dataset = tasks.load("world_spurious")
    values = np.array(ATTRIBUTES["background"])

    def share(split: ImageSplit) -> float:
        return float((split.groups == values[split.labels % len(values)]).mean())

    assert share(dataset.train) == pytest.approx(tasks.SPURIOUS_SHARE, abs=0.034)  # 3 standard errors of 384 scenes
    assert share(dataset.test) == pytest.approx(1 / 6, abs=0.019)  # of 3600
    assert share(dataset.val) == pytest.approx(1 / 6, abs=0.12)  # of 96
    rare = dataset.train.groups[dataset.train.groups != values[dataset.train.labels % len(values)]]
    assert len(set(rare)) > 2
    base = dataset.keep_classes(range(6))
    assert len({(label, group) for label, group in zip(base.test.labels, base.test.groups, strict=True)}) == 36
    assert not any("background" in name or value in name for name in dataset.class_names for value in values)


def test_spurious_scenes_are_painted_as_they_are_described() -> None:
    train = tasks.load("world_spurious_1").train
    background = [ATTRIBUTES["background"].index(train.groups[index]) for index in (2, 19)]
    scenes = train.load.scenes([2, 19])
    np.testing.assert_array_equal(scenes.label("background"), background)
    np.testing.assert_array_equal(train.load(19), render(scenes, train.load.shift)[1])


@pytest.mark.parametrize("mark", ["word", "sticker"])
def test_marked_pictures_are_the_clean_ones_with_something_of_another_class(mark: str) -> None:
    clean, marked = tasks.load("world_unmarked_2"), tasks.load(f"world_{mark}s_2")
    assert clean.class_names == marked.class_names
    np.testing.assert_array_equal(clean.train.load(7), marked.train.load(7))
    np.testing.assert_array_equal(clean.val.load(7), marked.val.load(7))
    names = np.array(marked.class_names)
    shown = marked.test.attributes[mark]
    assert (shown != names[marked.test.labels]).all()
    for half in (range(6), range(6, 12)):  # of base-to-new, so that the wrong class is one of those to choose from
        of_half = np.isin(marked.test.labels, half)
        assert set(shown[of_half]) == set(names[half])
    for index in (0, 1, 2, 3):
        one, other = clean.test.load(index).astype(int), marked.test.load(index).astype(int)
        changed = (one != other).any(axis=-1)
        assert 0.02 < changed.mean() < 0.5
        assert np.ptp(np.flatnonzero(changed.any(axis=1))) <= SIZE // 2
    copy = pickle.loads(pickle.dumps(marked.test))
    np.testing.assert_array_equal(copy.load(3), marked.test.load(3))


def test_words_are_written_in_capitals() -> None:
    written = writing.write("it l")
    assert ["".join(".#"[pixel] for pixel in row) for row in written[:9].astype(int)] == [
        ".............",
        "..###..#####.",
        "...#.....#...",
        "...#.....#...",
        "...#.....#...",
        "...#.....#...",
        "...#.....#...",
        "..###....#...",
        ".............",
    ]
    assert written.shape == (17, 13)
    assert written[9:, 1].sum() == 7


@pytest.mark.parametrize("text", ["", "Red", "red2"])
def test_other_letters_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="letters a to z"):
        writing.write(text)


def test_a_word_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="48 pixels at most"):
        writing.place(["checkered"], np.array([True]), SIZE)


def test_a_word_stands_where_it_is_told() -> None:
    ink, paper = writing.place(["red", "red"], np.array([True, False]), SIZE)
    np.testing.assert_array_equal(paper[0].any(axis=1), np.arange(SIZE) >= SIZE - 9)
    np.testing.assert_array_equal(ink[0, -9:], ink[1, :9])
    assert (ink <= paper).all()
