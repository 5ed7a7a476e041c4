"""Job: the page of a finished training or evaluation run, as it makes one itself; for runs of older versions.

    python -m dear_jax.main --config=configs/base.py --config.job=report --config.run=WORKDIR

The run's files -> report.html in this job's own workdir. The run's folder is read and not written; what older files do
not hold, the page says.
"""

from etils import epath

from dear_jax.evaluation import summary
from dear_jax.files import hub
from dear_jax.files.workdir import Workdir
from dear_jax.jobs.description import Description
from dear_jax.report import run_page
from dear_jax.setup.plans.report import ReportPlan, make_plan

__all__ = ["describe", "make_plan", "run"]


def run(plan: ReportPlan, workdir: epath.Path) -> None:
    """Write the page.

    Raises:
        UserError: no finished run, or a damaged one.
    """
    page = _make(plan)
    with Workdir(workdir) as files:
        files.check_config(plan.config)
        files.write_text(run_page.PAGE, page)
        print(f"The page of the run in {plan.run} is {files.path / run_page.PAGE}; it opens in a browser.", flush=True)


def _make(plan: ReportPlan) -> str:
    return summary.make_page(hub.run_folder(plan.run), plan.run)


def describe(plan: ReportPlan, description: Description) -> None:
    """The dry run: the page is made and not written."""
    page = description.attempt(_make, plan)
    if page is not None:
        description.section("Page", {"of the run": plan.run, "size": f"{len(page.encode()) / 2**20:.1f} MiB"})
