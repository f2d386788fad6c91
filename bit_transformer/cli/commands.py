"""The commands, each a module of its own name, and a phrase on what it does."""

COMMANDS = {
    "train": "train a model on any bytes, compare it with general compressors, sample",
    "generate": "continue a prompt",
    "score": "bits per byte of a file; --html paints it by surprisal",
    "eval": "a model beside gzip, bzip2, xz, zstd and brotli on the same bytes",
    "compress": "any file without loss, by context mixing, or with RUN by a model as well",
    "decompress": "give a compressed file back, or what can be saved of a damaged one",
    "runs": "list the runs in a folder",
    "telemetry": "K, C, S of a run's training as a picture, or along a file",
    "gate": "how many held-out windows of a run, or of files, its safety gate lets pass",
    "memory": "what a run with these settings will need in memory, before it starts",
    "quantize": "a model with weights of 8 or 4 bits",
    "push": "upload a run or a checkpoint, with a model card, to a hub",
    "pull": "download a run or a checkpoint from a hub",
    "review": "list, show, approve or reject what the safety gate held back",
    "serve": "the management server: REST and MCP on 127.0.0.1:7000",
    "dashboard": "the server in a browser: 127.0.0.1:5000",
    "call": "any operation of a running server",
    "watch": "run tests on every change, restart the server if they pass",
    "completion": "make a shell complete commands and flags: bash, zsh or fish",
}
