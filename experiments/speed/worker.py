"""One implementation at one size in a process of its own, so that its peak memory is its own.

`step.py` starts it, writes commands to its standard input, and reads a line of JSON for each: `step` (one
training step), `product` (matrix products of the step's kind), `evaluate WHAT` (a batch of images), `memory`,
`gradients FILE`.
"""

import argparse
import dataclasses
import functools
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dear_jax.clip import vision
from dear_jax.clip.checkpoints import weights
from dear_jax.clip.split import Frozen
from dear_jax.evaluation import accuracy
from dear_jax.methods import paths
from dear_jax.methods.contract import Length
from dear_jax.parallel import sharding
from dear_jax.training import program as programs_of
from dear_jax.training.program import Runs
from experiments.speed.case import BETA, FUSION_WEIGHT, LEARNING_RATE, REG_WEIGHT, WEIGHT_DECAY, Case

PRODUCT = (1616, 768, 3072)  # rows of eight images, into the MLP of ViT-B/16
PRODUCTS = 10


def main() -> None:
    """Set up, say so, and answer commands until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--implementation", choices=("package", "torch"), required=True)
    parser.add_argument("--case", type=json.loads, required=True)
    arguments = parser.parse_args()
    case = Case(**arguments.case)
    worker = PackageWorker(case) if arguments.implementation == "package" else TorchWorker(case)
    answer(worker.ready())
    for line in sys.stdin:
        command, *values = line.split()
        answer(getattr(worker, command)(*values))


def answer(values: dict[str, Any]) -> None:
    """A line for the process that asked."""
    print(json.dumps(values), flush=True)


def clock(function: Callable[[], Any]) -> dict[str, float]:
    """Seconds by the wall and by the processors that worked for this process."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}


class Worker:
    """What both implementations answer alike."""

    def memory(self) -> dict[str, int]:
        """The largest resident size so far, in bytes."""
        return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


class PackageWorker(Worker):
    """The package's own compiled step."""

    def __init__(self, case: Case):
        self.case, params, program = case, case.params(), case.program()
        self.settings, self.rates, split = program.settings, program.rates, program.method.split
        self.params = jax.device_put(weights.cast(params, split.dtype))
        self.frozen = Frozen(self.params, split.encode_prompts(self.params, case.short_ids()))
        mesh, specs = sharding.make_layout(1, [1], 1, 1, jax.devices()[:1])
        runs = Runs(tuple(range(case.seeds)), case.batch, Length(10, 1000), mesh, specs)
        self.state = programs_of.fresh_state(program, runs, params, self.frozen.prompts)
        self.images, self.labels = map(jnp.asarray, case.images())
        inputs = (self.state, self.frozen, self.images, self.labels, self.settings, self.rates)
        start = time.perf_counter()
        update = programs_of.make_step(program.method, runs, runs.shape(program))
        self.update = update.lower(*inputs).compile()
        self.compile_seconds = time.perf_counter() - start

    def ready(self) -> dict[str, Any]:
        """What the compiler says."""
        memory = self.update.memory_analysis()
        packing = self.frozen.prompts.packing
        return {
            "compile_seconds": self.compile_seconds,
            "temporary_bytes": memory.temp_size_in_bytes,
            "argument_bytes": memory.argument_size_in_bytes,
            "chunks": len(packing.ends),
            "rows": packing.sources.size,
        }

    def step(self) -> dict[str, float]:
        """One step of all runs."""

        def run() -> None:
            self.state, self.metrics = self.update(
                self.state, self.frozen, self.images, self.labels, self.settings, self.rates
            )
            jax.block_until_ready(self.metrics)

        return clock(run) | {"loss": float(self.metrics["loss"][0, 0])}

    @functools.cached_property
    def _product(self) -> Callable[[], Any]:
        rows, inner, columns = PRODUCT
        x, w = jnp.ones((rows, inner), self.case.dtype), jnp.ones((inner, columns), self.case.dtype)
        multiply = jax.jit(lambda x, w: x @ w)
        return lambda: [multiply(x, w).block_until_ready() for _ in range(PRODUCTS)]

    def product(self) -> dict[str, float]:
        """Matrix products one after the other."""
        self._product()
        return clock(self._product)

    @functools.cached_property
    def _evaluation(self) -> dict[str, Callable[[], Any]]:
        """A batch with text features at hand, through evaluations and plain CLIP."""
        method, split, config = self.case.method, self.case.method.split, self.case.config
        adapter = jax.tree.map(jnp.copy, self.state.adapter)  # the step reuses its memory
        classes = jax.jit(functools.partial(accuracy.encode_classes, method))((adapter, self.settings), self.frozen)
        images, runs = self.images[0], [(adapter, self.settings, classes)]
        predict = jax.jit(functools.partial(accuracy.predict_batch, split, (method,), ("learned",)))
        first = jax.tree.map(lambda leaf: leaf[0, 0], (adapter, classes))
        settings = jax.tree.map(lambda leaf: leaf[0], self.settings)

        def predict_one(params: Any, images: Any) -> Any:
            seen = split.look(params, images)  # of which the plain features are read by nobody, and not computed
            logits = method.logits(first[0], settings, params, first[1], seen)
            return jnp.argmax(paths.combine(logits, method.weights(first[0], settings)), axis=-1)

        def encode(params: Any, images: Any) -> Any:
            return vision.encode(params, config, vision.normalize(images, config), split.dtype)

        def in_groups(function: Any) -> Any:
            return jax.jit(lambda params, images: vision.in_groups(functools.partial(function, params), images))

        functions = {"encode": jax.jit(encode), "encode_in_groups": in_groups(encode), "one": in_groups(predict_one)}
        calls = {name: functools.partial(function, self.params, images) for name, function in functions.items()}
        calls["job"] = functools.partial(predict, self.params, self.frozen.prompts.features, images, runs)
        jax.block_until_ready([call() for call in calls.values()])
        return calls

    def evaluate(self, what: str) -> dict[str, float]:
        """One batch.

        `job`: as a job evaluates, all runs and zero-shot CLIP; `one`: one run alone; `encode`: the plain encoder;
        `encode_in_groups`: the same a few images at a time, as the package does it on a CPU.
        """
        return clock(lambda: jax.block_until_ready(self._evaluation[what]()))

    def gradients(self, path: str) -> dict[str, float]:
        """Loss and gradients of the first run at its start, to a NumPy file."""
        settings = jax.tree.map(lambda leaf: leaf[0], self.settings)
        method = self.case.method
        differentiate = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
        adapter = self.case.adapter(self.params, 0)
        seen = jax.jit(method.split.look)(self.params, self.images[0])
        (loss, _), gradients = differentiate(adapter, settings, self.frozen, seen, self.labels[0])
        np.savez(Path(path), loss=loss, **gradients)
        return {"loss": float(loss)}


class TorchWorker(Worker):
    """The plain PyTorch reference; several seeds run one after the other."""

    def __init__(self, case: Case):
        import torch

        from experiments.speed.torch_reference import TorchReference, to_torch

        self.case, self.params = case, case.params()
        self.reference = TorchReference(
            case.method,
            to_torch(self.params),
            torch.from_numpy(case.token_ids()).long(),
            to_torch(case.head_mask()),
            BETA,
            REG_WEIGHT,
            FUSION_WEIGHT,
        )
        self.images, self.labels = map(to_torch, case.images())
        self.runs = []
        for seed in range(case.seeds):
            leaves = {name: to_torch(leaf) for name, leaf in case.adapter(self.params, seed).items()}
            adapter = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
            optimizer = torch.optim.AdamW(adapter.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
            self.runs.append((adapter, optimizer))

    def ready(self) -> dict[str, Any]:
        """Nothing to say."""
        return {"case": dataclasses.asdict(self.case)}

    def step(self) -> dict[str, float]:
        """One step of every seed."""
        losses = []

        def run() -> None:
            for (adapter, optimizer), images, labels in zip(self.runs, self.images, self.labels, strict=True):
                optimizer.zero_grad()
                loss = self.reference.loss(adapter, images, labels.long())
                loss.backward()
                optimizer.step()
                losses.append(loss.item())

        return clock(run) | {"loss": losses[0]}

    def gradients(self, path: str) -> dict[str, float]:
        """Loss and gradients of the first run at its start, to a NumPy file."""
        from experiments.speed.torch_reference import to_torch

        start = self.case.adapter(self.params, 0)
        adapter = {name: to_torch(leaf).requires_grad_() for name, leaf in start.items()}
        loss = self.reference.loss(adapter, self.images[0], self.labels[0].long())
        loss.backward()
        np.savez(Path(path), loss=loss.item(), **{name: leaf.grad.numpy() for name, leaf in adapter.items()})
        return {"loss": loss.item()}


if __name__ == "__main__":
    main()
