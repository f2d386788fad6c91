"""Models of this project in the `transformers` library; the `transformers` extra.

export         adds to a checkpoint folder the files that transformers reads; it does not import it
configuration  BitTransformerConfig
tokenization   BitTransformerTokenizer: text <-> patch values
cache          a Predictor with the interface of a transformers cache
modeling       BitTransformerForCausalLM
remote_code    the one file of code that is uploaded with a model; it imports the classes above

A token is a whole patch of P bits. There are 2**P of them, and one special token for the start and
for padding. The logit of a token is the log-probability of its patch: the sum of the
log-probabilities of the binary decisions on its path through the tree.
"""
