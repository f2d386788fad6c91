"""Text is encoded as bytes, and bytes as patches."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bit_transformer.errors
from bit_transformer.hub import push
from bit_transformer.transformers_adapter.export import export_for_transformers
from bit_transformer.transformers_adapter.tokenization import BitTransformerTokenizer
from tests.builders import tiny_model
from tests.hub.fixtures import away, hub, serving  # noqa: F401 (fixtures)

TOKENIZERS = {size: BitTransformerTokenizer(size) for size in (1, 2, 4, 8)}
TOKENIZERS[9] = BitTransformerTokenizer(9, parity=True)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(sorted(TOKENIZERS)))
def test_text_round_trip(text, size):
    tokenizer = TOKENIZERS[size]
    ids = tokenizer(text).input_ids
    assert len(ids) == len(text.encode()) * (9 if size == 9 else 8) // size
    assert tokenizer.decode(ids) == text


def test_the_vocabulary_is_every_patch_and_one_special_token():
    tokenizer = TOKENIZERS[8]
    assert len(tokenizer) == 257
    assert tokenizer.pad_token_id == tokenizer.bos_token_id == 256
    assert sorted(tokenizer.get_vocab().values()) == list(range(257))
    assert tokenizer.convert_ids_to_tokens(65) == "<0x41>"
    assert tokenizer("<start>").input_ids == list(b"<start>")
    assert tokenizer.decode([256, 104, 105], skip_special_tokens=True) == "hi"


def test_invalid_utf8_decodes_to_replacement_characters():
    assert TOKENIZERS[8].decode([0xFF, 65, 0xC3]) == "�A�"
    assert TOKENIZERS[4].decode([4]) == "", "an incomplete byte is dropped"
    assert TOKENIZERS[9].decode([1]) == "�", "its parity is wrong"


def test_a_batch_is_padded_on_the_left():
    batch = TOKENIZERS[8](["ab", "c"], padding=True)
    assert batch.input_ids == [[97, 98], [256, 99]]
    assert batch.attention_mask == [[1, 1], [0, 1]]


def test_without_the_package_the_code_says_what_to_install(tmp_path, monkeypatch):
    tiny_model().save_pretrained(tmp_path / "m")
    export_for_transformers(tmp_path / "m")
    monkeypatch.setitem(sys.modules, "bit_transformer.transformers_adapter.modeling", None)
    with pytest.raises(ImportError, match=r"pip install 'bit-transformer\[transformers\]'"):
        runpy.run_path(str(tmp_path / "m" / "modeling_bit_transformer.py"))


BY_ID = """
import json, sys, warnings
warnings.filterwarnings("error", module="bit_transformer")
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
model = AutoModelForCausalLM.from_pretrained("user/net", trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained("user/net", trust_remote_code=True)
ids = tokenizer("To be", return_tensors="pt")
out = model.generate(**ids, max_new_tokens=8, do_sample=False)[0].tolist()
pipe = pipeline("text-generation", "user/net", trust_remote_code=True)
text = pipe("To be", max_new_tokens=8, do_sample=False)[0]["generated_text"]
print(json.dumps([out, text]))
"""


def test_a_hub_id_is_enough(hub, tmp_path):  # noqa: F811
    """The test uses another process, because transformers reads its environment only at import."""
    push(tiny_model().save_pretrained(tmp_path / "m"), "user/net", private=False)
    done = subprocess.run(
        [sys.executable, "-c", BY_ID],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={
            **os.environ,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": str(Path(bit_transformer.errors.__file__).parents[1]),
        },
    )
    assert done.returncode == 0, done.stderr
    out, text = json.loads(done.stdout.splitlines()[-1])
    assert out[:5] == list(b"To be")
    assert text == bytes(out).decode(errors="replace")
