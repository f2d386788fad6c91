"""Generation byte by byte, with everything that is known about each byte."""

from jaxtyping import Integer
from torch import Tensor

from bit_transformer.bits.codec import patch_text
from bit_transformer.inference.sampling import seeded
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.watch import WatchedStretch, watch
from bit_transformer.lm import BitTransformerLM

_ALTERNATIVES = 3
_BAR = 12
"""Width of the bar that shows surprisal; one mark a bit."""


def watch_generation(
    model: BitTransformerLM,
    prompt_bits: Integer[Tensor, "1 T"],
    max_new_bits: int,
    sampling: SamplingConfig,
    seed: int,
    stop: tuple[bytes, ...] = (),
) -> None:
    """Print a line for each patch as it is drawn."""
    patch_size = model.config.patch_size
    columns = f"{'new':>5}  {'bits':<{patch_size}}  {'surprisal':<{_BAR + 5}}"
    print(f"{columns}    K     C     S     T   instead of")
    seen = watch(model.network, prompt_bits, max_new_bits, sampling, seeded(seed), stop=stop)
    for stretch in seen:
        print(_line(stretch, patch_size), flush=True)


def _line(stretch: WatchedStretch, patch_size: int) -> str:
    bits = "".join(map(str, stretch.bits))
    value = int(bits, 2) if len(bits) == patch_size else None
    surprisal = float(stretch.surprisal.sum())
    bar = ("#" * min(round(surprisal), _BAR)).ljust(_BAR)
    readings = ""
    if len(stretch.readings):
        found = stretch.readings.at(-1)
        readings = "  ".join(f"{found[name]:.2f}" for name in ("k", "c", "s", "t"))
    others = "  ".join(
        f"{patch_text(other, patch_size, quoted=True)} {p:.0%}"
        for other, p in stretch.alternatives(_ALTERNATIVES)[0]
        if other != value
    )
    new = "" if value is None else patch_text(value, patch_size, quoted=True)
    return f"{new:>5}  {bits:<{patch_size}}  {surprisal:4.1f} {bar}  {readings:<22}  {others}"
