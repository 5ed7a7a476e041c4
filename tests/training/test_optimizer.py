"""The learning rate of CoOp's family, and AdamW against PyTorch's."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import torch

from dear_jax.methods.contract import Length
from dear_jax.training import optimizer as optimizers
from dear_jax.training.optimizer import Rates


def test_constant_within_an_epoch_cosine_over_epochs():
    rates = Rates(*map(jnp.float32, (1e-3, 1e-5, 1, 0)))
    schedule = optimizers.schedule(rates, Length(epochs=10, steps_per_epoch=7))
    for epoch in range(10):
        expected = 1e-5 if epoch == 0 else 0.5e-3 * (1 + math.cos(math.pi * (epoch - 1) / 10))
        for step in (7 * epoch, 7 * epoch + 6):
            np.testing.assert_allclose(schedule(jnp.int32(step)), expected, rtol=1e-6)


def test_adamw_equals_torch():
    start = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    their_optimizer = torch.optim.AdamW([theirs], lr=1e-2, weight_decay=0.1)
    optimizer = optimizers.make(Rates(*map(jnp.float32, (1e-2, 1e-2, 1, 0.1))), Length(1, 100))
    ours = jnp.asarray(start)
    state = optimizer.init(ours)
    for seed in range(20):
        gradient = np.random.default_rng(seed).normal(size=start.shape).astype(np.float32)
        theirs.grad = torch.from_numpy(gradient)
        their_optimizer.step()
        updates, state = optimizer.update(jnp.asarray(gradient), state, ours)
        ours = optax.apply_updates(ours, updates)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
