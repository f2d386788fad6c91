"""What a network is trained for.

config      the settings of all objectives
base        the interface
causal      the code length of each bit given all bits before it, with penalties on K, C and S
run_length  a wrapper that run-length codes some batches
build       from settings to an objective
"""
