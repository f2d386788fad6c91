"""Objectives: the loss that a network is trained on, and the metric that it is evaluated by.

config      the settings of all objectives
base        the interface
causal      the code length of each bit given all bits before it, with penalties on K, C and S
run_length  a wrapper that run-length codes some batches
build       builds an objective from its settings
"""
