"""The safety gate: metrics of generated text, floors, and human review.

policy       compares metrics with floors and returns a verdict with reasons
density      familiarity F: how common a combination of metrics is in good data
gate         smoothed metrics compared with calibrated floors
calibration  floors from a model's own held-out data
guard        streaming generation that ends at the first stretch the gate refuses
sampling     whole outputs: refused, sampled again, or put into the review queue
review       a queue on disk in which a human approves or rejects output
"""
