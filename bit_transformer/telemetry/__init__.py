"""What a model reports about its data and itself. Nothing here changes a prediction.

metrics           K, C and S as pure functions: definition, range, source
universal_code    what can be predicted of a sequence from itself alone; the reference of S
lempel_ziv        phrases of a sequence, as its bits come
complexity_proxy  C of probabilities, differentiable
probe             hooks that look into a running network
readings          the documented telemetry of a forward pass
lazy              readings that are computed when they are looked at
stream            readings of a sequence while it grows
drift             alarms when a metric leaves its past
synthesizer       clusters, subspaces and drift of activations
log               telemetry on disk
plots             pictures of it
"""
