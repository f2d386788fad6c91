import enum
import json
import math
import sys
from collections import OrderedDict, namedtuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn
from torch.optim import Adafactor, AdamW, Muon, Optimizer, SparseAdam

from bit_transformer.checkpoint.state import flatten, unflatten
from bit_transformer.errors import CheckpointCorruptError

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.bool),
    *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
]


def random_tensor(shape, dtype, seed):
    """Return a tensor of random bits, which may be infinities, NaN with payloads or subnormals."""
    generator = torch.Generator().manual_seed(seed)
    count = math.prod(shape) * dtype.itemsize
    top = 2 if dtype is torch.bool else 256
    raw = torch.randint(0, top, (count,), generator=generator, dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


tensors = st.builds(
    random_tensor,
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
    st.integers(0, 99),
)
text = st.text(st.characters(codec=None, exclude_categories=()))
leaves = st.none() | st.booleans() | st.integers() | st.floats() | text | tensors
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(text | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


def raw(tensor):
    return tensor.contiguous().flatten().view(torch.uint8).tolist()


def same(left, right):
    """Return whether values and types are equal. NaN equals NaN, and 0.0 differs from -0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        return (left.dtype, left.shape) == (right.dtype, right.shape) and raw(left) == raw(right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or repr(left) == repr(right)
    return left == right


def there_and_back(tree):
    stored, skeleton = flatten(tree)
    return unflatten(load(save(stored)), json.loads(json.dumps(skeleton, allow_nan=False)))


@given(trees)
def test_any_tree_survives_json_and_safetensors(tree):
    assert same(there_and_back(tree), tree)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_every_dtype_keeps_its_bits(dtype, shape):
    tensor = random_tensor(shape, dtype, seed=1)
    assert same(there_and_back(tensor), tensor)


def test_keys_keep_their_kind():
    tree = {0: "int", "0": "str", -7: (1, [2]), "": None}
    assert same(there_and_back(tree), tree)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -0.0, 5e-324, 0.1])
def test_awkward_floats_come_back(value):
    assert same(there_and_back([value, {"a": (value,)}]), [value, {"a": (value,)}])


def test_subclasses_come_back_as_what_they_derive_from():
    point = namedtuple("point", "x y")(1, 2.0)
    tree = OrderedDict(p=point, size=torch.Size([2, 3]), w=nn.Parameter(torch.ones(2)))
    assert same(there_and_back(tree), {"p": (1, 2.0), "size": (2, 3), "w": torch.ones(2)})


def test_enumerations_come_back_as_their_values():
    colour = enum.Enum("colour", {"RED": "red"}, type=str)
    level = enum.IntEnum("level", {"LOW": 3})
    assert same(there_and_back([colour.RED, level.LOW]), ["red", 3])
    assert same(there_and_back({colour.RED: 1, level.LOW: 2}), {"red": 1, 3: 2})


def test_tensors_are_snapshots_that_share_nothing():
    base = torch.arange(6.0).reshape(2, 3)
    stored, _ = flatten([base, base, base.T])
    base.zero_()
    assert [t.flatten().tolist() for t in stored.values()] == [
        [0, 1, 2, 3, 4, 5],
        [0, 1, 2, 3, 4, 5],
        [0, 3, 1, 4, 2, 5],
    ]
    assert all(t.is_contiguous() for t in stored.values())
    assert len({t.untyped_storage().data_ptr() for t in stored.values()}) == 3


def test_lazy_conjugates_are_stored_as_their_values():
    stored, _ = flatten([torch.tensor([1 + 2j]).conj(), torch.tensor([1 + 2j]).conj().imag])
    assert torch.view_as_real(stored["0"]).tolist() == [[1, -2]]
    assert not stored["0"].is_conj()
    assert stored["1"].tolist() == [-2]
    assert not stored["1"].is_neg()


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({1, 2}, r"cannot save state: it is a set;"),
        ({"a": [None, {3: b"x"}]}, r"cannot save state\['a'\]\[1\]\[3\]: it is a bytes;"),
        ({"a": (1, print)}, r"cannot save state\['a'\]\[1\]: it is a builtin_function"),
        ({"a": {True: 1}}, r"cannot save state\['a'\]: its key True"),
        ({"a": {(1,): 1}}, r"cannot save state\['a'\]: its key \(1,\)"),
        ([torch.eye(2).to_sparse()], r"cannot save state\[0\]: .*sparse_coo"),
        (
            [torch.ones(1, device="meta")],
            r"cannot save state\[0\]: a safetensors file cannot hold a tensor .*meta",
        ),
        (
            [torch.ones(1, dtype=torch.complex128)],
            r"cannot save state\[0\]: a safetensors file cannot hold a tensor .*complex128",
        ),
    ],
)
def test_anything_else_is_refused_by_its_place(tree, place):
    with pytest.raises(TypeError, match=place):
        flatten(tree)


@pytest.mark.parametrize(
    "skeleton",
    [
        {},
        {"list": [], "tuple": []},
        {"set": []},
        {"tensor": "7"},
        {"tensor": []},
        {"float": "1e999"},
        {"list": 5},
        {"dict": [["key"]]},
        {"dict": [[[], 1]]},
    ],
)
def test_a_skeleton_of_another_make_is_corrupt(skeleton):
    with pytest.raises(CheckpointCorruptError, match=r"cannot be restored .*; use another"):
        unflatten({"0": torch.ones(1)}, {"list": [skeleton]})


def test_a_skeleton_too_deep_to_walk_is_corrupt():
    skeleton = 1
    for _ in range(sys.getrecursionlimit()):
        skeleton = {"list": [skeleton]}
    with pytest.raises(CheckpointCorruptError, match="RecursionError"):
        unflatten({}, skeleton)


def lion(weights):
    return pytest.importorskip("pytorch_optimizer").Lion(weights, lr=1e-3)


OPTIMIZERS = {
    "adamw": lambda weights: AdamW(weights, lr=1e-3, fused=True),
    "muon": lambda weights: Muon(weights, lr=1e-2),
    "adafactor": lambda weights: Adafactor(weights, lr=1e-2),
    "sparse_adam": lambda weights: SparseAdam(weights, lr=1e-2),
    "lion": lion,
}


def step(weight: nn.Parameter, optimizer: Optimizer, sparse: bool) -> None:
    rows = torch.tensor([0, 2])
    nn.functional.embedding(rows, weight, sparse=sparse).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_go_on_as_if_never_stored(name):
    weight = nn.Parameter(torch.linspace(-1, 1, 12).reshape(4, 3))
    optimizer = OPTIMIZERS[name]([weight])
    step(weight, optimizer, sparse=name == "sparse_adam")
    state = optimizer.state_dict()
    assert same(there_and_back(state), state)

    twin = nn.Parameter(weight.detach().clone())
    restored = OPTIMIZERS[name]([twin])
    restored.load_state_dict(there_and_back(state))
    for _ in range(2):
        step(weight, optimizer, sparse=name == "sparse_adam")
        step(twin, restored, sparse=name == "sparse_adam")
    assert torch.equal(weight, twin)


def test_the_random_state_goes_on_where_it_was():
    generator = torch.Generator().manual_seed(5)
    saved = there_and_back({"cpu": generator.get_state(), "cuda": []})
    expected = torch.rand(8, generator=generator)
    generator.set_state(saved["cpu"])
    assert torch.equal(torch.rand(8, generator=generator), expected)
