"""The code that `trust_remote_code=True` runs. It only imports the installed package."""

try:
    from bit_transformer.transformers_adapter.configuration import BitTransformerConfig
    from bit_transformer.transformers_adapter.modeling import BitTransformerForCausalLM
    from bit_transformer.transformers_adapter.tokenization import BitTransformerTokenizer
except ImportError as error:
    raise ImportError(
        "this model needs the BitTransformerLM package: "
        f"pip install 'bit-transformer[transformers]' ({error})"
    ) from error

__all__ = ["BitTransformerConfig", "BitTransformerForCausalLM", "BitTransformerTokenizer"]
