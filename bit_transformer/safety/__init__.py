"""What is held back, and who decides.

policy    readings and floors to a verdict with reasons, a pure function
density   how familiar readings are, taken together
gate      smoothed readings judged against floors that can be measured
guard     streaming generation that is cut at the first bad stretch
sampling  whole outputs: refused, tried again, or put before a human
review    the queue in which a human decides, on disk
"""
