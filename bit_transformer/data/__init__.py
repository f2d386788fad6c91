"""Bytes at rest to resumable, rank-sharded batches of bits. Knows no model, loads nothing whole.

config.py       the settings of a data set
spool.py        the one way a file is written here: streamed, then moved into place
huggingface.py  hf:// data sets to a spooled file; the only importer of `datasets`
sources.py      files, folders, globs, stdin and hf:// to a list of files
corpus.py       a list of files as one virtual stream of bytes
permutation.py  stateless pseudo-random numbers and permutations
split.py        which bytes are for training and which are held out
windows.py      where the windows of each epoch lie, and in which order
loader.py       windows to batches of bits, resumable at any number of ranks
dataset.py      all of the above from one config
"""
