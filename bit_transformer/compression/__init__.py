"""Lossless compression: an online mixture predicts every bit, and an arithmetic coder stores it.

The modules in reading order, from the prediction of a bit to files:
fixed_point        logistic arithmetic in integers
lanes              the state of each lane, a stretch of a block
contexts           the hashed contexts that a byte is predicted from
bit_history        hash table of what followed each context
matches            the longest earlier passage that ends like the present one
tables             everything the mixer learns, shared by the lanes
mixing             mixes all predictions into one probability
mixing_predictor   the mixer as a predictor of single bits
mixer              the mixer along one sequence, where a network's log-odds may join
mixer_file         a mixer in a file
mixed_network      a network and the mixer as one source of predictions
network            the interface of a network in the codec
lane_arithmetic    one step of a network, in one fixed order of operations
lane_network       the weights of a trained network in that arithmetic
range_coder        bits and their probabilities to bytes and back
lockstep           codes the lanes of a block in turn, for both directions
block              codes one block, segment by segment
config             settings and their limits
container          the file format, byte for byte
scanning           reads the records of a file, damaged or not
encoding           compresses bytes and streams
decoding           decompresses, recovers and lists
memory_limit       how much memory a file may take
self_test          checks that this machine computes the pinned results
network_self_test  the part of that check that needs PyTorch

A decoder must repeat every probability of the encoder exactly. One function computes it for both
directions, in integers or in floating point of a fixed order, so that every machine agrees.
"""
