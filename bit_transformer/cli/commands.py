"""All commands: names, modules, and the texts of the help that are not about one flag."""

import importlib
from types import ModuleType

COMMANDS = {
    "train": "train a model on any bytes, compare it with general compressors, print a sample",
    "generate": "continue a prompt",
    "warm": "let a run's context mixer learn files, for --mix",
    "score": "print the bits per byte of a file; --html colours it by surprisal",
    "eval": "compare a model with gzip, bzip2, xz, zstd and brotli on the same bytes",
    "compress": "compress any file without loss; with RUN, a model helps",
    "decompress": "restore a compressed file, or recover what is left of a damaged one",
    "runs": "list the runs in a folder",
    "telemetry": "plot K, C and S of a training run, or along a file",
    "gate": "print the share of windows that the safety gate lets pass",
    "memory": "estimate the memory of a training run before it starts",
    "quantize": "write a model with weights of 8 or 4 bits",
    "push": "upload a run or a checkpoint, with a model card, to a hub",
    "pull": "download a run or a checkpoint from a hub",
    "review": "list, show, approve or reject output that the safety gate withheld",
    "serve": "start the management server: REST and MCP on 127.0.0.1:7000",
    "dashboard": "show the server in a browser, on 127.0.0.1:5000",
    "call": "call any operation of a running server",
    "watch": "run the tests on every change, restart the server if they pass",
    "completion": "print a script that completes commands and flags in bash, zsh or fish",
}
"""A phrase for each command, in the order of the help."""

_MODULES = {"watch": "dev_server"}
"""Commands whose module has another name: `generate` has a flag --watch, which is another thing."""

DESCRIPTIONS = {
    "memory": """Estimate the memory of a training run before it starts.

    It takes the flags of `train` and trains nothing. With --memory-budget it also prints how many
    micro-batches that budget requires.""",
}
"""Descriptions of commands that share their arguments with another one."""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("bit-transformer train books/*.txt", "Train on your own files. The run goes to runs/."),
        ("bit-transformer train --steps 100 --out runs/first", "Train on Python's own library."),
        ("bit-transformer train --resume --out runs/first", "Resume that run where it stopped."),
    ),
    "generate": (
        ("bit-transformer generate runs/first --prompt 'def '", "Continue a text."),
        ("bit-transformer generate runs/first --temperature 0.8 --samples 3", "Draw 3 samples."),
    ),
    "warm": (
        ("bit-transformer warm runs/first books/*.txt", "Save a mixer that knows these files."),
        ("bit-transformer warm runs/first notes.txt --append", "Let it learn one file more."),
    ),
    "score": (
        ("bit-transformer score runs/first notes.txt", "Print the bits per byte of a file."),
        ("bit-transformer score runs/first notes.txt --html notes.html", "Also write the page."),
        (
            "bit-transformer score runs/first notes.txt --given old.txt",
            "Also print the bits per byte with a mixer that has learned old.txt.",
        ),
    ),
    "eval": (
        ("bit-transformer eval runs/first", "Compare on the run's held-out data."),
        ("bit-transformer eval runs/first books/*.txt --limit 1000000", "Use other files."),
    ),
    "compress": (
        ("bit-transformer compress notes.txt", "Write notes.txt.btz."),
        ("bit-transformer compress runs/first notes.txt", "Use a model, for a smaller file."),
        ("tar c folder | bit-transformer compress - --out folder.tar.btz", "Compress a stream."),
    ),
    "decompress": (
        ("bit-transformer decompress notes.txt.btz", "Write notes.txt."),
        ("bit-transformer decompress runs/first notes.txt.btz", "Use the same model again."),
        ("bit-transformer decompress --list notes.txt.btz", "Show the blocks of the file."),
    ),
    "runs": (
        ("bit-transformer runs", "List the runs in runs/."),
        ("bit-transformer runs experiments --json", "List another folder, for a script."),
    ),
    "telemetry": (
        ("bit-transformer telemetry runs/first", "Plot K, C and S over the training run."),
        ("bit-transformer telemetry runs/first notes.txt --out notes.png", "Plot along a file."),
    ),
    "gate": (
        ("bit-transformer gate runs/first", "Test the gate on the run's held-out data."),
        ("bit-transformer gate runs/first notes.txt", "Test the gate on your own files."),
    ),
    "memory": (
        ("bit-transformer memory --preset medium", "Estimate a training run of that size."),
        (
            "bit-transformer memory --preset medium --memory-budget 8GiB",
            "Print how many micro-batches a budget of 8 GiB requires.",
        ),
    ),
    "quantize": (
        (
            "bit-transformer quantize runs/first --out first-int8 --data notes.txt",
            "Write weights of 8 bits, and measure bits per byte before and after.",
        ),
        ("bit-transformer quantize runs/first --to int4 --out first-int4", "Use 4 bits."),
    ),
    "push": (
        ("bit-transformer push runs/first me/first", "Upload to a private repository."),
        (
            "bit-transformer push runs/first me/first --training",
            "Also upload the training state, to resume elsewhere.",
        ),
    ),
    "pull": (("bit-transformer pull me/first --out runs/first", "Download into a new folder."),),
    "review": (
        ("bit-transformer review list --queue review", "List the items that wait in a queue."),
        ("bit-transformer review show ITEM", "Show the withheld output and the reasons."),
        ("bit-transformer review approve ITEM --out item.txt", "Release an item into a file."),
    ),
    "serve": (
        ("bit-transformer serve", "Serve the runs in runs/ to this machine only."),
        ("bit-transformer serve --port 7001 --runs experiments", "Use another port and folder."),
    ),
    "dashboard": (
        ("bit-transformer dashboard", "Connect to bit-transformer serve on the same machine."),
        (
            "bit-transformer dashboard --server http://127.0.0.1:7001 --runs experiments",
            "Connect to a server on another port.",
        ),
    ),
    "call": (
        ("bit-transformer call", "List the operations."),
        (
            """bit-transformer call generate --json '{"run": "first", "prompt": "def "}'""",
            "Call one operation.",
        ),
    ),
    "watch": (
        ("bit-transformer watch", "Run all tests on every change."),
        ("bit-transformer watch --tests tests/server", "Run only some tests."),
    ),
    "completion": (
        (
            'eval "$(bit-transformer completion bash)"',
            "Add this line to ~/.bashrc. For zsh, put zsh in place of bash and use ~/.zshrc.",
        ),
        ("bit-transformer completion fish | source", "Add it to ~/.config/fish/config.fish."),
    ),
}
"""One to three command lines for each command, with their purpose."""


def module_of(command: str) -> ModuleType:
    """Import the module of a command, which has a function `run`."""
    return importlib.import_module(f"bit_transformer.cli.{_MODULES.get(command, command)}")
