"""The glass box in words and pictures."""

from xml.etree import ElementTree

import pytest

from bit_transformer.server.dashboard.glass import heat, shown, spoken, text_of, tree
from bit_transformer.server.dashboard.words import duration, file_name, label_of, size
from bit_transformer.server.settings import NAME_PATTERN


def patch(char: str = "t") -> dict[str, object]:
    bits = f"{ord(char):08b}"
    return {"bits": bits, "p_ones": [0.25] * 8, "shown": char, "surprisal": 2.0}


def test_tree_draws_both_branches_of_each_bit() -> None:
    drawn = ElementTree.fromstring(tree(patch()))
    space = "{http://www.w3.org/2000/svg}" if drawn.tag.startswith("{") else ""
    texts = [text.text for text in drawn.iter(f"{space}text")]
    assert len(texts) == 16
    assert texts.count("1 · 25%") == texts.count("0 · 75%") == 8
    assert drawn.get("aria-label", "").count("bit 0 with 75%") == 4


def test_heat_grows_and_stays_readable() -> None:
    values = [heat(x) for x in (-1.0, 0.0, 1.0, 4.0, 8.0, 100.0)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.0, 0.75)


def test_text_is_that_of_the_bits() -> None:
    assert text_of([patch(c) for c in "a\nb"]) == "a\nb"
    assert text_of([{"bits": "011000011"}]) == "a"
    assert text_of([{"bits": "0110"}, {"bits": "0001"}, {"bits": "01"}]) == "a"
    assert text_of([{"bits": "11111111"}]) == "\ufffd"


def test_spaces_have_names() -> None:
    assert spoken(patch(" ")).startswith("space, ")
    assert shown(patch("\n")).endswith("\n")


@pytest.mark.parametrize(
    ("given", "name"),
    [("../../etc/passwd", "etc_passwd"), ("a b.txt", "a_b.txt"), ("…", "file"), (".x", "x")],
)
def test_names_of_uploads(given: str, name: str) -> None:
    import re

    assert file_name(given) == name
    assert re.match(NAME_PATTERN, name)


def test_words() -> None:
    assert [duration(x) for x in (3.4, 61, 7300)] == ["3 s", "1 min 01 s", "2 h 01 min"]
    assert [size(x) for x in (5, 2048, 5 << 30)] == ["5 B", "2.0 KiB", "5.0 GiB"]
    assert label_of("act_threshold") == "ACT threshold"
