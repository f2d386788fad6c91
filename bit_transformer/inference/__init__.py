"""Everything that reads a trained network: one predictor, and what is built on it.

predictor        reads bits and predicts the next ones, for generation and for scoring
native_step      one decoding step of a single sequence on a CPU, as compiled loops
sampling_config  sampling settings and seeds, with their limits
sampling         the distribution over patches, its filters, and draws from it
constraints      bit automata that keep every sample decodable
stop             byte strings at which generation ends
generate         sampled bits after a prompt, as a whole or as a stream
samples          the same in bytes; sample i does not depend on the number of samples
watch            generation with the probabilities and metrics of every stretch
score            bits per byte and surprisal per byte of any data
dynamic_evaluation  the same with weights that learn from what is scored
baselines        general compressors on the same bytes
painting         a file coloured by surprisal, as one HTML page
"""
