"""The command line, one file a command.

main      finds the command, turns errors into one line and an exit code
train     train a model, compare it with general compressors, sample
generate  continue a prompt
score     bits per byte of a file, painted by surprisal if asked
eval      a model beside general compressors on the same bytes
runs      the runs in a folder
push      a run or a checkpoint to a hub
pull      a run or a checkpoint from a hub
transfers progress of both
output    tables and JSON, the same way for every command
"""
