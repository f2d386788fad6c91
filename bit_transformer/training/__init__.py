"""Training: a short loop over a network, an objective and a loader, with callbacks around it.

fit              builds a run from its settings and trains it; read this first
config           every setting of a run, as frozen dataclasses, from TOML and back
trainer          the training loop
callbacks        everything that happens beside the loop, such as evaluation and checkpoints
callback_list    the callbacks of a run in their order
optimizer        builds the optimizer: a part each for matrices, memory tables and other weights
muon             Muon in the number format that is fastest on the device
schedule         learning-rate factors as pure functions of the step
averaging        exponential moving average of the weights
precision        automatic bfloat16
memory_estimate  estimates the memory of a run before it starts, and fits it into a budget
run_folder       the files of a run, and how to find runs
result           the result of a run and its report
"""
