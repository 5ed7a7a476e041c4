"""Writes dear_jax/roles/bank.txt, the default bank of image descriptions, from the word lists in bank_words.toml.

    python -m experiments.roles.make_bank

The same word lists always give the same file. Prints how many descriptions each category has.
"""

import itertools
import re
import tomllib
from pathlib import Path

WORDS = Path(__file__).with_name("bank_words.toml")
HEADER = "# Image descriptions, made for this project by experiments/roles/make_bank.py. Lines with # are comments.\n"
BANK = Path(__file__).parents[2] / "dear_jax" / "roles" / "bank.txt"

SOUNDS_LIKE_CONSONANT = r"(?:uni|use|usu|[eE]ur|one\b)"
SPOKEN_WITH_VOWEL = r"(?:[aeiou]|hour|honest|heir|X-ray)"


def main() -> None:
    """Write the file."""
    categories = descriptions(tomllib.loads(WORDS.read_text()))
    BANK.write_text(bank_text(categories))
    for category, found in categories.items():
        print(f"{len(found):5d}  {category}")
    print(f"{sum(map(len, categories.values())):5d}  in {BANK.name}")


def bank_text(categories: dict[str, list[str]]) -> str:
    """The file: a comment, then one description per line, category after category."""
    return HEADER + "".join(f"{description}\n" for found in categories.values() for description in found)


def descriptions(groups: dict[str, list[dict]]) -> dict[str, list[str]]:
    """Category -> its descriptions: every template of a group with every word; the first of equals is kept."""
    seen: set[str] = set()
    categories: dict[str, list[str]] = {}
    for category, tables in groups.items():
        found = categories.setdefault(category, [])
        for table in tables:
            words = [" ".join(word.split()) for word in table["words"].split(",")]
            for template, word in itertools.product(table["templates"], words):
                description = with_articles(template.format(word))
                if description.lower() not in seen:
                    seen.add(description.lower())
                    found.append(description)
    return categories


def with_articles(text: str) -> str:
    """'a' as 'an' before a vowel sound: 'a owl' -> 'an owl', 'a unicorn' stays."""
    return re.sub(rf"\ba (?!{SOUNDS_LIKE_CONSONANT})(?={SPOKEN_WITH_VOWEL})", "an ", text)


if __name__ == "__main__":
    main()
