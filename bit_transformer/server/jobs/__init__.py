"""Work in child processes that outlive the server.

folder    what is on disk of a job, and who may write it
log       what a job tells while it runs, line by line
work      what the code of a job has at hand
queue     starts, cancels and finds jobs again
"""
