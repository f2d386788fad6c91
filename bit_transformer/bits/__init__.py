"""Bits as arrays: plain numpy, uint8 values of 0 and 1, most significant bit first.

array       strict conversion of lists, arrays and tensors to bits or bytes
parity      the even parity bit after each byte: compute, check, repair
codec       bytes and text to bits and back, and bits packed eight to a byte
run_length  the interleaved (value, run) stream and back
tensor      checks for a batch of bits in a torch tensor
"""
