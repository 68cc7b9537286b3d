"""The AsyncAPI document is valid by the official schema."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from tests.kit.npm import PATIENCE_S, install
from tools import asyncapi

_SPECS = "6.11.1"


@pytest.mark.timeout(2 * PATIENCE_S)
def test_the_document_is_valid_by_the_official_schema(tmp_path: Path) -> None:
    install(f"@asyncapi/specs@{_SPECS}", tmp_path)
    file = tmp_path / "node_modules/@asyncapi/specs/schemas/3.0.0.json"
    validator = Draft7Validator(json.loads(file.read_text(encoding="utf-8")))
    document = json.loads(asyncapi.text())
    assert [error.message for error in validator.iter_errors(document)] == []
    document["channels"]["outcomes"]["bindings"]["kafka"]["partitions"] = 0
    assert list(validator.iter_errors(document))
