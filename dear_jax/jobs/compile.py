"""Job: compile a run's programs for TPUs that are not there, and say what each costs one chip.

    python -m dear_jax.main --config=configs/base2new.py:imagenet --config.job=compile --config.topology=v5e:8x8

plan, topology -> the run's programs -> memory, FLOPs, bytes and collectives of one chip -> the time that these take
at least at the chip's published peaks -> compile.json and a printed account. It runs on the CPU: needed are libtpu, and
neither data nor a checkpoint.
"""

import dataclasses
import math
import time
from typing import Any

import jax
from etils import epath

from dear_jax.errors import UserError, count
from dear_jax.files.workdir import Workdir
from dear_jax.jobs.description import Description, print_rows
from dear_jax.setup.plans.compile import CompilePlan, make_plan
from dear_jax.tpu import chips, program_cost
from dear_jax.tpu import planned as planned_programs
from dear_jax.tpu.chips import Chip
from dear_jax.tpu.flops import product_flops
from dear_jax.tpu.planned import Planned, plan_programs
from dear_jax.tpu.program_cost import Cost
from dear_jax.training import class_chunk
from dear_jax.training import program as programs_of

__all__ = ["describe", "make_plan", "run"]

RESULT = "compile.json"


def run(plan: CompilePlan, workdir: epath.Path) -> None:
    """Compile and describe every program.

    Raises:
        UserError: an unknown topology, no libtpu; a program that does not fit the chip's memory.
    """
    topology = plan.topology
    chip = chips.find(topology)
    jax.config.update("jax_platforms", "cpu")  # also on a TPU's own machine: its chips stay free
    devices = chips.devices(topology)
    with Workdir(workdir) as files:
        files.check_config(plan.config)
        accounts = []
        for planned in plan_programs(plan, devices):
            print(f"Compiling the {planned.name} for {planned.mesh.size} of {len(devices)} chips ...", flush=True)
            account = compile_fitting(planned, chip, len(devices))
            print_rows(planned.name.capitalize(), describe_account(account, topology, len(devices)))
            accounts.append(account)
        totals = total(accounts, len(devices) // chip.devices)
        files.write_json(RESULT, {"topology": topology, "programs": accounts, "run": totals})
        print_rows("Whole run", describe_total(totals, topology))
    refused = [f"The {account['name']} {account['refused']}" for account in accounts if account["refused"]]
    if refused:
        raise UserError(f"config.topology is {topology}. {' '.join(refused)}")


def describe(plan: CompilePlan, description: Description) -> None:
    """The dry run: the chip, the architecture, and how much would be compiled."""
    chip = description.attempt(chips.find, plan.topology)
    backbone = description.attempt(planned_programs.describe_backbone, plan)
    sizes = description.attempt(planned_programs.count, plan)
    if chip is not None:
        description.section("Chip", {"topology": plan.topology, "memory of a chip": _size(chip.memory)})
    if backbone is not None and sizes is not None:
        seeds = len(plan.training.schedule.seeds)
        rows = {
            "backbone": backbone.name,
            "classes": f"{sizes.classes:,} trained on, prompts of {plan.prompt_length} ids",
            "steps": f"{sizes.steps:,} of {count(sizes.batch_size, 'image')} for each of {count(seeds, 'seed')}",
        }
        description.section("Work", rows)


def compile_fitting(planned: Planned, chip: Chip, booked: int) -> dict[str, Any]:
    """What a program costs, with its class prompts in chunks where the run would take them so."""
    in_chunks, accounts = planned.in_chunks, list[dict[str, Any]]()
    if in_chunks is None:
        return compile_program(planned, chip, booked)

    def attempt(chunk: int) -> tuple[float, dict[str, Any]]:
        accounts.append(compile_program(in_chunks(chunk), chip, booked))
        return accounts[-1]["needed"], accounts[-1]

    available = class_chunk.SAFE_SHARE * chip.memory
    try:
        return class_chunk.fit(attempt, planned.classes, available)[1]
    except UserError:
        last = accounts[-1]
        return last | {"refused": last["refused"] or too_large(last["needed"], chip)}


def compile_program(planned: Planned, chip: Chip, booked: int) -> dict[str, Any]:
    """What one program costs, as JSON; `refused` says why the compiler does not take it, or is empty.

    `needed` are the bytes of a chip that it takes, by the compiler's analysis.
    """
    traced = planned.function.trace(*planned.arguments)
    account: dict[str, Any] = {
        "name": planned.name,
        "times": planned.times,
        "chips": planned.mesh.size,
        "mesh": dict(planned.mesh.shape),
        "class_chunk": planned.class_chunk,
        "flops_asked": product_flops(traced.jaxpr),
    }
    start = time.perf_counter()
    try:
        compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        reason = explain_refusal(str(error), planned.mesh.size, booked, chip)
        if reason is None:
            raise
        return account | {"refused": reason, "needed": class_chunk.exhausted_bytes(str(error)) or 0}
    account["compile_seconds"] = time.perf_counter() - start
    cost = program_cost.measure(compiled.as_text())
    size = memory(compiled)
    account |= {"refused": "", "needed": size["peak"], "memory": size}
    return account | dataclasses.asdict(cost) | bound(cost, chip)


def memory(compiled: Any) -> dict[str, int]:
    """Bytes of one chip's memory; outputs that take the place of arguments count once."""
    analysis = compiled.memory_analysis()
    arguments, temporary = analysis.argument_size_in_bytes, analysis.temp_size_in_bytes
    outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    code = analysis.generated_code_size_in_bytes
    sizes = {"arguments": arguments, "outputs": outputs, "temporary": temporary, "code": code}
    return sizes | {"peak": programs_of.bytes_of(compiled)}


def bound(cost: Cost, chip: Chip) -> dict[str, Any]:
    """Seconds that one execution takes at least (roofline), and what the matrix units do of it.

    Products, memory and links may all be busy at once, so that the slowest of the three is the bound. The compiler's
    estimates are in cycles; a product of large matrices by the same estimates is the yardstick for them.
    """
    seconds = {
        "products": cost.passes / chip.flops,
        "memory": cost.bytes / chip.bandwidth,
        "collectives": cost.sent / (chip.links / 2),
    }
    least = max(seconds.values())
    estimated = cost.passes / (cost.cycles * chip.cycle_flops) if cost.cycles else None
    return {
        "seconds": seconds,
        "bound_seconds": least,
        "bound_by": max(seconds, key=lambda kind: seconds[kind]),
        "matrix_units": seconds["products"] / least if least else 0.0,
        "matrix_units_estimated": estimated,
        "estimated_seconds": seconds["products"] / estimated if estimated else None,
    }


def total(accounts: list[dict[str, Any]], chips_booked: int) -> dict[str, Any]:
    """The programs' bounds, as often as a run executes them, and the chip hours of the whole slice."""
    known = all(account["times"] and not account["refused"] for account in accounts)
    if not known:
        return {"seconds": None, "estimated_seconds": None, "chips": chips_booked}

    def add(key: str) -> float:
        return sum(account["times"] * (account[key] or 0.0) for account in accounts)

    return {"seconds": add("bound_seconds"), "estimated_seconds": add("estimated_seconds"), "chips": chips_booked}


def describe_account(account: dict[str, Any], topology: str, booked: int) -> dict[str, str]:
    """One program's account in words."""
    used, mesh = account["chips"], account["mesh"]
    rows = {"chips": f"{used} of {booked} ({topology}), run {mesh['run']} x data {mesh['data']}"}
    if account["refused"]:
        return rows | {"refused": account["refused"]}
    kinds = [
        f"{c['count']} x {c['kind']} among {c['group']} chips ({_size(c['bytes'])})" for c in account["collectives"]
    ]
    size, seconds = account["memory"], account["seconds"]
    if account["class_chunk"]:
        rows["class prompts"] = f"{account['class_chunk']} at a time of each chip"
    repeated = used * account["flops"] / account["flops_asked"] if account["flops_asked"] else 1.0
    rows |= {
        "executions": f"{account['times']:,}" if account["times"] else "not known",
        "parameters and other inputs": _size(size["arguments"]),
        "temporary memory": _size(size["temporary"]),
        "peak memory": f"{_size(size['peak'])} of {_size(chips.find(topology).memory)}",
        "products": f"{account['flops'] / 1e9:,.1f} GFLOP, in bfloat16 passes {account['passes'] / 1e9:,.1f}",
        "work of all chips": f"{repeated:.2f} times what one device would do",
        "bytes from and to memory": _size(account["bytes"]),
        "collectives": "; ".join(kinds) or "none",
        "at the chip's peaks": ", ".join(f"{kind} {_time(value)}" for kind, value in seconds.items()),
        "time": f"at least {_time(account['bound_seconds'])}, bound by {account['bound_by']}",
        "matrix units": f"busy at most {account['matrix_units']:.0%} of the time",
    }
    if account["estimated_seconds"]:
        rows["by the compiler's estimates"] = (
            f"{_time(account['estimated_seconds'])}, matrix units busy {account['matrix_units_estimated']:.0%}"
        )
    if account["unknown_loops"]:
        rows["counted once"] = f"loops of unknown length: {', '.join(account['unknown_loops'])}"
    return rows


def describe_total(totals: dict[str, Any], topology: str) -> dict[str, str]:
    """The whole run in words."""
    if totals["seconds"] is None:
        return {"time": "not known: a program is refused, or its number of executions is not known"}
    hours = totals["seconds"] * totals["chips"] / 3600
    rows = {"time": f"at least {_time(totals['seconds'])} on {topology}: {hours:.3g} chip hours"}
    if totals["estimated_seconds"]:
        hours = totals["estimated_seconds"] * totals["chips"] / 3600
        rows["by the compiler's estimates"] = f"{_time(totals['estimated_seconds'])}: {hours:.3g} chip hours"
    return rows | {"not counted": "compiling, reading images, checkpoints, waiting of chips for each other"}


def explain_refusal(message: str, used: int, booked: int, chip: Chip) -> str | None:
    """Why the compiler does not take a program, and what to do; None where it has another reason than those known."""
    if "include all slice devices" in message:
        return (
            f"has work for {used} chips only, and the {booked} chips of a slice run nothing but what is for all of "
            "them: take a smaller slice, or a batch size (config.train.batch_size, config.eval.batch_size) that its "
            "chips divide."
        )
    needed = class_chunk.exhausted_bytes(message)
    return None if needed is None else too_large(needed, chip)


def too_large(needed: float, chip: Chip) -> str:
    """That a program needs more than a run lets it take, and what to do."""
    needs = _size(needed) if math.isfinite(needed) else "more"
    return (
        f"needs {needs} of each chip, which has {_size(chip.memory)}, of which a run plans with "
        f"{class_chunk.SAFE_SHARE:.0%}: train fewer seeds (config.seeds) or variants together, take fewer images per "
        "step (config.train.batch_size), config.compute.dtype=bfloat16, or more or larger chips."
    )


def _size(bytes: float) -> str:
    scale, unit = (2**30, "GiB") if bytes >= 2**29 else (2**20, "MiB")
    return f"{bytes / scale:,.2f} {unit}"


def _time(seconds: float) -> str:
    for unit, scale in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
