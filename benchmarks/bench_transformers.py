"""Compare `generate` of transformers with ours, on the same weights and with the same output.

    python benchmarks/bench_transformers.py

Greedy decoding of one sequence after a short prompt, on one thread in float32 with random weights.
The sides take turns, and the best round counts. Without a cache every byte reads the whole sequence
again.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from report import write_result
from timing import best_seconds
from torch import Tensor

from bit_transformer import BitTransformerLM, bytes_to_bits, preset
from bit_transformer.transformers_adapter.modeling import BitTransformerForCausalLM

_ROUNDS, _BYTES, _PROMPT = 2, 200, b"def main():\n"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    rows: list[Sequence[Any]] = []
    for name in ("tiny", "small", "medium"):
        sides = _sides(name)
        outputs = {kind: generate() for kind, generate in sides.items()}
        if len({tuple(bits.flatten().tolist()) for bits in outputs.values()}) != 1:
            raise SystemExit(f"{name}: the sides generated different bytes")
        seconds = best_seconds(sides, _ROUNDS)
        rows += [
            [name, kind, 1000 * taken / _BYTES, taken / seconds["ours"]]
            for kind, taken in seconds.items()
        ]
        print(rows[-3:], flush=True)
    write_result(
        "transformers",
        summary=f"Greedy decoding of {_BYTES} bytes; all sides generated the same bytes.",
        columns=["model", "", "ms per byte", "times ours"],
        rows=rows,
        details={"bytes": _BYTES, "prompt": _PROMPT.decode(), "rounds": _ROUNDS},
    )


def _sides(name: str) -> dict[str, Callable[[], Tensor]]:
    torch.manual_seed(0)
    ours = BitTransformerLM.from_config(preset(name)).eval()
    for weight in ours.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    theirs: Any = BitTransformerForCausalLM.from_model(ours).train(False)
    bits = torch.from_numpy(bytes_to_bits(_PROMPT))[None]
    ids = torch.tensor([list(_PROMPT)])

    def wrapped(*, use_cache: bool) -> Tensor:
        out = theirs.generate(ids, max_new_tokens=_BYTES, do_sample=False, use_cache=use_cache)
        return torch.from_numpy(bytes_to_bits(bytes(out[0].tolist())))[None]

    return {
        "ours": lambda: ours.generate(bits, 8 * _BYTES, temperature=0),
        "transformers": lambda: wrapped(use_cache=True),
        "transformers, use_cache=False": lambda: wrapped(use_cache=False),
    }


if __name__ == "__main__":
    main()
