"""Looks are told apart without color vision."""

from dear_jax.report.method_styles import COLORS, MARKERS, REFERENCE, complete, look


def test_seventy_looks_are_different_and_those_of_one_color_have_different_markers():
    looks = [look(number) for number in range(len(COLORS) * len(MARKERS))]
    assert len({(one.color, one.marker) for one in looks}) == 70
    assert not any(one.color == REFERENCE.color for one in looks)


def test_rows_without_looks_get_some_that_are_free():
    given = {"b": look(0), "elsewhere": look(1)}
    found = complete(given, ["a", "b", "c"])
    assert found == {"a": look(1), "b": look(0), "c": look(2)}
    assert complete(None, ["a"]) == {"a": look(0)}
    many = [str(number) for number in range(75)]
    assert list(complete({name: look(int(name)) for name in many[:70]}, many)) == many
