"""Optimizers and schedules of the field against PyTorch's own, and the rates that Dassl's trainers run with."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from dear_jax.methods.contract import Length
from dear_jax.training.optimizer import ADAM, ADAMW, CONSTANT, SGD, STEP_COSINE, Optimizer, Rates

STEPS = 200
RATE, DECAY, FINAL = 0.02, 0.05, 1e-6
# Of each leaf its shape and the size of its gradients: beside the smallest, the epsilons of Adam count.
LEAVES = {"scalar": ((), 1.0), "vector": ((40,), 1.0), "matrix": ((8, 6), 1e-2), "stack": ((2, 5, 4), 1e-4)}
# Each update rounds a parameter once, by at most 2^-24 of it, and nothing here makes what was rounded grow: so far may
# float32 be from the same in float64, relative to the largest parameter. Beside it, what is rounded in an update counts
# little: it is that much of a rate of 0.02, but for Adam's 1 - 0.999^n, which in float32 is off by up to 3e-5 / n of
# itself. That is 2e-6 in all.
ROUNDING = STEPS * 2**-24
CASES = {
    "sgd": (Optimizer(SGD), torch.optim.SGD, {"momentum": 0.9}),
    "sgd, less momentum": (Optimizer(SGD, momentum=0.5), torch.optim.SGD, {"momentum": 0.5}),
    "adam": (Optimizer(ADAM, epsilon=1e-3), torch.optim.Adam, {"eps": 1e-3}),
    "adamw": (Optimizer(ADAMW), torch.optim.AdamW, {"eps": 1e-8}),
    "adamw, larger epsilon": (Optimizer(ADAMW, epsilon=1e-4), torch.optim.AdamW, {"eps": 1e-4}),
}


def draw(seed: int, sizes: bool) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        name: np.asarray((size if sizes else 1) * generator.normal(size=shape), np.float32)
        for name, (shape, size) in LEAVES.items()
    }


@pytest.fixture(scope="module")
def start():
    return draw(0, sizes=False)


@pytest.fixture(scope="module")
def gradients():
    return [draw(1 + number, sizes=True) for number in range(STEPS)]


def theirs(start, gradients, make, cosine: bool) -> dict[str, np.ndarray]:
    """What PyTorch makes of the leaves, in float64."""
    leaves = {name: torch.nn.Parameter(torch.from_numpy(leaf.astype(np.float64))) for name, leaf in start.items()}
    optimizer = make(list(leaves.values()))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS, eta_min=FINAL)
    for gradient in gradients:
        for name, leaf in leaves.items():
            leaf.grad = torch.from_numpy(gradient[name].astype(np.float64))
        optimizer.step()
        if cosine:
            schedule.step()
    return {name: leaf.detach().numpy() for name, leaf in leaves.items()}


def ours(start, gradients, optimizer: Optimizer) -> dict[str, jax.Array]:
    rule = optimizer.make(make_rates(RATE, DECAY), Length(1, STEPS))

    @jax.jit
    def step(leaves, state, gradient):
        updates, state = rule.update(gradient, state, leaves)
        return optax.apply_updates(leaves, updates), state

    leaves = jax.tree.map(jnp.asarray, start)
    state = rule.init(leaves)
    for gradient in gradients:
        leaves, state = step(leaves, state, gradient)
    return leaves


def make_rates(learning_rate: float, decay: float = 0.0, warmup_epochs: int = 0) -> Rates:
    return Rates(*map(jnp.float32, (learning_rate, 1e-5, warmup_epochs, decay)))


@pytest.mark.parametrize("schedule", [CONSTANT, STEP_COSINE])
@pytest.mark.parametrize("case", CASES)
def test_updates_are_those_of_torch(start, gradients, case, schedule):
    optimizer, make, keys = CASES[case]
    optimizer = Optimizer(optimizer.name, optimizer.epsilon, optimizer.momentum, schedule, FINAL)
    expected = theirs(
        *(start, gradients), lambda leaves: make(leaves, lr=RATE, weight_decay=DECAY, **keys), schedule == STEP_COSINE
    )
    found = ours(start, gradients, optimizer)
    for name, leaf in expected.items():
        assert found[name].dtype == jnp.float32
        size = max(np.abs(leaf).max(), np.abs(start[name]).max())
        np.testing.assert_allclose(found[name], leaf, rtol=0, atol=ROUNDING * size, err_msg=name)
        assert np.abs(leaf - start[name]).max() > 1000 * ROUNDING * size, name


def test_runs_side_by_side_have_their_own_rates_and_states_of_one_shape(start, gradients):
    """A state that is made from some rates serves all."""
    optimizer, length = Optimizer(SGD, schedule=CONSTANT), Length(1, STEPS)
    rates = Rates(*(jnp.asarray(each, jnp.float32) for each in ([RATE, 0.1], [0, 0], [0, 0], [DECAY, 0.0])))
    state = jax.vmap(lambda leaves, _: optimizer.make(make_rates(1.0), length).init(leaves), in_axes=(None, 0))(
        start, rates
    )

    @jax.jit
    @jax.vmap
    def step(leaves, state, rates, gradient):
        updates, state = optimizer.make(rates, length).update(gradient, state, leaves)
        return optax.apply_updates(leaves, updates), state

    def twice(tree):
        return jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), tree)

    leaves = twice(start)
    for gradient in gradients:
        leaves, state = step(leaves, state, rates, twice(gradient))
    alone = ours(start, gradients, optimizer)
    for name, leaf in alone.items():
        np.testing.assert_allclose(leaves[name][0], leaf, rtol=1e-5, atol=1e-6)
        assert np.abs(leaves[name][1] - leaf).max() > 0.1 * LEAVES[name][1]


def rates_of(optimizer: Optimizer, rates: Rates, length: Length) -> np.ndarray:
    """Of every step of a run."""
    return np.asarray(jax.vmap(optimizer.learning_rate(rates, length))(jnp.arange(length.steps)))


@pytest.mark.parametrize("final", [0.0, 1e-6])
@pytest.mark.parametrize("length", [Length(1, 500), Length(16, 5, limit=78)])
def test_a_cosine_over_steps_is_that_of_torch(length, final):
    """Also where a run ends within an epoch. The cosine is rounded to 2^-24, which is as much of the peak."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=2e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, length.steps, eta_min=final)
    expected = []
    for _ in range(length.steps):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    found = rates_of(Optimizer(schedule=STEP_COSINE, final_learning_rate=final), make_rates(2e-4), length)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * 2**-22)


# The rates that Dassl ran with, epoch by epoch: peak, number of epochs, epochs of warm-up.
EXECUTED = [
    (0.0035, 5, 1, (1e-5, 0.0035, 0.00316578, 0.00229078, 0.00120922)),
    (0.0026, 2, 1, (1e-5, 0.0026)),
    (
        *(0.002, 10, 1),
        (1e-5, 0.002, 0.00195106, 0.00180902, 0.00158779, 0.00130902, 0.001, 0.000690983, 0.000412215, 0.000190983),
    ),
    (0.001, 1, 0, (0.001,)),
    (0.001, 1, 1, (1e-5,)),  # a run of the warm-up alone
]


@pytest.mark.parametrize(("peak", "epochs", "warmup", "expected"), EXECUTED)
def test_a_cosine_over_epochs_is_that_of_dassl(peak, epochs, warmup, expected):
    found = rates_of(Optimizer(), make_rates(peak, warmup_epochs=warmup), Length(epochs, 7))
    np.testing.assert_allclose(found.reshape(epochs, 7), np.asarray(expected)[:, None] * np.ones((1, 7)), rtol=3e-6)


def test_the_period_is_that_of_all_epochs_and_the_last_one_keeps_a_rate():
    found = rates_of(Optimizer(), make_rates(1e-3, warmup_epochs=1), Length(50, 3))
    for epoch in range(1, 50):
        expected = 0.5e-3 * (1 + math.cos(math.pi * (epoch - 1) / 50))
        np.testing.assert_allclose(found[3 * epoch : 3 * epoch + 3], expected, rtol=1e-4)
    assert found[-1] > 3e-6


def test_a_constant_rate_comes_after_the_warm_up():
    found = rates_of(Optimizer(schedule=CONSTANT), make_rates(1e-3, warmup_epochs=2), Length(3, 2))
    np.testing.assert_allclose(found, [1e-5] * 4 + [1e-3] * 2, rtol=1e-6)
