"""Bits as arrays: pure numpy, no nn, no files. Bits are uint8 of 0/1, most significant bit first.

array.py       what counts as bits: strict conversion of lists, arrays and tensors
parity.py      the even parity bit after each byte: compute, check, repair
codec.py       bytes and text to bits and back, with or without parity
packing.py     eight bits to a uint8 and back, any number of bits
run_length.py  the interleaved (value, run) stream and back
tensor.py      what counts as a batch of bits, as a tensor
"""
