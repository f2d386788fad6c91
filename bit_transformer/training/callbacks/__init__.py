"""What happens beside the training loop, a concern a file; `base` names the moments.

base         the moments of a run
nan_guard    stops at the first NaN or infinity, before it reaches the weights
health       when a run has gone bad, as rules on numbers
recovery_point  a copy in memory to go back to
recovery     skips bad data, returns from bad weights
metrics_log  one JSON line per step and evaluation
progress     a bar on a terminal, lines elsewhere
evaluation   bits per byte on held-out data
early_stop   ends a run that no longer improves
checkpoints  saves, rotates, keeps the best
stop_signals saved and said when a signal ends the run
plots        a picture of the run
tensorboard  event files (extra: tensorboard)
trackio      a local trackio project (extra: trackio)
"""
