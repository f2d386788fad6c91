"""The network: plain modules on one device that predict the next patch of bits.

These modules import nothing about losses, files, telemetry or several devices.

Axis letters, used in every signature of the project:

    B  batch                    T  bits in a sequence    P  bits in a patch
    N  patches in a sequence    H  attention heads       K  width of one head
    D  model width              F  hidden width of the feed-forward
    O  orders of the memory     S  positions in the trunk: the start and one per patch

    config       every size and switch of a network, validated once; presets by name
    transformer  the network and its one entry, `BitTransformer.forward`
    bit_tree     the binary tree over the bits of a patch that embeds and predicts patches
    memory       hashed embeddings of the last whole patches
    stack        runs the blocks in order, plainly or reversibly
    halting      runs the blocks with early exits (adaptive computation)
    block        attention and feed-forward, each added to the residual stream
    attention    attention kernels and causal self-attention
    norm         root-mean-square normalisation
    rotary       rotary position embedding
    cache        keys, values and recent patches, so that decoding reads each patch once
    flops        counts floating-point operations
"""
