"""The management server. It offers each operation over REST, MCP and the command line.

settings          limits of a server, and constants that clients share
workspace         the runs folder, the only place that the server reads from and writes to
schemas           request and response types that several operations share
data_request      bytes in a request: text, base64 or an uploaded file
training_request  settings of a run in a request
models            loaded models, and slots to compute with them
mixing            a context mixer in a request, and saved mixers in memory
jobs/             work in child processes that outlive the server
operations/       everything that the server can do, without a web framework
worker            runs one job in a process of its own
problems          errors as problem documents
access/           ASGI layers: token, allow-lists, limits
event_stream      server-sent events
rest              the operations as HTTP routes
mcp               the operations as tools of the Model Context Protocol
app               REST and MCP as one ASGI application
serve             runs the application on an address
signals           ends a server cleanly on a signal
client            calls a running server, for the command line
reloader          restarts a server when its code changes and the tests pass
dashboard/        the web pages, a client of the server
"""
