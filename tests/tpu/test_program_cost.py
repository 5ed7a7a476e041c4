"""What a compiled program costs, against counts by hand and against XLA's own count of the unrolled program."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dear_jax.tpu import hlo, program_cost

# As a TPU's compiler writes it: a loop of 3 turns whose length stands in its condition only, a batched product as a
# convolution with a dilated input, slices of a stacked array in a fusion within a fusion, an update in place, memory on
# the chip (S(1)).
STATE = "(s32[]{:T(128)}, bf16[2,4,8]{2,1,0:T(8,128)S(1)}, bf16[3,2,8,16]{3,2,1,0}, f32[3,5]{1,0})"
WINDOW = "window={size=2 stride=1 lhs_dilate=2}, dim_labels=0bf_0io->0bf"
GROUPS = "replica_groups=mesh['axis_0'=1,'axis_1'=4,'axis_2'=2] {'axis_0','axis_1'}"
TPU_TEXT = """HloModule jit_step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%take (t0: bf16[3,2,8,16], t1: s32[], t2: s32[]) -> bf16[2,8,16] {
  %t0 = bf16[3,2,8,16]{3,2,1,0} parameter(0)
  %t1 = s32[] parameter(1)
  %t2 = s32[] parameter(2)
  %slice = bf16[1,2,8,16]{3,2,1,0} dynamic-slice(%t0, %t1, %t2, %t2, %t2), dynamic_slice_sizes={1,2,8,16}
  ROOT %view = bf16[2,8,16]{2,1,0} bitcast(%slice)
}

%product (p0: bf16[2,4,8], p1: bf16[3,2,8,16], p2: s32[]) -> bf16[2,4,16] {
  %p0 = bf16[2,4,8]{2,1,0:T(8,128)(2,1)} parameter(0)
  %p1 = bf16[3,2,8,16]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  %p2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  %layer = bf16[2,8,16]{2,1,0} fusion(%p1, %p2, %zero), kind=kLoop, calls=%take
  ROOT %conv = bf16[2,4,16]{2,1,0} convolution(%p0, %layer), WINDOW, operand_precision={highest,highest}
}

%keep (q0: f32[3,5], q1: f32[1,5], q2: s32[]) -> f32[3,5] {
  %q0 = f32[3,5]{1,0} parameter(0)
  %q1 = f32[1,5]{1,0} parameter(1)
  %q2 = s32[] parameter(2)
  %none = s32[] constant(0)
  ROOT %update = f32[3,5]{1,0} dynamic-update-slice(%q0, %q1, %q2, %none)
}

%body (state: STATE) -> STATE {
  %state = STATE parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %x = bf16[2,4,8]{2,1,0:T(8,128)S(1)} get-tuple-element(%state), index=1
  %stack = bf16[3,2,8,16]{3,2,1,0} get-tuple-element(%state), index=2
  %kept = f32[3,5]{1,0} get-tuple-element(%state), index=3
  %y = bf16[2,4,16]{2,1,0} fusion(%x, %stack, %i), kind=kOutput, calls=%product, backend_config={"estimated_cycles":"7"}
  %row = f32[1,5]{1,0:S(1)} custom-call(), custom_call_target="AllocateBuffer"
  %all-reduce.1 = f32[1,5]{1,0:S(1)} all-reduce(%row), channel_id=1, GROUPS, to_apply=%sum
  %kept2 = f32[3,5]{1,0} fusion(%kept, /*index=1*/%all-reduce.1, %i), kind=kLoop, calls=%keep
  %one = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)S(1)} add(%i, %one)
  ROOT %out = STATE tuple(%next, %x, %stack, %kept2)
}

%condition (state: STATE) -> pred[] {
  %state = STATE parameter(0)
  %limit = s32[]{:T(128)} constant(3)
  %i = s32[]{:T(128)S(1)} get-tuple-element(%state), index=0
  ROOT %less = pred[]{:T(512)S(1)} compare(%i, %limit), direction=LT
}

ENTRY %main (start: STATE) -> STATE {
  %start = STATE parameter(0)
  ROOT %loop = STATE while(%start), condition=%condition, body=%body
}
"""
for word, meaning in {"STATE": STATE, "WINDOW": WINDOW, "GROUPS": GROUPS}.items():
    TPU_TEXT = TPU_TEXT.replace(word, meaning)


def test_a_loop_of_a_tpu_program_by_hand():
    cost = program_cost.measure(TPU_TEXT)
    product = 2 * 2 * 4 * 8 * 16  # two matrices: 4 x 8 by 8 x 16
    assert cost.flops == 3 * product
    assert cost.passes == 3 * product  # bfloat16: one pass, whatever precision is asked for
    assert cost.cycles == 21
    assert cost.unknown_loops == ()
    product = 2 * 8 * 16 * 2 + 4 + 2 * 4 * 16 * 2  # a slice of the stack and the counter in, the product out
    keep = 4 + 5 * 4  # the counter in, a row out: the rest stays where it is
    scalars = 4 + 4 + 4  # the counter and two constants
    assert cost.bytes == 3 * (product + keep + scalars)
    (exchange,) = cost.collectives
    assert exchange == program_cost.Collective("all-reduce", 4, 3, 3 * 20, 3 * 20 * 2 * 3 / 4)


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("((s8[64]{0}), s8[16]{0:S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:16]}", 16),
        ("((s8[64]{0}), s8[16]{0}, s32[]{:S(2)}) slice-start(%x), slice={[0:16]}", 2 * 16),
        ("(s8[64]{0}, s8[64]{0:S(1)}, u32[]{:S(2)}) copy-start(%x)", 64),
        ("s8[16]{0:S(1)} slice-done(%copy)", 0),
    ],
)
def test_copies_in_the_background_move_what_they_copy(line, size):
    text = f"ENTRY %main (x: s8[64]) -> s8[64] {{\n  %x = s8[64]{{0}} parameter(0)\n  ROOT %copy = {line}\n}}\n"
    assert program_cost.measure(text).bytes == size


def test_float32_products_take_passes():
    text = TPU_TEXT.replace("bf16", "f32")
    cost = program_cost.measure(text)
    assert cost.passes == 6 * cost.flops
    assert program_cost.measure(text.replace("{highest,highest}", "{high,high}")).passes == 3 * cost.flops


def _layers(x, stack, unroll):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, stack, unroll=unroll)[0]


def test_a_scan_counts_as_often_as_xla_counts_it_unrolled():
    x, stack = jnp.ones((8, 16)), jnp.ones((5, 16, 16))
    scanned, unrolled = (jax.jit(_layers, static_argnums=2).lower(x, stack, n).compile() for n in (1, 5))
    flops = 5 * 2 * 8 * 16 * 16
    assert program_cost.measure(scanned.as_text()).flops == flops
    assert program_cost.measure(unrolled.as_text()).flops == flops
    assert unrolled.cost_analysis()["flops"] == flops
    assert scanned.cost_analysis()["flops"] < flops  # the reason for counting by ourselves


def _slices(x, w):
    return jax.lax.dynamic_update_slice(x, 2 * jax.lax.dynamic_slice(w, (0, 0), (2, 16)), (1, 0))


@pytest.mark.parametrize("function", [lambda x, w: jnp.tanh(x @ w) @ w + jax.nn.softmax(x), _slices])
def test_bytes_are_those_that_xla_counts(function):
    compiled = jax.jit(function).lower(jnp.ones((8, 16)), jnp.ones((16, 16))).compile()
    assert program_cost.measure(compiled.as_text()).bytes == compiled.cost_analysis()["bytes accessed"]


def test_bytes_of_a_scan_are_those_of_its_turns():
    x, stack = jnp.ones((64, 64)), jnp.ones((5, 64, 64))
    scanned, unrolled = (jax.jit(_layers, static_argnums=2).lower(x, stack, n).compile() for n in (1, 5))
    expected = unrolled.cost_analysis()["bytes accessed"]
    assert program_cost.measure(unrolled.as_text()).bytes == expected
    once = re.sub(r'"known_trip_count":{"n":"5"}', '"known_trip_count":{"n":"1"}', scanned.as_text())
    turn = scanned.cost_analysis()["bytes accessed"]
    assert program_cost.measure(once).bytes == pytest.approx(turn, abs=64)  # scalars of the loop itself
    assert program_cost.measure(scanned.as_text()).bytes == pytest.approx(5 * turn, rel=0.3)  # some lie outside


def test_a_sharded_sum_is_exchanged_among_all_devices():
    mesh = Mesh(np.asarray(jax.devices()[:4]), ("data",))
    split = NamedSharding(mesh, PartitionSpec(None, "data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    shape = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=split)
    compiled = jax.jit(lambda x: x @ x.T, out_shardings=everywhere).lower(shape).compile()
    cost = program_cost.measure(compiled.as_text())
    assert cost.flops == 2 * 8 * 8 * 4  # a quarter of the terms on each device
    assert cost.collectives == (program_cost.Collective("all-reduce", 4, 1, 8 * 8 * 4, 1.5 * 8 * 8 * 4),)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ("replica_groups={{0,1,2},{3,4,5}}", 3),
        ("replica_groups=[2,8]<=[16]", 8),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}, x={1}", 8),
        ("source_target_pairs={{0,1},{1,0}}", 2),
    ],
)
def test_groups_are_read_in_every_notation(attributes, size):
    assert program_cost._group_size(attributes) == size


@pytest.mark.parametrize(
    ("kind", "share"),
    [("all-reduce", 1.5), ("all-gather", 0.75), ("reduce-scatter", 3), ("all-to-all", 0.75), ("collective-permute", 1)],
)
def test_bytes_sent_per_byte_of_the_result(kind, share):
    assert program_cost.sent_share(kind, 4) == share


def test_a_loop_of_unknown_length_counts_once_and_is_named():
    text = TPU_TEXT.replace("constant(3)", "parameter(1)")
    cost = program_cost.measure(text)
    assert cost.unknown_loops == ("loop",)
    assert cost.flops == 2 * 2 * 4 * 8 * 16


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        hlo.parse("HloModule nothing\n")
