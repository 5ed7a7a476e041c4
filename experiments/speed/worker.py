"""One implementation at one size in a process of its own, so that its peak memory is its own.

`step.py` starts it, writes commands to its standard input, and reads a line of JSON for each: `step COUNT` (training
steps one after the other), `product` (matrix products of the step's kind), `evaluate WHAT` (a batch of images),
`memory`, `gradients FILE`. A line of JSON before the first command says that it is ready.
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
from dear_jax.methods.dear.model import DeAR
from dear_jax.tpu.flops import product_flops
from dear_jax.training import program as programs_of
from experiments.speed.case import Case

PRODUCT = (1616, 768, 3072)  # rows of eight images, into the MLP of ViT-B/16
PAIRS = {"cpu": 5, "default": 500}  # of products, there and back, one after the other, by platform


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


def clock(function: Callable[[], Any], count: int = 1) -> dict[str, float]:
    """Seconds by the wall and by the processors that worked for this process, of each of `count` that it does."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}
    return {unit: value / count for unit, value in spent.items()}


def resident_peak() -> int:
    """The largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class PackageWorker:
    """The package's own compiled step."""

    def __init__(self, case: Case):
        self.case, params, program = case, case.params(), case.program
        self.method, self.settings, self.rates = program.method, program.settings, program.rates
        self.params = jax.device_put(weights.cast(params, self.method.split.dtype))
        self.frozen = Frozen(self.params, self.method.encode_prompts(self.params, case.short_ids()))
        runs = case.runs
        self.state = programs_of.fresh_state(program, runs, params, self.frozen.prompts, case.supports())
        self.images, self.labels = map(jnp.asarray, case.images())
        inputs = (self.state, self.frozen, self.images, self.labels, self.settings, self.rates)
        start = time.perf_counter()
        traced = programs_of.make_step(self.method, runs, runs.shape(program)).trace(*inputs)
        self.update = traced.lower().compile()
        self.compile_seconds = time.perf_counter() - start
        self.jaxpr = traced.jaxpr
        self.flops = product_flops(self.jaxpr)

    def ready(self) -> dict[str, Any]:
        """What the compiler says."""
        memory = self.update.memory_analysis()
        packing = self.frozen.prompts.packing
        return {
            "device": jax.devices()[0].device_kind,
            "precision": jax.config.jax_default_matmul_precision or "default",
            "compile_seconds": self.compile_seconds,
            "flops": self.flops,
            "temporary_bytes": memory.temp_size_in_bytes,
            "argument_bytes": memory.argument_size_in_bytes,
            "chunks": len(packing.ends),
            "rows": packing.sources.size,
        }

    def memory(self) -> dict[str, Any]:
        """The most bytes so far: of the device, where it says so, else of the process."""
        of_device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        return {"peak_bytes": resident_peak() if of_device is None else of_device, "of_device": of_device is not None}

    def step(self, count: str) -> dict[str, float]:
        """Steps of all runs, of which the last is waited for."""

        def run() -> None:
            for _ in range(int(count)):
                self.state, self.metrics = self.update(
                    self.state, self.frozen, self.images, self.labels, self.settings, self.rates
                )
            jax.block_until_ready((self.state, self.metrics))

        return clock(run, int(count)) | {"loss": float(self.metrics["loss"][0, 0])}

    @functools.cached_property
    def _product(self) -> tuple[int, Callable[[], Any]]:
        """FLOPs, and what does them."""
        rows, inner, columns = PRODUCT
        pairs = PAIRS.get(jax.default_backend(), PAIRS["default"])
        shapes, drawn = ((rows, inner), (inner, columns), (columns, inner)), np.random.default_rng(0)
        x, there, back = (
            jnp.asarray(drawn.standard_normal(shape, np.float32) / shape[0] ** 0.5).astype(self.case.dtype)
            for shape in shapes
        )
        multiply = jax.jit(lambda x, there, back: jax.lax.fori_loop(0, pairs, lambda _, x: (x @ there) @ back, x))
        return 4 * pairs * rows * inner * columns, lambda: multiply(x, there, back).block_until_ready()

    def product(self) -> dict[str, float]:
        """Matrix products one after the other."""
        count, multiply = self._product
        multiply()
        return clock(multiply) | {"flops": count}

    @functools.cached_property
    def _evaluation(self) -> dict[str, Callable[[], Any]]:
        """A batch with text features at hand, through evaluations and plain CLIP."""
        method, split, config = self.method, self.method.split, self.case.config
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
        differentiate = jax.jit(jax.value_and_grad(self.method.loss, has_aux=True))
        adapter = self.case.adapter(self.params, self.frozen.prompts, 0)
        seen = jax.jit(self.method.split.look)(self.params, self.images[0])
        (loss, _), gradients = differentiate(adapter, settings, self.frozen, seen, self.labels[0])
        np.savez(Path(path), loss=loss, **gradients)
        return {"loss": float(loss)}


class TorchWorker:
    """The plain PyTorch reference of DeAR; several seeds run one after the other."""

    def __init__(self, case: Case):
        import torch

        from experiments.speed.torch_reference import TorchReference, to_torch

        self.case, self.params, program = case, case.params(), case.program
        settings, rates = jax.tree.map(lambda leaf: leaf[0], (program.settings, program.rates))
        assert isinstance(program.method, DeAR)
        self.reference = TorchReference(
            program.method,
            to_torch(self.params),
            torch.from_numpy(case.token_ids()).long(),
            to_torch(settings.head_mask),
            float(settings.beta),
            float(settings.reg_weight),
            float(settings.fusion_weight),
        )
        self.images, self.labels = map(to_torch, case.images())
        self.runs = []
        for seed in range(case.seeds):
            adapter = self._start(seed)
            lr, decay = float(rates.learning_rate), float(rates.weight_decay)
            self.runs.append((adapter, torch.optim.AdamW(adapter.values(), lr=lr, weight_decay=decay)))

    def _start(self, seed: int) -> dict[str, Any]:
        from experiments.speed.torch_reference import to_torch

        prompts: Any = None  # do not count
        leaves = self.case.adapter(self.params, prompts, seed)
        return {name: to_torch(leaf).requires_grad_() for name, leaf in leaves.items()}

    def ready(self) -> dict[str, Any]:
        """Nothing to say."""
        return {"case": dataclasses.asdict(self.case)}

    def memory(self) -> dict[str, Any]:
        """The largest resident size so far, in bytes."""
        return {"peak_bytes": resident_peak(), "of_device": False}

    def step(self, count: str) -> dict[str, float]:
        """Steps of every seed."""
        losses = []

        def run() -> None:
            for _ in range(int(count)):
                for (adapter, optimizer), images, labels in zip(self.runs, self.images, self.labels, strict=True):
                    optimizer.zero_grad()
                    loss = self.reference.loss(adapter, images, labels.long())
                    loss.backward()
                    optimizer.step()
                    losses.append(loss.item())

        return clock(run, int(count)) | {"loss": losses[0]}

    def gradients(self, path: str) -> dict[str, float]:
        """Loss and gradients of the first run at its start, to a NumPy file."""
        adapter = self._start(0)
        loss = self.reference.loss(adapter, self.images[0], self.labels[0].long())
        loss.backward()
        np.savez(Path(path), loss=loss.item(), **{name: leaf.grad.numpy() for name, leaf in adapter.items()})
        return {"loss": loss.item()}


if __name__ == "__main__":
    main()
