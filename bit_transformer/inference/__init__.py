"""Everything that reads a trained network: one predictor, and what is built on it.

predictor    reads bits, knows the odds of the next ones; the single path below all the rest
sampling     from node logits to a distribution over patches, and draws from it
constraints  automata over bits that keep every sample decodable
generate     prompt in, sampled bits out, whole or as a stream
score        bits per byte and surprisal per byte of any data
baselines    general compressors on the same bytes
painting     a file coloured by surprisal, as one HTML page
"""
