"""transformers generates the same bits when greedy, and otherwise has the same distribution."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList, pipeline

from bit_transformer import BitTransformerLM, bits_to_bytes, bytes_to_bits, quantize_dynamic
from bit_transformer.errors import InvalidBitsError, UnsupportedCombination
from bit_transformer.inference.predictor import Predictor
from bit_transformer.inference.sampling import SamplingConfig, _filter, patch_log_probabilities
from bit_transformer.model.bit_tree import patch_bits, patch_values
from bit_transformer.transformers_adapter.export import export_for_transformers
from bit_transformer.transformers_adapter.modeling import BitTransformerForCausalLM
from tests.builders import ATTENTION_PATCHES, STACKS, tiny_model

PROMPT = b"To be, or not to be"
SIZES = {"P=8": {}, "P=1": {"patch_size": 1}, "P=2": {"patch_size": 2}, "P=4": {"patch_size": 4}}
SIZES["parity"] = {"patch_size": 9, "parity": True}


def _ids(model: BitTransformerLM, *prompts: bytes) -> torch.Tensor:
    rows = [torch.from_numpy(bytes_to_bits(one, parity=model.config.parity)) for one in prompts]
    return patch_values(torch.stack(rows), model.config.patch_size)


def _bits(model: BitTransformerLM, ids: torch.Tensor) -> torch.Tensor:
    return patch_bits(ids, model.config.patch_size)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_greedy_is_ours_bit_for_bit_at_every_patch_size(size, batch):
    model = tiny_model(**SIZES[size])
    prompts = [PROMPT[i : i + 9] for i in range(batch)]
    theirs = BitTransformerForCausalLM.from_model(model).eval()
    ids = _ids(model, *prompts)
    out = theirs.generate(ids, max_new_tokens=24, do_sample=False)
    new_bits = 24 * model.config.patch_size
    ours = model.generate(_bits(model, ids), new_bits, temperature=0)
    assert torch.equal(_bits(model, out), ours)


@pytest.mark.parametrize("attention", ATTENTION_PATCHES)
@pytest.mark.parametrize("stack", STACKS)
def test_greedy_is_ours_for_every_stack_and_beyond_the_context(stack, attention):
    model = tiny_model(stack=stack, attention=attention, max_seq_len=128)
    theirs = BitTransformerForCausalLM.from_model(model).eval()
    ids = _ids(model, PROMPT)
    out = theirs.generate(ids, max_new_tokens=40, do_sample=False)
    ours = model.generate(_bits(model, ids), 320, temperature=0)
    assert torch.equal(_bits(model, out), ours)


@pytest.mark.parametrize("settings", [{}, {"logit_cap": 4.0}, {"memory_bits": ()}])
def test_scores_at_each_step_are_our_log_probabilities_to_the_last_bit(settings):
    model = tiny_model(**settings)
    theirs = BitTransformerForCausalLM.from_model(model).eval()
    ids = _ids(model, PROMPT)
    torch.manual_seed(1)
    out = theirs.generate(
        ids,
        max_new_tokens=8,
        do_sample=True,
        top_k=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    predictor = Predictor(model.network)
    predictor.read(_bits(model, ids))
    for logits, patch in zip(out.logits, out.sequences[0, ids.shape[1] :], strict=True):
        assert torch.equal(logits[:, :-1], patch_log_probabilities(predictor.node_logits))
        assert logits[0, -1] == -torch.inf
        predictor.push(patch.view(1, 1))


@pytest.mark.parametrize(
    "filters",
    [
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "min_p": 0.02},
    ],
)
def test_filters_give_the_same_distribution_as_ours(filters):
    model = tiny_model()
    theirs = BitTransformerForCausalLM.from_model(model).eval()
    settings = theirs.generation_config
    for name, value in ({"top_k": 0} | filters).items():
        setattr(settings, name, value)
    settings.do_sample = True
    processors: LogitsProcessorList = theirs._get_logits_processor(generation_config=settings)
    ids = _ids(model, PROMPT)
    logits = theirs(ids).logits[:, -1]
    wanted = SamplingConfig(**filters)
    scores = logits[:, :-1] / wanted.temperature
    ours = _filter(scores.softmax(-1), wanted)
    found = processors(ids, logits).softmax(-1)[:, :-1]
    torch.testing.assert_close(found, ours / ours.sum(-1, keepdim=True))


def test_without_a_cache_the_output_is_the_same_within_the_context():
    model = tiny_model()
    theirs = BitTransformerForCausalLM.from_model(model).eval()
    ids = _ids(model, PROMPT)
    with torch.no_grad():
        cached = theirs(ids, use_cache=True)
        step = theirs(ids[:, :1], past_key_values=cached.past_key_values).logits
        longer = theirs(torch.cat((ids, ids[:, :1]), 1)).logits
    torch.testing.assert_close(cached.logits, longer[:, :-1])
    torch.testing.assert_close(step[:, -1], longer[:, -1])
    plain = theirs.generate(ids, max_new_tokens=10, do_sample=False, use_cache=False)
    assert torch.equal(plain, theirs.generate(ids, max_new_tokens=10, do_sample=False))


def test_the_loss_is_the_mean_surprisal():
    model = tiny_model()
    theirs = BitTransformerForCausalLM.from_model(model)
    ids = _ids(model, PROMPT)
    found = theirs(ids, labels=ids)
    bits = model.log2_likelihood(_bits(model, ids))[:, 8:].sum() / (len(PROMPT) - 1)
    torch.testing.assert_close(found.loss / torch.tensor(2.0).log(), -bits)
    found.loss.backward()
    assert model.network.embedding.nodes.grad.abs().sum() > 0
    start = torch.full((1, 1), theirs.config.start_token)
    whole = theirs(torch.cat((start, ids), 1), labels=torch.cat((start, ids), 1)).loss
    bits = model.log2_likelihood(_bits(model, ids)).sum() / len(PROMPT)
    torch.testing.assert_close(whole / torch.tensor(2.0).log(), -bits)


def test_prompts_of_different_lengths_each_start_at_their_own_position():
    model = tiny_model()
    theirs = BitTransformerForCausalLM.from_model(model).eval()
    start = theirs.config.start_token
    long, short = _ids(model, PROMPT), _ids(model, PROMPT[:7])
    padding = torch.full((1, long.shape[1] - 7), start)
    both = torch.cat((long, torch.cat((padding, short), 1)))
    mask = (both != start).long()
    out = theirs.generate(both, attention_mask=mask, max_new_tokens=12, do_sample=False)
    for row, prompt in zip(out, (long, short), strict=True):
        alone = theirs.generate(prompt, max_new_tokens=12, do_sample=False)
        assert torch.equal(row[-alone.shape[1] :], alone[0])
    one_pass = theirs(both, attention_mask=mask).logits
    torch.testing.assert_close(one_pass[1:, -7:], theirs(short).logits)
    # The logits stay the same with any token under the mask, and with padding at the end.
    masked = both.masked_fill(mask == 0, 65)
    torch.testing.assert_close(theirs(masked, attention_mask=mask).logits, one_pass)
    behind = torch.cat((short, padding), 1)
    torch.testing.assert_close(theirs(behind).logits[:, :7], theirs(short).logits)


def test_without_a_prompt_generation_begins_at_the_start_token():
    model = tiny_model()
    theirs = BitTransformerForCausalLM.from_model(model).eval()
    out = theirs.generate(max_new_tokens=6, do_sample=False)
    assert out[0, 0] == theirs.config.start_token
    ours = model.generate(torch.zeros(1, 0, dtype=torch.uint8), 48, temperature=0)
    assert torch.equal(_bits(model, out[:, 1:]), ours)


def test_beam_search_gives_the_same_with_and_without_a_cache():
    model = tiny_model()
    theirs = BitTransformerForCausalLM.from_model(model).eval()
    settings = {"max_new_tokens": 6, "num_beams": 4, "do_sample": False}
    ids = _ids(model, PROMPT, PROMPT[::-1])
    found = theirs.generate(ids, **settings)
    assert torch.equal(found, theirs.generate(ids, use_cache=False, **settings))
    start = theirs.config.start_token
    ragged = torch.cat((ids[:1], ids[1:].masked_fill(torch.arange(len(PROMPT)) < 3, start)))
    with pytest.raises(UnsupportedCombination, match="search one prompt at a time"):
        theirs.generate(ragged, attention_mask=(ragged != start).long(), **settings)


def test_invalid_tokens_and_combinations_are_refused(tmp_path):
    theirs = BitTransformerForCausalLM.from_model(tiny_model()).eval()
    start = theirs.config.start_token
    with pytest.raises(InvalidBitsError, match="tokens must be patch values from 0 to 255, or 256"):
        theirs(torch.tensor([[1, 300]]))
    with pytest.raises(InvalidBitsError, match="in the middle of a sequence"):
        theirs(torch.tensor([[1, start, 2]]))
    with pytest.raises(UnsupportedCombination, match="assisted decoding"):
        theirs.generate(
            torch.tensor([[1, 2, 3, 1, 2]]), prompt_lookup_num_tokens=2, max_new_tokens=8
        )
    tiny_model(patch_size=5).save_pretrained(tmp_path / "odd")
    with pytest.raises(UnsupportedCombination, match="train with patch_size 1, 2, 4 or 8"):
        export_for_transformers(tmp_path / "odd")


@pytest.fixture
def folder(tmp_path):
    tiny_model().save_pretrained(tmp_path / "m")
    export_for_transformers(tmp_path / "m")
    return tmp_path / "m"


def test_the_auto_classes_load_a_folder_and_save_it_again(folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    ids = tokenizer("héllo", return_tensors="pt").input_ids
    assert bytes(ids[0].tolist()) == "héllo".encode()
    out = model.generate(ids, max_new_tokens=20, do_sample=False)
    ours = BitTransformerLM.from_pretrained(folder)
    bits = ours.generate(_bits(ours, ids), 160, temperature=0)
    assert torch.equal(_bits(ours, out), bits)
    model.save_pretrained(tmp_path / "again")
    tokenizer.save_pretrained(tmp_path / "again")
    model.config.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", trust_remote_code=True)
    assert torch.equal(again.generate(ids, max_new_tokens=20, do_sample=False), out)
    reread = AutoTokenizer.from_pretrained(tmp_path / "again", trust_remote_code=True)
    assert reread("héllo").input_ids == ids[0].tolist()
    theirs = BitTransformerLM.from_pretrained(tmp_path / "again")
    assert torch.equal(theirs(bits)[0], ours(bits)[0])


def test_the_pipeline_continues_text(folder):
    generate = pipeline("text-generation", str(folder), trust_remote_code=True)
    (one,) = generate("To be", max_new_tokens=16, do_sample=False)
    ours = BitTransformerLM.from_pretrained(folder)
    bits = ours.generate(torch.from_numpy(bytes_to_bits(b"To be"))[None], 128, temperature=0)
    assert one["generated_text"] == bits_to_bytes(bits[0].numpy()).decode(errors="replace")
    settings = {"max_new_tokens": 8, "do_sample": False, "batch_size": 2}
    both = generate(["To be", "or not to be"], **settings)
    alone = [generate(text, **settings)[0] for text in ("To be", "or not to be")]
    assert [rows[0] for rows in both] == alone


def test_quantized_weights_stay_quantized(tmp_path):
    model = quantize_dynamic(tiny_model())
    model.save_pretrained(tmp_path / "q")
    export_for_transformers(tmp_path / "q")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "q", trust_remote_code=True)
    ids = _ids(model, PROMPT)
    out = theirs.generate(ids, max_new_tokens=12, do_sample=False)
    assert torch.equal(_bits(model, out), model.generate(_bits(model, ids), 96, temperature=0))
    with pytest.raises(UnsupportedCombination, match="bit-transformer quantize"):
        AutoModelForCausalLM.from_pretrained(
            tmp_path / "q", trust_remote_code=True, load_in_8bit=True
        )


def test_dtype_and_device_are_accepted(folder):
    model, told = BitTransformerForCausalLM.from_pretrained(
        folder, dtype="auto", device_map={"": "cpu"}, output_loading_info=True
    )
    assert (model.dtype, told) == (torch.float32, {})
    assert AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, dtype=torch.float32, device_map="cpu"
    ).device == torch.device("cpu")
    for unheard in ({"dtype": "bfloat16"}, {"device_map": {"a": "cpu", "b": "meta"}}):
        with pytest.raises(UnsupportedCombination, match="exclude each other"):
            BitTransformerForCausalLM.from_pretrained(folder, **unheard)


def test_damage_is_detected_and_named(folder):
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(Exception, match="has changed since it was written"):
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
