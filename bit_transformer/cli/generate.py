"""Continue a prompt: parse and check what needs no model. `continuation` does the rest."""

from collections.abc import Sequence

from bit_transformer.cli.generate_arguments import GenerateArguments
from bit_transformer.cli.parsing import parse
from bit_transformer.cli.streams import argument_bytes, file_bytes
from bit_transformer.errors import ConfigError
from bit_transformer.inference.sampling_config import require_seed


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(GenerateArguments, words, command="generate")
    _check(arguments)
    prompt = _prompt(arguments)
    # This import takes seconds; usage errors are reported before it.
    from bit_transformer.cli.continuation import continue_prompt

    continue_prompt(arguments, prompt)


def _check(arguments: GenerateArguments) -> None:
    if arguments.samples < 1 or arguments.new_bytes < 1:
        raise ConfigError(
            f"samples and new-bytes must be at least 1, got {arguments.samples} and "
            f"{arguments.new_bytes}"
        )
    require_seed(arguments.seed)
    arguments.stops()
    arguments.mixing.check(arguments.prompt_file)
    if arguments.queue is not None and not arguments.gate:
        raise ConfigError("--queue receives what --gate refuses; give --gate as well")
    if arguments.watch and (arguments.gate or arguments.json or arguments.raw):
        raise ConfigError("--watch has its own output format; leave out --gate, --json and --raw")
    if (arguments.watch or arguments.gate) and arguments.samples != 1:
        raise ConfigError("--watch and --gate print one sample at a time; leave out --samples")


def _prompt(arguments: GenerateArguments) -> bytes:
    if arguments.prompt_file is None:
        return argument_bytes(arguments.prompt or "")
    if arguments.prompt is not None:
        raise ConfigError("--prompt and --prompt-file were both given; choose one")
    return file_bytes(arguments.prompt_file)
