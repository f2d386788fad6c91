"""From a network, an objective and a loader to a trained model, one short loop with callbacks
around it.

config     every setting of a run, as frozen dataclasses, from TOML and back
optimizer  Muon for matrices, AdamW for the rest, SparseAdam for the memory tables, and others
schedule   learning-rate factors as pure functions of the step
averaging  exponential moving average of the weights
precision  automatic bfloat16
trainer    the loop
callbacks/ everything that happens beside the loop, a file each
run_folder what a run leaves on disk, and how it is found again
fit        builds all of the above from a config and runs it
"""
