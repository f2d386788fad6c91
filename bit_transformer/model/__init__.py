"""The network: plain modules on one device that turn patches of bits into predictions.

Nothing here knows of losses, files, telemetry or several devices.

Axis letters, used in every signature of the project:

    B  batch                    T  bits in a sequence    P  bits in a patch
    N  patches in a sequence    H  attention heads       K  width of one head
    D  model width              F  hidden width of the feed-forward
    O  orders of the memory     S  positions in the trunk: the start and one per patch

    config       every size and switch of a network, validated once; presets by name
    patches      bits <-> patch values, and the tree nodes a patch passes through
    norm         root-mean-square normalisation
    rotary       rotary position embedding
    attention    the kernel protocol and causal self-attention
    feed_forward the position-wise branch
    block        one pair of residual branches
    stack        how blocks are run one after the other
    embedding    the bit tree that reads patches
    memory       hashed embeddings of the last whole patches
    head         the same tree, predicting
    cache        keys, values and recent patches of what was already read
    dropout      set every dropout rate of a model at once
    transformer  all of the above as one network
"""
