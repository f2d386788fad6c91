"""Models of this project under the `transformers` library; the `transformers` extra.

export         the files that make a checkpoint folder one of transformers', written without it
configuration  BitTransformerConfig
tokenization   BitTransformerTokenizer: text <-> patch values
cache          a Predictor behind transformers' cache
modeling       BitTransformerForCausalLM
remote_code    the one file of code that travels with a model: it imports the above

A token is a whole patch: 2**P values, and one special token for the start and for padding. Its
logit is the log-probability of the patch, the sum of the decisions on its path through the tree.
"""
