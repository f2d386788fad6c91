"""Everything the server can do, each operation once; REST, MCP and `call` are made of this.

registry     what an operation is, and the one list of them
status       health, state, metrics and settings of runs
runs         make and list runs, export and import checkpoints
training     train, step, checkpoint
callbacks    what a training tells its job
inference    infer, score, look inside
glass_box    generation byte by byte
compression  compress, decompress
quantization smaller weights
files        upload, list, remove
review       what the gate held back
hub          push, pull
jobs         list, show, cancel

Another feature joins with a module of its own and one line here.
"""

from bit_transformer.server.operations import (
    compression,
    files,
    glass_box,
    hub,
    inference,
    jobs,
    quantization,
    review,
    runs,
    status,
    training,
)
from bit_transformer.server.operations.registry import Operation

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for module in (
        *(status, runs, training, inference, glass_box, compression, quantization),
        *(files, review, hub, jobs),
    )
    for operation in module.OPERATIONS
}
