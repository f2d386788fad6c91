"""A tokenizer whose tokens are patch values."""

import re
from typing import Any

import numpy as np
import torch
from transformers import AddedToken, PreTrainedTokenizer

from bit_transformer.bits.codec import bits_per_symbol, bits_to_bytes, bytes_to_bits
from bit_transformer.errors import ParityError
from bit_transformer.model.bit_tree import patch_bits, patch_values
from bit_transformer.transformers_adapter.export import CodeFromExport

START = "<start>"
_VALUE = re.compile(r"<0x([0-9A-F]+)>")


class BitTransformerTokenizer(CodeFromExport, PreTrainedTokenizer):
    """A tokenizer for UTF-8 text in patches of P bits.

    A token is written as its value, such as `<0x41>`; `START` stands for the start and for padding.
    Prompts are padded on the left. Bytes that are not valid UTF-8, which a model may generate,
    decode to U+FFFD.
    """

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 (transformers compares lists)
    padding_side = "left"

    def __init__(self, patch_size: int = 8, parity: bool = False, **kwargs: Any) -> None:
        self.patch_size, self.parity = patch_size, parity
        start = AddedToken(START, special=True)
        self._added_tokens_decoder = {2**patch_size: start}
        # Text that contains the name of the special token is encoded as text.
        settings = {"split_special_tokens": True, "clean_up_tokenization_spaces": False}
        names = {"bos_token": start, "pad_token": start, "eos_token": None, "unk_token": None}
        super().__init__(**(settings | names | kwargs | {"patch_size": patch_size}), parity=parity)

    @property
    def vocab_size(self) -> int:
        """Number of patch values; the special token is the next value."""
        return 2**self.patch_size

    def get_vocab(self) -> dict[str, int]:
        """Return ids by token."""
        values = {self._convert_id_to_token(value): value for value in range(self.vocab_size)}
        return values | self.added_tokens_encoder

    def tokenize(self, text: str, **_: Any) -> list[str]:
        """Return the patches of the text's bytes."""
        return self._tokenize(text)

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        bits = torch.from_numpy(bytes_to_bits(text.encode(), parity=self.parity))
        patches = patch_values(bits[None], self.patch_size)[0].tolist() if len(bits) else []
        return [self._convert_id_to_token(value) for value in patches]

    def _convert_token_to_id(self, token: str) -> int | None:
        found = _VALUE.fullmatch(token)
        return int(found[1], 16) if found else None

    def _convert_id_to_token(self, index: int) -> str:
        return f"<0x{index:02X}>"

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Decode whole bytes to text. Special tokens and an incomplete last byte are dropped."""
        found = (_VALUE.fullmatch(token) for token in tokens)
        values = torch.tensor([int(match[1], 16) for match in found if match], dtype=torch.int64)
        bits = patch_bits(values[None], self.patch_size)[0].numpy()
        width = bits_per_symbol(self.parity)
        return self._bytes(bits[: len(bits) // width * width]).decode(errors="replace")

    def _bytes(self, bits: np.ndarray) -> bytes:
        try:
            return bits_to_bytes(bits, parity=self.parity)
        except ParityError:
            # 0xff is never valid UTF-8, so the text shows U+FFFD where the parity is wrong.
            return b"\xff" * (len(bits) // bits_per_symbol(self.parity))

    def save_vocabulary(
        self, save_directory: str, filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write no file: the vocabulary follows from the patch size."""
        return ()
