"""What the help of a command says beside its flags."""

DESCRIPTIONS = {
    "memory": """Say what a training with these settings will need in memory, before it starts.

    It takes the flags of `train`, and trains nothing. With --memory-budget it also says how many
    micro-batches that budget asks for.""",
}
"""Of commands that share their arguments with another; all others describe themselves."""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("bit-transformer train books/*.txt", "Train on your own files; the run goes to runs/."),
        (
            "bit-transformer train --steps 100 --out runs/first",
            "A short run on Python's standard library.",
        ),
        ("bit-transformer train --resume --out runs/first", "Go on where that run stopped."),
    ),
    "generate": (
        ("bit-transformer generate runs/first --prompt 'def '", "Continue a text."),
        (
            "bit-transformer generate runs/first --temperature 0.8 --samples 3",
            "Three cautious samples from nothing.",
        ),
    ),
    "score": (
        ("bit-transformer score runs/first notes.txt", "Bits per byte of a file."),
        (
            "bit-transformer score runs/first notes.txt --html notes.html",
            "A page that shows what surprised the model.",
        ),
    ),
    "eval": (
        ("bit-transformer eval runs/first", "On the data that the run held out."),
        (
            "bit-transformer eval runs/first books/*.txt --limit 1000000",
            "On a million other bytes.",
        ),
    ),
    "compress": (
        ("bit-transformer compress notes.txt", "Writes notes.txt.btz."),
        (
            "bit-transformer compress runs/first notes.txt",
            "Smaller, with a model that knows such texts.",
        ),
        ("tar c folder | bit-transformer compress - --out folder.tar.btz", "Compress a stream."),
    ),
    "decompress": (
        ("bit-transformer decompress notes.txt.btz", "Writes notes.txt."),
        ("bit-transformer decompress runs/first notes.txt.btz", "With the model it was made with."),
        ("bit-transformer decompress --list notes.txt.btz", "Show what is in it."),
    ),
    "runs": (
        ("bit-transformer runs", "The runs in runs/."),
        ("bit-transformer runs experiments --json", "Those of another folder, for a script."),
    ),
    "telemetry": (
        ("bit-transformer telemetry runs/first", "How K, C and S went while it trained."),
        (
            "bit-transformer telemetry runs/first notes.txt --out notes.png",
            "How they go along a file.",
        ),
    ),
    "gate": (
        ("bit-transformer gate runs/first", "On the data that the run held out."),
        ("bit-transformer gate runs/first notes.txt", "On files of your own."),
    ),
    "memory": (
        ("bit-transformer memory --preset medium", "What a training of that size will need."),
        (
            "bit-transformer memory --preset medium --memory-budget 8GiB",
            "How many micro-batches fit into 8 GiB.",
        ),
    ),
    "quantize": (
        (
            "bit-transformer quantize runs/first --out first-int8",
            "Weights of 8 bits, with the bits per byte before and after.",
        ),
        ("bit-transformer quantize runs/first --to int4 --out first-int4", "Weights of 4 bits."),
    ),
    "push": (
        ("bit-transformer push runs/first me/first", "Into a private repository."),
        (
            "bit-transformer push runs/first me/first --training",
            "With what going on with the training needs.",
        ),
    ),
    "pull": (("bit-transformer pull me/first --out runs/first", "Into a new folder."),),
    "review": (
        ("bit-transformer review list --queue review", "What waits in a queue."),
        ("bit-transformer review show ITEM", "What was held back, and why."),
        ("bit-transformer review approve ITEM --out item.txt", "Release one."),
    ),
    "serve": (
        ("bit-transformer serve", "For this machine alone, over the runs in runs/."),
        ("bit-transformer serve --port 7001 --runs experiments", "At another port."),
    ),
    "dashboard": (
        ("bit-transformer dashboard", "Beside bit-transformer serve, on the same machine."),
        (
            "bit-transformer dashboard --server http://127.0.0.1:7001 --runs experiments",
            "For a server at another port.",
        ),
    ),
    "call": (
        ("bit-transformer call", "List the operations."),
        (
            """bit-transformer call generate --json '{"run": "first", "prompt": "def "}'""",
            "Ask for one.",
        ),
    ),
    "watch": (
        ("bit-transformer watch", "Test on every change, and restart the server."),
        ("bit-transformer watch --tests tests/server", "Only some tests."),
    ),
    "completion": (
        (
            'eval "$(bit-transformer completion bash)"',
            "In ~/.bashrc; zsh alike in ~/.zshrc.",
        ),
        ("bit-transformer completion fish | source", "In ~/.config/fish/config.fish."),
    ),
}
