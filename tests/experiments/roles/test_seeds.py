"""Maps of other pretraining seeds: descriptions dealt out again leave a head its votes, and a map matches itself."""

import json

import numpy as np

from dear_jax.report.role_comparison import compare
from dear_jax.roles import role_map
from experiments.roles import seeds


def shipped() -> dict:
    return json.loads(role_map.EMBEDDED.read_text())


def test_dealt_out_again_every_head_keeps_its_votes():
    values = shipped()
    dealt = seeds.deal(values, 0)
    before, after = ([head["descriptions"] for row in one["heads"] for head in row] for one in (values, dealt))
    variances = [[pick["variance"] for pick in head] for head in before]
    assert [[pick["variance"] for pick in head] for head in after] == variances
    pairs = [sorted((pick["text"], pick["cluster"]) for head in one for pick in head) for one in (before, after)]
    assert pairs[0] == pairs[1]
    assert before != after
    assert values == shipped()


def test_a_map_matches_itself_by_function_and_not_one_that_is_dealt_out():
    values = shipped()
    same = compare(values, values | {"fingerprint": "another"}, "other")
    dealt = compare(values, seeds.deal(values, 1), "other")
    assert not same.by_place
    assert np.mean([pair.overlap for pair in same.pairs]) > 0.999
    assert np.mean([pair.overlap for pair in dealt.pairs]) < 0.9


def test_heads_that_are_clearly_one_attribute():
    shares = np.zeros((24, 6))
    shares[[3, 20], seeds.NAMES.index("object")] = 0.8, 0.74
    one = seeds.OfClip("a", {}, role_map.load(role_map.EMBEDDED), shares, {}, [])
    assert seeds.clear(one, "object") == ["5.3"]
    assert seeds.clear(one, "color") == []
