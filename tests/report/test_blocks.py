"""Tables as Markdown, CSV and LaTeX."""

import csv
import dataclasses
import io

from dear_jax.report.blocks import Block, Cell, Table, to_csv, to_latex, to_markdown

WHY = "Other splits."
BLOCK = Block(
    "dtd",
    ("Base", "New"),
    {
        "CLIP": {"Base": Cell(53.24, source="a paper"), "New": Cell(59.9)},
        "DeAR (ours), a_b|c": {
            "Base": Cell(80.0, 1.5, 3, (WHY, "10 % less."), "runs/a"),
            "New": Cell(60.0, 0.25, 3, (WHY,)),
        },
        "DeAR": {"Base": Cell(83.9)},
    },
)
OTHERS = Block(
    "Ranks",
    ("Rank", "p"),
    {
        "DeAR": {"Rank": Cell(2, form=".0f"), "p": Cell(0.0625, form=".4f")},
        "MMRL": {"Rank": Cell(-0.001, form="+z.2f"), "p": Cell(-1.5, form="+z.2f", notes=(WHY,))},
    },
    "What they are.",
    accuracies=False,
)
TABLE = Table("Base-to-new", "In percent.", (BLOCK,))


def test_markdown():
    assert to_markdown([TABLE]).splitlines() == [
        "## Base-to-new",
        "",
        "In percent.",
        "",
        "| dtd | Base | New |",
        "| --- | ---: | ---: |",
        "| CLIP | 53.24 | 59.90 |",
        "| DeAR (ours), a_b\\|c | 80.00 ± 1.50 [a,b] | **60.00** ± 0.25 [a] |",
        "| DeAR | **83.90** |  |",
        "",
        "[a] Other splits.  ",
        "[b] 10 % less.",
    ]


def test_other_numbers_have_a_form_of_their_own_and_a_remark_below():
    table = Table("t", "In percent.", (OTHERS,))
    assert to_markdown([table]).splitlines()[4:] == [
        "| Ranks | Rank | p |",
        "| --- | ---: | ---: |",
        "| DeAR | 2 | 0.0625 |",
        "| MMRL | +0.00 | -1.50 [a] |",
        "",
        "What they are.",
        "",
        "[a] Other splits.",
    ]
    lines = [line.strip() for line in to_latex([table]).splitlines()]
    assert "MMRL & $+0.00$ & $-1.50$$^{a}$ \\\\" in lines
    assert "\\caption{t: Ranks. What they are.}" in lines
    assert [row["mean"] for row in csv.DictReader(io.StringIO(to_csv([table])))][:2] == ["2.0000", "0.0625"]


def test_csv_has_what_a_method_costs():
    row = {"A": Cell(1.0, parameters=(5, 9, 5), step_seconds=0.0123456789), "B": Cell(1.0)}
    rows = list(csv.DictReader(io.StringIO(to_csv([Table("t", "", (Block("b", ("A", "B"), {"x": row}),))]))))
    costs = [(cell["least_parameters"], cell["most_parameters"], cell["step_seconds"]) for cell in rows]
    assert costs == [("5", "9", "0.0123457"), ("", "", "")]


def test_csv_has_a_line_per_cell():
    rows = list(csv.DictReader(io.StringIO(to_csv([TABLE]))))
    assert [(row["row"], row["column"], row["mean"], row["std"], row["seeds"]) for row in rows] == [
        ("CLIP", "Base", "53.2400", "", ""),
        ("CLIP", "New", "59.9000", "", ""),
        ("DeAR (ours), a_b|c", "Base", "80.0000", "1.5000", "3"),
        ("DeAR (ours), a_b|c", "New", "60.0000", "0.2500", "3"),
        ("DeAR", "Base", "83.9000", "", ""),
    ]
    assert rows[2]["notes"] == "Other splits. 10 % less."
    assert [row["source"] for row in rows[:3]] == ["a paper", "", "runs/a"]


def test_latex():
    lines = [line.strip() for line in to_latex([TABLE]).splitlines()]
    assert "\\begin{tabular}{lrr}" in lines
    assert "CLIP & 53.24 & 59.90 \\\\" in lines
    assert "DeAR (ours), a\\_b|c & 80.00 $\\pm$ 1.50$^{a,b}$ & \\textbf{60.00} $\\pm$ 0.25$^{a}$ \\\\" in lines
    assert "DeAR & \\textbf{83.90} &  \\\\" in lines
    assert "\\label{tab:base-to-new-dtd}" in lines
    assert "\\par\\footnotesize $^{b}$ 10 \\% less." in lines
    assert "\\caption{Base-to-new: dtd. In percent.}" in lines


def test_the_best_of_what_compares_is_bold_and_equals_are():
    cells = {"a": Cell(1.004), "b": Cell(1.0), "c": Cell(9.0, competes=False), "d": Cell(0.5)}
    rows = {name: {"A": cell} for name, cell in cells.items()} | {"e": {"B": Cell(3.0)}}
    block = Block("b", ("A", "B"), rows)
    said = to_markdown([Table("t", "c", (block,))])
    for row in ("| a | **1.00** |  |", "| b | **1.00** |  |", "| c | 9.00 |  |", "| d | 0.50 |  |", "| e |  | 3.00 |"):
        assert row in said
    assert "**" not in to_markdown([Table("t", "c", (dataclasses.replace(block, accuracies=False),))])


def test_latex_escapes_what_it_would_read_as_a_command():
    block = Block("~^\\", ("100 %",), {"a_b & {c} #1 $": {"100 %": Cell(1.0)}})
    text = to_latex([Table("t", "", (block,))])
    assert "\\textasciitilde{}\\textasciicircum{}\\textbackslash{}" in text
    assert "a\\_b \\& \\{c\\} \\#1 \\$ & 1.00 \\\\" in text


def test_notes_have_as_many_marks_as_they_need():
    rows = {str(n): {"A": Cell(1.0, notes=(f"note {n}",), competes=False)} for n in range(54)}
    text = to_markdown([Table("t", "c", (Block("b", ("A",), rows),))])
    assert "| 25 | 1.00 [z] |" in text
    assert "| 26 | 1.00 [aa] |" in text
    assert "| 53 | 1.00 [bb] |" in text
