"""Strings to ids: those of OpenAI's CLIP (open_clip's SimpleTokenizer) and of transformers, on the real vocabulary."""

import gzip
import html
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from transformers import CLIPTokenizer

from dear_jax.clip import tokenizer
from dear_jax.clip.checkpoints import weights
from dear_jax.clip.checkpoints.hub import Directory
from dear_jax.clip.tokenizer import Tokenizer, clean, shorten
from dear_jax.errors import UserError

# Both libraries agree on these.
PLAIN = [
    "a photo of a yellow-bellied sapsucker, a type of bird.",
    "",
    "  many   blanks\tand\nlines ",
    "2012 Mercedes-Benz E-Class Sedan's boot; isn't it?",
    "Ünïcode ÉCOLE naïve café Ångström ñandú",
    "漢字 и кириллица ελληνικά עברית العربية हिन्दी ไทย 한국어",
    "🐈 cat 🚀🚀 👩‍👩‍👧",
    "100% $5.00 (a+b)*c_d/e\\f #tag @me ~ ^ | <b>",
    "don't we'll I'm you're they've he'd",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "e\u0301 as two characters, \u00e9 as one",
    "İstanbul STRASSE straße",
]
# open_clip and OpenAI's CLIP decode entities and repair typography, transformers does not.
CLEANED = [
    "tom &amp; jerry &lt;3",
    "twice &amp;amp; escaped &amp;#39;quote&amp;#39;",
    "\u201cquoted\u201d bird\u2019s nest",  # curly quotes become straight
    "l\u2019\u0153uvre of \ufb01ne \ufb02owers",  # ligatures are taken apart
    "\uff46\uff55\uff4c\uff4c \uff57\uff49\uff44\uff54\uff48",  # full width becomes normal
    "schÃ¶n",  # UTF-8 that was read as Latin-1
    "ΌΔΟΣ",  # a word's last sigma has a lower case of its own
]
BLOCKS = [(0x20, 0x7E), (0xA0, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x64A), (0x904, 0x939)]
BLOCKS += [(0x1E00, 0x1FFF), (0x2000, 0x206F), (0x3040, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xACFF), (0x1F300, 0x1F6FF)]


def random_texts(count: int) -> list[str]:
    """Words of random characters, ASCII and one other script each."""
    generator = random.Random(0)
    texts = []
    for _ in range(count):
        blocks = (BLOCKS[0], generator.choice(BLOCKS))
        words = [generator.choice(blocks) for _ in range(generator.randint(1, 4))]
        texts.append(" ".join("".join(map(chr, generator.choices(range(*block), k=5))) for block in words))
    return texts


BLANKS = list(" \t\n\r\x0b\x85\u00a0\u2003\u2028\u200b\u3000\ufeff")
MARKS = ["!", "!!", "?!", "'s", "'S", "'re", "'\u017f", "<|endoftext|>", "<end_of_text>", "<START_OF_TEXT>", "</w>"]
MARKS += ["\u0301", "\u200d", "\ufe0f", "\u212a", "\u0130"]
WORDS = ["a", "photo", "dog's", "Mercedes-Benz", "naïve", "schÃ¶n", "ﬁne", "ΌΔΟΣ", "👩\u200d👩\u200d👧"]
ENTITIES = list(html.entities.html5)


def random_piece(generator: random.Random) -> str:
    """A word, a mark, a blank, an entity, Latin characters, or any characters of Unicode."""

    def character(limit: int) -> str:
        code = generator.randrange(limit)
        return chr(code if not 0xD800 <= code < 0xE000 else code - 0x800)  # no surrogate

    kind = generator.randrange(6)
    if kind < 3:
        return generator.choice((WORDS, MARKS, BLANKS)[kind])
    if kind == 3:
        number = generator.choice((f"#{generator.randrange(0x110000)};", f"#x{generator.randrange(999):x};"))
        return "&" + generator.choice((generator.choice(ENTITIES), number))
    limits = (0x250,) if kind == 4 else (0x3000, 0x10000, 0x20000, 0x110000)
    return "".join(character(generator.choice(limits)) for _ in range(generator.randint(1, 4)))


@pytest.fixture(scope="module")
def openai():
    return SimpleTokenizer()


@pytest.fixture(scope="module")
def directory(openai, tmp_path_factory):
    """OpenAI's vocabulary as every checkpoint on the hub carries it."""
    directory = tmp_path_factory.mktemp("tokenizer")
    marks = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    (directory / "vocab.json").write_text(json.dumps({marks.get(key, key): i for key, i in openai.encoder.items()}))
    merges = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def ours(directory):
    return Tokenizer(directory, 77)


def test_ids_are_those_of_openai_and_open_clip(ours, openai):
    texts = [*PLAIN, *CLEANED, *random_texts(400)]
    np.testing.assert_array_equal(ours(texts), openai(texts).numpy())


@pytest.mark.parametrize(("seed", "count"), [(0, 1000), pytest.param(1, 10_000, marks=pytest.mark.slow)])
def test_ids_are_open_clips_for_any_text(seed, count, ours, openai):
    generator = random.Random(seed)
    for _ in range(count):
        pieces = [random_piece(generator) for _ in range(generator.randint(1, 6))]
        text = "".join(piece + generator.choice(("", "", " ")) for piece in pieces)
        (row,) = ours([text])
        expected = openai.encode(text)
        assert row[1 : len(expected) + 2].tolist() == [*expected, 49407], ascii(text)


def test_a_padding_token_that_is_a_character_stays_one(ours, openai, directory, tmp_path):
    """As in the files made for open_clip's towers, which pad with id 0, "!"."""
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "!"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(marks))
    texts = ["a photo of a cat!", "wow! a dog!!", "!"]
    np.testing.assert_array_equal(Tokenizer(tmp_path, 77)(texts), openai(texts).numpy())


def test_ids_are_those_of_transformers_wherever_both_libraries_agree(ours, openai, directory):
    reference = CLIPTokenizer.from_pretrained(directory)
    agreeing = [text for text in random_texts(400) if reference(text)["input_ids"][1:-1] == openai.encode(text)]
    assert len(agreeing) > 300
    for text in [*PLAIN, *agreeing]:
        expected = reference(text)["input_ids"]
        (row,) = ours([text])
        np.testing.assert_array_equal(row[: len(expected)], expected)
        assert not row[len(expected) :].any()
    for text in CLEANED:  # cleaning is the only difference
        assert reference(clean(text))["input_ids"][1:-1] == openai.encode(text) != reference(text)["input_ids"][1:-1]


def test_one_file_in_place_of_two(ours, directory, tmp_path):
    CLIPTokenizer.from_pretrained(directory).save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    np.testing.assert_array_equal(Tokenizer(tmp_path, 77)(PLAIN), ours(PLAIN))
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]  # as older files have them
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    np.testing.assert_array_equal(Tokenizer(tmp_path, 77)(PLAIN), ours(PLAIN))


def test_openais_own_file(ours, tmp_path):
    shutil.copy(default_bpe(), tmp_path / tokenizer.OPENAI)
    found = Tokenizer(tmp_path, 77)
    np.testing.assert_array_equal(found(PLAIN), ours(PLAIN))
    assert found.digest == ours.digest


def test_empty_text_and_no_text(ours):
    assert ours([""]).tolist() == [[49406, 49407] + [0] * 75]
    assert ours([]).shape == (0, 77)
    assert ours(["cat"]).dtype == np.int32


def test_overlong_prompts_are_named_all_at_once(ours):
    longest, long = "red " * 75, "a photo of a " + "giraffe " * 100
    assert ours([longest]).all()  # exactly 77
    with pytest.raises(UserError) as caught:
        ours(["short", long, "blue " * 76])
    for hint in (
        "2 prompts have more tokens than the 77 of",
        "a photo of a giraffe giraffe ",
        "...' (106), 'blue ",
        "...' (78)",
        "config.data.template",
        "config.roles.bank",
    ):
        assert hint in str(caught.value)


def test_shorten_keeps_the_longest_text(ours):
    ids = ours(["one", "a photo of a striped red heart on a brick wall at the top left"])
    short = shorten(ids)
    longest = int((ids != 0).sum(axis=1).max())
    assert short.shape[1] == -(-longest // 8) * 8
    np.testing.assert_array_equal(ids[:, : short.shape[1]], short)
    assert not ids[:, short.shape[1] :].any()


def test_missing_and_broken_files_are_named(tmp_path, clip_config):
    with pytest.raises(UserError, match=r"expected a tokenizer: tokenizer.json, or vocab.json and merges.txt, or"):
        tokenizer.load(Directory(tmp_path), clip_config)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer.json is not valid JSON"):
        tokenizer.load(Directory(tmp_path), clip_config)


def test_a_text_of_millions_of_characters_is_answered_at_once(ours):
    with pytest.raises(UserError) as caught:
        ours(["a" * 5_000_000, "ab " * 1_000_000])
    assert len(str(caught.value)) < 1000


def change(path, edit) -> None:
    path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("merges.txt", lambda text: text[: text.index("\n", 99)], r"together .* tokens that no merge makes"),
        ("merges.txt", lambda text: "", r"\d+ tokens and 0 merges do not belong together"),
        ("merges.txt", lambda text: "#version: 0.2\na b c\n", "a merge of 3 parts, 'a b c'"),
        ("vocab.json", lambda text: json.dumps({"<|startoftext|>": 0, "<|endoftext|>": 1}), r"no id for \d+ tokens"),
        ("vocab.json", lambda text: text.replace(": 5,", ": -5,"), "its ids are no whole numbers"),
        ("vocab.json", lambda text: "{}", "cannot be read as CLIP's byte pairs"),
        ("vocab.json", lambda text: "[" * 100_000, "vocab.json is not valid JSON"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(file, edit, message, tmp_path):
    shutil.copytree(weights.EMBEDDED["embedded"], tmp_path, dirs_exist_ok=True)
    change(tmp_path / file, edit)
    with pytest.raises(UserError, match=message):
        Tokenizer(tmp_path, 77)


def test_the_tokenizer_of_another_text_tower_is_refused(clip_config):
    files = Directory(weights.EMBEDDED["embedded"])
    with pytest.raises(UserError, match=r"end of text is 680 .* expects its end of text at 49 and ids below 50"):
        tokenizer.load(files, clip_config)
