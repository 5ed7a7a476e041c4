import json

import pytest

from dear_jax.errors import UserError
from dear_jax.files import json_files

VALUE = {"a": [1.5, None, {"b": "é"}], "z": 1e-9}


def test_an_object_is_read_as_it_was_sealed_however_it_is_laid_out(tmp_path):
    path = tmp_path / "a.json"
    for indent in (None, 2):
        path.write_text(json.dumps(json_files.seal(VALUE), indent=indent))
        assert json_files.read_object(path) == VALUE
    path.write_text(json.dumps(VALUE))  # of an earlier version
    assert json_files.read_object(path) == VALUE


def test_every_flipped_bit_is_noticed_or_without_effect(tmp_path):
    path = tmp_path / "a.json"
    whole = json.dumps(json_files.seal(VALUE), indent=2).encode()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            found = json_files.read_object(path)
        except UserError as error:
            assert str(path) in str(error)  # noqa: PT017 - not every flip is an error
        else:
            assert {key: found.get(key) for key in VALUE} == VALUE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": ' + b"[" * 80 + b"]" * 80 + b"}", "nested too deep"),
        (b"null", "holds NoneType, expected a JSON object"),
        (b"\xff\xfe", "half-written or damaged"),
    ],
)
def test_what_is_no_object_is_answered(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        json_files.read_object(path)
