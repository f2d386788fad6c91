"""Work in child processes that outlive the server.

folder  the files of a job, and the lock that says whether its process is alive
log     records that a job writes while it runs, and readers that follow them
work    what the code of a job can use: workspace, log, stop and save requests
queue   starts and cancels jobs, and finds them again after a restart
"""
