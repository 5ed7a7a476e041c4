"""Job: a finished training run to a repository of the Hugging Face Hub, for others to load.

    python -m dear_jax.main --config=configs/push.py --config.run=WORKDIR --config.repo=USER/NAME

The run's files -> adapter.safetensors, config.json, results.json, report.html and a model card, without paths of this
machine and, unless they are asked for, without pictures -> `upload/` in this job's own workdir -> one commit. The run's
folder is read and not written.
"""

import dataclasses
import hashlib
from collections.abc import Mapping

from etils import epath

from dear_jax.clip.checkpoints import openai
from dear_jax.errors import UserError, count, show
from dear_jax.evaluation import summary
from dear_jax.files import hub, json_files, storage
from dear_jax.files.workdir import Workdir
from dear_jax.jobs.description import Description, describe_run
from dear_jax.methods import adapter_file
from dear_jax.methods.adapter_file import Trained
from dear_jax.report import model_card, run_page
from dear_jax.setup import defaults, sharing
from dear_jax.setup.plans.push import PushPlan, make_plan

__all__ = ["describe", "make_plan", "run"]

FOLDER = "upload"  # in the workdir


def run(plan: PushPlan, workdir: epath.Path) -> None:
    """Make the files and upload them.

    Raises:
        UserError: no finished training run, or a damaged one; the hub cannot be reached or does not take them.
    """
    _, content = make_files(plan)
    with Workdir(workdir) as files:
        files.check_config(plan.config)
        for name, data in content.items():
            files.write_bytes(f"{FOLDER}/{name}", data)
        commit = upload(plan, content)
        files.write_json("push.json", {"repository": plan.repository, "commit": commit})
        print(
            f"It is there: {hub.PREFIX}{plan.repository}@{commit}; what was uploaded is in {files.path / FOLDER}.",
            flush=True,
        )


def make_files(plan: PushPlan) -> tuple[Trained, dict[str, bytes]]:
    """The adapters, and name -> content of all that is uploaded.

    Raises:
        UserError: no finished training run, or a damaged one.
    """
    folder = storage.to_path(plan.run)
    trained = adapter_file.load(folder)
    found = run_page.read(folder)
    if not found.results["variants"]:
        raise UserError(f"{folder}: results.json is that of plain CLIP, expected those of the adapter. Train it again.")
    name = plan.backbone or sharing.backbone(trained.backbone)
    trained = dataclasses.replace(trained, backbone=name)
    shared = _share(plan, found, name)
    page = summary.render_page(shared)
    settings = defaults.differences(shared.config)
    about = model_card.About(
        repository=plan.repository,
        method=trained.method,
        backbone=name,
        base_model=openai.repository(name) if hub.is_repository(openai.repository(name)) else "",
        fingerprint=trained.fingerprint,
        template=trained.template,
        class_names=trained.class_names,
        seeds=trained.seeds,
        license=plan.license,
        command=defaults.command(settings) if settings is not None else "",
    )
    return trained, {
        adapter_file.NAME: adapter_file.to_bytes(trained),
        "config.json": json_files.to_text(shared.config).encode(),
        summary.RESULTS: json_files.to_text(shared.results).encode(),
        run_page.PAGE: page.encode(errors="backslashreplace"),
        model_card.FILE: model_card.render(shared.results, about).encode(errors="backslashreplace"),
    }


def _share(plan: PushPlan, found: run_page.Files, backbone: str) -> run_page.Files:
    """The files of the run without places of this machine, and without pictures unless they are asked for."""
    named = sharing.places(found.config, plan.run)
    config = sharing.config(found.config) | {"backbone": backbone}
    digest = hashlib.sha256(json_files.to_text(config).encode()).hexdigest()
    results = sharing.texts(dict(found.results), named) | {"backbone": backbone, "config_sha256": digest}
    examples = sharing.texts(found.examples, named) if found.examples else None
    if examples and not plan.pictures:
        bare = {name: {**of_set, "galleries": {}} for name, of_set in examples["class_sets"].items()}
        examples = {**examples, "pictures": [], "class_sets": bare}
    return run_page.Files(config, results, found.rows, examples)


def upload(plan: PushPlan, content: Mapping[str, bytes]) -> str:
    """Make the repository if it is not there, and commit the files: the commit's name.

    Raises:
        UserError: one is not logged in, has no right to, or the hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token  # slow to import

    where = f"{constants.ENDPOINT}/{plan.repository}"
    if not get_token() and not constants.is_offline_mode():
        raise UserError(
            f"config.repo is {show(plan.repository)}, and {where} takes files only from those whom it knows: run "
            f"`hf auth login`, or set HF_TOKEN, with a token that may write (of {constants.ENDPOINT}/settings/tokens)."
        )
    size = sum(map(len, content.values()))
    print(f"Uploading {count(len(content), 'file')} ({size / 1e6:,.1f} MB) to {where} ...", flush=True)
    api = HfApi()
    try:
        api.create_repo(plan.repository, private=plan.private, exist_ok=True)
        done = api.create_commit(
            plan.repository,
            [CommitOperationAdd(name, data) for name, data in content.items()],
            commit_message="A run of dear_jax",
        )
    except Exception as error:  # of the hub's library or its HTTP library, changing with their versions
        raise UserError(
            f"config.repo is {show(plan.repository)}, and it could not be uploaded to {where} "
            f"({hub.reason(error, plan.repository)}). The run is as it was, and the files are in {FOLDER}/ of the "
            "workdir: start again, or upload them by `hf upload`."
        ) from error
    return str(done.oid)


def describe(plan: PushPlan, description: Description) -> None:
    """The dry run: the files are made and not uploaded."""
    made = description.attempt(make_files, plan)
    if made is not None:
        trained, content = made
        description.section("Run", describe_run(trained))
        sizes = {name: f"{len(data) / 2**20:.2f} MiB" for name, data in content.items()}
        description.section("Upload", {"repository": plan.repository, **sizes})
