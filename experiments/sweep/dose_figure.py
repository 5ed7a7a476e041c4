"""The figure of the study `dose`: new classes and HM against the start of the class path's weight, a line per mask."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dear_jax.data.protocols import harmonic_mean
from dear_jax.report.figure_files import save
from experiments.sweep.studies import Study

RULES = {"learned": "-", "class_only": ":"}


def draw(study: Study, results: Sequence[dict], path: Path) -> None:
    """Write the files of PATH: means over draws and seeds."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    masks = list(dict.fromkeys(name.split(", start ")[0] for name in study.variants))
    for number, mask in enumerate(masks):
        starts = [float(re.sub(".*start ", "", name)) for name in study.variants if name.startswith(f"{mask}, ")]
        for rule, line in RULES.items():
            new, hm = [], []
            for start in starts:
                rows = [one["variants"][f"{mask}, start {start:g}"] for one in results]
                pairs = [(row["mean"]["base"], row["new_classes"]["new"][rule]["mean"]) for row in rows]
                new.append(np.mean([pair[1] for pair in pairs]))
                hm.append(np.mean([harmonic_mean(*pair) for pair in pairs]))
            for axes, values in zip(panels, (new, hm), strict=True):
                label = mask if rule == "learned" else None
                axes.plot(starts, values, line, color=f"C{number}", marker="o", markersize=3, label=label)
    for axes, title in zip(panels, ("New", "HM"), strict=True):
        plain = np.mean([one["zero_shot"][title.lower()] for one in results])
        axes.axhline(plain, color="0.6", linewidth=1, label="zero-shot CLIP")
        axes.set(xlabel="class path's weight at the start", ylabel=f"{title}, %")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle("solid: new classes by the learned weights; dotted: by the class path alone", fontsize=9)
    save(figure, path.with_suffix(""))
