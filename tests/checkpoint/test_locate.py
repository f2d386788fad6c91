import pytest

from bit_transformer.checkpoint.locate import locate_checkpoint
from bit_transformer.checkpoint.rotation import CheckpointFolder
from bit_transformer.errors import CheckpointCorruptError, CheckpointNotFoundError
from bit_transformer.hub import transfer


@pytest.fixture
def run(tmp_path):
    folder = CheckpointFolder(tmp_path / "run" / "checkpoints")
    for step in (1, 2):
        folder.save(step, weights={}, config={"step": step})
    return tmp_path / "run"


@pytest.mark.parametrize("below", [".", "checkpoints", "checkpoints/step-00000002"])
def test_run_checkpoints_and_checkpoint_lead_to_the_newest(run, below):
    assert locate_checkpoint(run / below) == run / "checkpoints" / "step-00000002"


def test_a_named_checkpoint_is_meant(run):
    older = run / "checkpoints" / "step-00000001"
    assert locate_checkpoint(older) == older


def test_an_export_is_a_checkpoint(tmp_path, sample):
    assert locate_checkpoint(sample.write(tmp_path / "export")) == tmp_path / "export"


def test_where_none_is_whole_the_newest_is_named(run):
    for manifest in run.glob("checkpoints/*/manifest.json"):
        manifest.write_bytes(b"{")
    with pytest.raises(
        CheckpointCorruptError, match=r"no complete checkpoint: .*step-00000002/mani"
    ):
        locate_checkpoint(run)


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_nothing_found_says_what_was_looked_for(tmp_path, what):
    path = tmp_path / what
    if what == "empty":
        path.mkdir()
    if what == "file":
        path.write_bytes(b"")
    with pytest.raises(CheckpointNotFoundError) as caught:
        locate_checkpoint(path)
    problem = "does not exist" if what == "missing" else "holds no complete checkpoint"
    assert str(caught.value) == (
        f"{path} {problem}; looked for manifest.json, checkpoints/step-*/manifest.json and "
        "step-*/manifest.json: name a run folder or a checkpoint folder"
    )


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("./user/net", False),
        ("../user/net", False),
        ("/user/net", False),
        ("~/net", False),
        ("a/b/c", False),
        ("runs/typo", False),
        ("user/net", True),
        ("user/net@a/branch", True),
        ("hf://runs/net", True),
    ],
)
def test_a_hub_is_asked_only_for_what_can_be_no_path(tmp_path, monkeypatch, name, asked):
    heard: list[str] = []
    monkeypatch.setattr(transfer, "fetch", lambda word: heard.append(word))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(CheckpointNotFoundError, match="does not exist"):
        locate_checkpoint(name)
    assert heard == ([name] if asked else [])
