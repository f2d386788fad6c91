"""Files to batches of bits. Loading is resumable and sharded by rank; no file is loaded whole.

config       the settings of a data set
spool        writes a stream to a file: the whole file or nothing
huggingface  hf:// data sets to a spooled file; the only importer of `datasets`
sources      files, folders, globs, stdin and hf:// to a list of files
corpus       a list of files as one virtual stream of bytes
permutation  stateless pseudo-random numbers and permutations
split        which bytes are for training and which are held out
loader       the windows of each epoch in random order, and batches of their bits
dataset      all of the above from one config
"""
