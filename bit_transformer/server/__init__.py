"""The management server: every operation once, for REST, MCP and the command line.

settings          what a server grants to whom asks
workspace         the runs folder: the only place it reads from and writes to
schemas, data_request, training_request   what operations take and give
models            loaded models, and turns to compute with them
jobs/             work in child processes that outlive the server
operations/       everything it can do, each operation once, without a framework
worker            one job in a process of its own
problems          errors as problem documents
access/           token, allow-lists, limits
event_stream, uploads   what is streamed out and in
rest, mcp         the operations as routes and as tools
app, serve        all of it as one application on an address
client            asks a running server, for the command line
"""
