"""What a model reports about its data and itself. Nothing here changes a prediction.

metrics  pure functions: what a number means, its range and its source
lazy     readings that are computed when they are looked at
"""
