"""Metrics that describe the data and the model. Nothing here changes a prediction.

metrics           K, C and S of whole batches, and attention entropy, as pure functions
universal_code    context-tree weighting, and the reference that S compares a model with
lempel_ziv        an incremental Lempel-Ziv 1976 parser
complexity_proxy  a differentiable approximation of C, computed from probabilities
probe             forward hooks that record activations and the inputs of attention
forward_pass      the metrics of one forward pass, each computed on first access
stream            K, C, S, T, U and surprisal of a sequence while it grows
drift             alarms when the level of a metric changes
synthesizer       clusters of activation summaries, and the drift between two runs
log               metrics on disk, one JSON line per step
plots             charts of metrics over time
"""
