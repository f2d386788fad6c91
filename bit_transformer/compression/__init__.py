"""Lossless compression: predictions of single bits, mixed, and an arithmetic coder for them.

Read in this order: `fixed_point` (logistic arithmetic in integers), `range_coder` (bits and their
probabilities to bytes), `contexts`, `bit_history`, `matches` (what is known of the next bit),
`tables` and `mixing` (one probability out of all of it), `lockstep` (coding a block).

Everything that decides a probability is integer arithmetic and compiled once for both directions,
so that decoding repeats encoding exactly.
"""
