"""From class names to the sentences that the text tower reads."""

from collections.abc import Sequence

from dear_jax.errors import UserError


def prompts(class_names: Sequence[str], template: str, distinct: bool = True) -> list[str]:
    """One prompt per class: the name, '_' replaced by a blank, at the {} of `template`.

    Names that give the same prompt are refused, unless `distinct` is False: ImageNet's list has such pairs.
    """
    if template.count("{}") != 1:
        raise UserError(
            f"config.data.template: expected a prompt with {{}} once, where the class name goes, such as "
            f"'a photo of a {{}}.'; found {template!r}."
        )
    names = [" ".join(name.replace("_", " ").split()) for name in class_names]
    _check_names(class_names, names, distinct)
    return [template.replace("{}", name) for name in names]


def _check_names(class_names: Sequence[str], names: Sequence[str], distinct: bool) -> None:
    """CLIP's tokenizer ignores case, so names must differ by more than that to be told apart."""
    first: dict[str, int] = {}
    pairs = []
    for label, name in enumerate(names):
        if not name:
            raise UserError(f"Class {label} has an empty name, {class_names[label]!r}; give it one.")
        other = first.setdefault(name.casefold(), label)
        if other != label:
            pairs.append(f"{other} ({class_names[other]!r}) and {label} ({class_names[label]!r})")
    if pairs and distinct:
        more = f"; and {len(pairs) - 10} more pairs" if len(pairs) > 10 else ""
        raise UserError(
            f"Classes {'; '.join(pairs[:10])}{more} give the same prompt, so no text tells them apart; rename one, or "
            "merge them."
        )
