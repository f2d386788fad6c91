"""Lossless compression: predictions of single bits, mixed, and an arithmetic coder for them.

Read in this order. What is known of the next bit: `fixed_point` (logistic arithmetic in integers),
`contexts`, `bit_history`, `matches`, `tables`, `mixing` (one probability out of all of it) and
`mixing_predictor` (the same as a predictor). A network beside it: `lane_arithmetic` (a step in one
fixed order) and `lane_network`. Files: `range_coder` (bits and their probabilities to bytes),
`lockstep`, `block`, `container` (the format), `encoding` and `decoding`; `self_test` comes first
whenever they run.

Whatever decides a probability is done by one function for both directions, in integers or in
floating point of a fixed order, so that decoding repeats encoding exactly, on every machine.
"""
