"""Callbacks: everything that happens beside the training loop, one concern in each file.

base          the moments of a run, the records that callbacks get, and the base class
health        rules on plain numbers that detect a run that goes bad
recovery      skips bad data, returns from bad weights, or stops at the first NaN
metrics_log   writes one JSON line per step and evaluation
progress      shows a progress bar on a terminal and prints lines elsewhere
telemetry     measures K, C, S and attention entropy of training steps
evaluation    evaluates held-out data, and stops a run that no longer improves
gate          calibrates the safety gate at the end
checkpoints   saves and rotates checkpoints, and keeps the best one
stop_signals  saves the run and ends it on a signal
plots         draws the curves of the run
tensorboard   writes TensorBoard event files (extra: tensorboard)
trackio       logs to a local trackio project (extra: trackio)
"""
