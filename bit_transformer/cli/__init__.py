"""The command line, one file a command.

commands   names and phrases of all commands
main       finds the command, turns errors into one line and an exit code
process    streams and signals of the process
parsing    a command's words become its arguments
arguments  what a command takes, for help and completion
help_page  what --help and --help-all print
examples   lines to type, one to three a command
completion for bash, zsh and fish
output     tables and JSON, the same way for every command
transfer   files of compress and decompress
transfers  progress of push and pull
glass_box  generation byte by byte

All other modules are commands. They import at their top only what is light: torch, numba and what
needs them are imported in the functions that use them, so that help and usage errors are fast.
"""
