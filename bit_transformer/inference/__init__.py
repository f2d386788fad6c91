"""Everything that reads a trained network: one predictor, and what is built on it.

predictor        reads bits, knows the odds of the next ones; the single path below all the rest
sampling_config  how patches are drawn, with the limits of every setting and of seeds
sampling         from node logits to a distribution over patches, and draws from it
constraints      automata over bits that keep every sample decodable
stop             byte strings at which generation ends
generate         prompt in, sampled bits out, whole or as a stream
samples          the same in bytes; sample i does not depend on how many there are
watch            the same as a glass box, with readings of every stretch
score            bits per byte and surprisal per byte of any data
baselines        general compressors on the same bytes
painting         a file coloured by surprisal, as one HTML page
"""
