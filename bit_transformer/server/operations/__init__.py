"""Everything that the server can do, each operation once. REST, MCP and `call` are built from this.

registry      the type `Operation`, and decorators that make operations
perform       runs an operation for REST and MCP, in the lane of the operation
status        health, status, metrics and settings of runs
starting      runs that are being made and have no records yet
runs          make and list runs, import checkpoints
training      train, step, checkpoint
callbacks     records that a training writes for its job
generation    infer and generate: continue a prompt, at once or patch by patch
inspection    infer_long, score and look: read given data with a model
compression   compress, decompress
quantization  make models with smaller weights
warming       let the context mixer of a run learn files
files         list, upload and remove files
review        output that the safety gate held back
hub           push, pull, save_checkpoint, download_checkpoint
jobs          list, show and cancel jobs

A new feature is a module here and an entry in the list below.
"""

from bit_transformer.server.operations import (
    compression,
    files,
    generation,
    hub,
    inspection,
    jobs,
    quantization,
    review,
    runs,
    status,
    training,
    warming,
)
from bit_transformer.server.operations.registry import Operation

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for module in (
        *(status, runs, training, generation, inspection, compression, quantization, warming),
        *(files, review, hub, jobs),
    )
    for operation in module.OPERATIONS
}
