"""The model card: the measured figures of a run, in the order in which readers look for them."""

from collections.abc import Mapping
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import safe_open

from bit_transformer.checkpoint.format import MODEL
from bit_transformer.hub.identity import HubId
from bit_transformer.network_spec import NetworkSpec
from bit_transformer.safety.gate import METADATA_KEY
from bit_transformer.training.run_folder import RunFolder

_FLOOR_NAMES = {
    "c": "C, complexity of the last bits",
    "f": "F, familiarity of K, C, T and U together",
    "k": "K, negentropy of the last bits",
    "s": "S, agreement with an adaptive code",
    "t": "T, typicality of the surprisals",
    "u": "U, negentropy of the newest bits",
}


def model_card(
    folder: Path,
    manifest: Mapping[str, Any],
    run: RunFolder | None,
    repository: str,
    *,
    for_transformers: bool,
) -> str:
    """Return Markdown with the hub's front matter, for the checkpoint in `folder`.

    The card states what was not measured, so that no reader has to guess. It names only the last
    part of the path of a data source, because folders may be private.
    """
    report = (run.report() if run is not None else None) or {}
    measured = _held_out(manifest["metadata"], report)
    parts = [
        _front_matter(repository, measured),
        f"# {repository}",
        "A language model over bits, trained with BitTransformerLM. It reads and predicts bytes "
        "through a binary tree of bits: there is no tokenizer and no vocabulary to match.",
        _quality(measured, report),
        _training(manifest, run, report),
        _model(folder, manifest),
        _gate(manifest["metadata"].get(METADATA_KEY)),
        _use(repository, for_transformers=for_transformers),
    ]
    return "\n\n".join(parts) + "\n"


def _held_out(metadata: Mapping[str, Any], report: Mapping[str, Any]) -> float | None:
    """Return bits per byte on all held-out data once the run has ended, or on the last sample."""
    if report.get("steps") == metadata.get("step") and report.get("held_out_bits_per_byte"):
        return float(report["held_out_bits_per_byte"])
    value = metadata.get("held_out_bits_per_byte")
    return None if value is None else float(value)


def _front_matter(repository: str, measured: float | None) -> str:
    lines = [
        "library_name: bit-transformer",
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in ("bit-transformer", "tokenizer-free", "byte-level", "safetensors")),
    ]
    if measured is not None:
        lines += [
            "model-index:",
            f"- name: {HubId.parse(repository).repository.split('/')[1]}",
            "  results:",
            "  - task:",
            "      type: text-generation",
            "    dataset:",
            "      name: held-out part of the training corpus",
            "      type: held-out",
            "    metrics:",
            "    - type: bits_per_byte",
            "      name: bits per byte",
            f"      value: {measured:.4f}",
        ]
    return "\n".join(["---", *lines, "---"])


def _quality(measured: float | None, report: Mapping[str, Any]) -> str:
    if measured is None:
        return "## Quality\n\nNot measured: no data was held out, or no evaluation has run yet."
    whole = report.get("held_out_bytes")
    data = f"{whole:,} held-out bytes" if whole else "a sample of held-out bytes"
    rows = {"this model": measured, **dict(report.get("baselines", {}))}
    table = [
        f"| {name} | {value:.3f} |" for name, value in sorted(rows.items(), key=lambda row: row[1])
    ]
    title = f"Bits per byte on {data} (lower is better; the model's own size is not counted):"
    return "\n".join(["## Quality", "", title, "", "| | bits per byte |", "|---|---:|", *table])


def _training(manifest: Mapping[str, Any], run: RunFolder | None, report: Mapping[str, Any]) -> str:
    metadata = manifest["metadata"]
    if run is None:
        return "## Training\n\nThis copy carries no record of its run."
    config = run.config()
    rows = {
        "data": ", ".join(_name_of(source) for source in config.data.sources)
        or "the Python standard library",
        "SHA-256 of the data's identity": _fingerprint(metadata.get("data")),
        "steps": f"{metadata.get('step', 0):,} of {config.train.steps:,}",
        "windows per step": f"{config.train.batch_size} of {config.window_bytes:,} bytes",
        "bytes trained on": _count(report.get("data_bytes")),
        "training FLOPs": _power(report.get("training_flops")),
        "seconds in steps": _count(report.get("seconds")),
        "optimizer": config.optimizer.optimizer,
        "seed": str(config.train.seed),
    }
    return "\n".join(["## Training", "", *_table(rows)])


def _model(folder: Path, manifest: Mapping[str, Any]) -> str:
    spec = NetworkSpec.from_dict(manifest["config"])
    config = spec.model
    rows = {
        "parameters": _count(_stored_values(folder / MODEL)),
        "context": f"{config.max_seq_len // config.bits_per_byte:,} bytes",
        "bits per patch": str(config.patch_size),
        "blocks, width, heads": f"{config.num_layers}, {config.d_model}, {config.nhead}",
        "weights": spec.quantization or "as trained",
        "size": f"{(folder / MODEL).stat().st_size:,} bytes",
    }
    return "\n".join(["## Model", "", *_table(rows)])


def _gate(settings: Mapping[str, Any] | None) -> str:
    if settings is None:
        return (
            "## Telemetry floors\n\nNo gate was calibrated with this model; a `SafetyGate` has the "
            "default floors C 0.3 and S 0.5."
        )
    rows = {
        _FLOOR_NAMES.get(name, name.upper()): f"{floor:.4g}"
        for name, floor in settings["floors"].items()
    }
    text = (
        "Calibrated on held-out data. Output is held back when the average of a metric over the "
        f"last {settings.get('window_bits'):,} bits is below its floor:"
    )
    table = _table(rows, of="metric", value="floor")
    return "\n".join(["## Telemetry floors", "", text, "", *table])


_USE = """## Use

```bash
pip install 'bit-transformer[hub]'
bit-transformer generate {repository} --prompt 'your text'
```

```python
from bit_transformer import BitTransformerLM

model = BitTransformerLM.from_pretrained("{repository}")
```

"""
_WITH_TRANSFORMERS = """With `transformers` (`pip install 'bit-transformer[transformers]'`):

```python
from transformers import pipeline

generate = pipeline("text-generation", "{repository}", trust_remote_code=True)
```"""
_WITHOUT_TRANSFORMERS = "`transformers` cannot load this patch size."


def _use(repository: str, *, for_transformers: bool) -> str:
    last = _WITH_TRANSFORMERS if for_transformers else _WITHOUT_TRANSFORMERS
    return (_USE + last).format(repository=repository)


def _table(rows: Mapping[str, str], *, of: str = "", value: str = "") -> list[str]:
    return [
        f"| {of} | {value} |",
        "|---|---:|",
        *(f"| {name} | {text} |" for name, text in rows.items()),
    ]


def _name_of(source: str) -> str:
    """Return the name of a source without the folders that it lies in."""
    name = source if source.startswith("hf://") else PurePosixPath(source).name or "/"
    return "".join("\\|" if c == "|" else c if c.isprintable() else "?" for c in name)


def _fingerprint(identity: Any) -> str:
    return f"`{identity[:16]}`" if isinstance(identity, str) else "not recorded"


def _count(value: float | None) -> str:
    return "not recorded yet" if value is None else f"{value:,.0f}"


def _power(value: float | None) -> str:
    return "not recorded yet" if value is None else f"{value:.2e}"


def _stored_values(path: Path) -> int:
    """Count the numbers in a safetensors file; only its header is read."""
    with safe_open(path, framework="pt") as tensors:
        shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118 (not a dict)
    return sum(map(prod, shapes))
