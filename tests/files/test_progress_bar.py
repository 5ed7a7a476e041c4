"""Bars on a terminal, plain lines elsewhere."""

import io
import sys
import time

import pytest

from dear_jax.files import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_file_gets_lines(monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := io.StringIO())
    monkeypatch.setattr(progress_bar, "BETWEEN_LINES", 0.0)
    bar = progress_bar.bar(total=3, desc="Training", unit="step")
    for loss in (0.5, 0.25, 0.125):
        bar.set_postfix(loss=loss, refresh=False)
        bar.update()
    bar.close()
    bar.close()
    text = screen.getvalue()
    assert "\r" not in text
    assert not text.endswith("\n\n")
    lines = text.splitlines()
    assert lines[0].startswith("Training: 0 of 3, 00:00 so far")
    assert lines[-1].startswith("Training: 3 of 3, 00:00 so far")
    assert lines[-1].endswith("loss=0.125")


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_what_is_quick_says_nothing(kind, monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := kind())
    assert list(progress_bar.bar(range(3), desc="Evaluating", unit="batch", delay=progress_bar.DELAY)) == [0, 1, 2]
    assert not screen.getvalue().strip()


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    list(progress_bar.bar(range(3), desc="Evaluating", unit="batch"))
    assert "\rEvaluating: 100%" in screen.getvalue()


@pytest.mark.parametrize(
    ("delay", "disable", "said"), [(0.0, False, "Compiling ...\n"), (0.0, True, ""), (9.0, False, "")]
)
def test_what_takes_long_without_parts_to_count_is_said_once(monkeypatch, delay, disable, said):
    monkeypatch.setattr(sys, "stderr", screen := io.StringIO())
    monkeypatch.setattr(progress_bar, "DELAY", delay)
    with progress_bar.waiting("Compiling", disable):
        time.sleep(0.1)
    assert screen.getvalue() == said
