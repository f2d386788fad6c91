"""Every field of every request can be drawn, and stored preferences are validated."""

import dataclasses

import pytest

from bit_transformer.model.config import preset
from bit_transformer.server.dashboard import preferences, train_panel
from bit_transformer.server.dashboard.fields import FieldSpec, fields_of
from bit_transformer.server.dashboard.run_details import _SWITCHES
from bit_transformer.server.operations import OPERATIONS
from bit_transformer.training.config import RunConfig


def test_training_has_a_field_for_each_setting() -> None:
    paths = {
        f"{section.name}.{field.name}"
        for section in dataclasses.fields(RunConfig)
        for field in dataclasses.fields(getattr(RunConfig(), section.name))
    }
    assert paths <= set(fields_of(OPERATIONS["train"].request))


def test_the_fields_of_the_training_form_exist() -> None:
    known = fields_of(OPERATIONS["train"].request)
    placed = [*train_panel._MAIN, *train_panel._NEEDS, *_SWITCHES]
    for group in train_panel._GROUPS.values():
        placed += group
    assert [path for path in placed if path not in known] == []


def test_defaults_are_those_of_the_preset() -> None:
    known = fields_of(OPERATIONS["train"].request)
    for name, value in preset("tiny").to_dict().items():
        assert known[f"model.{name}"].default == value
    assert (
        train_panel._preset_defaults({"preset": "small"})["model.d_model"]
        == preset("small").d_model
    )


@pytest.mark.parametrize("operation", OPERATIONS)
def test_defaults_are_of_their_kind_and_explained(operation: str) -> None:
    for spec in fields_of(OPERATIONS[operation].request).values():
        assert spec.required or spec.kind == "secret" or spec.accepts(spec.default), spec
        assert spec.label


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        ("boolean", True, True),
        ("boolean", 1, False),
        ("integer", True, False),
        ("integer", 1.5, False),
        ("number", 1, True),
        ("string", 1, False),
        ("list", "abc", False),
        ("secret", "abc", False),
        ("string", None, False),
    ],
)
def test_stored_values_are_checked(kind: str, value: object, fits: bool) -> None:
    assert FieldSpec("a", kind, None, "").accepts(value) == fits  # type: ignore[arg-type]


def test_the_token_of_the_hub_is_a_secret() -> None:
    assert fields_of(OPERATIONS["push"].request)["token"].kind == "secret"


def test_invalid_stored_preferences_are_ignored() -> None:
    for text in (None, "", "no JSON", "[]", "7", "x" * (2 << 20), '{"tab":"nowhere","run":"../x"}'):
        assert preferences.parse(text) == preferences.Preferences()
    kept = preferences.parse('{"tab":"ask","dark":true,"run":"..","forms":{"train":{"a":1}}}')
    assert (kept.tab, kept.dark, kept.run, kept.forms) == ("ask", True, None, {"train": {"a": 1}})
