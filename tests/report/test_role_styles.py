"""Roles look different with and without color vision."""

import pytest

from dear_jax.report.role_styles import role_styles, text_color

ATTRIBUTES = ("color", "shape", "texture", "object", "position")


def test_codes_are_short_and_unique():
    styles = role_styles(ATTRIBUTES)
    assert [style.code for style in styles.values()] == ["Co", "Sh", "Te", "Ob", "Po", "Ot", "Mi", "Ge"]
    longer = role_styles(("color", "count", "colorfulness", "generic"))
    codes = [style.code for style in longer.values()]
    assert len(set(codes)) == len(codes)
    assert codes[:2] == ["Color", "Cou"]


def test_hatches_tell_the_default_roles_apart():
    hatches = [style.hatch for style in role_styles(ATTRIBUTES).values()]
    assert len(set(hatches)) == len(hatches)


def test_more_attributes_than_colors():
    assert len(role_styles([f"attribute {i}" for i in range(20)])) == 23


@pytest.mark.parametrize("role", [*(f"attribute:{name}" for name in ATTRIBUTES), "other", "mixed", "generalization"])
def test_text_contrasts_with_its_background(role):
    style = role_styles(ATTRIBUTES)[role]
    light, dark = sorted((_luminance(style.color), _luminance(style.text_color)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2, level AA
    assert style.text_color == text_color(style.color)


def _luminance(color: str) -> float:
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return sum(w * ((c + 0.055) / 1.055) ** 2.4 for w, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
