"""The command line. Each command is one module; the other modules are shared.

arguments          options of a command, read from its dataclass, for help, errors and completion
call               command `call`: any operation of a running server
codec_files        files and streams of `compress` and `decompress`
codec_words        flags of `compress` and `decompress`, spelt as for gzip, xz and zstd
commands           names, modules, descriptions and examples of all commands
completion         command `completion`: scripts for bash, zsh and fish
compress           command `compress`
continuation       the part of `generate` that needs a model
dashboard          command `dashboard`: the server in a browser
decompress         command `decompress`
dev_server         command `watch`: tests on every change, then a restart of the server
eval               command `eval`: a model beside general compressors
gate               command `gate`: share of windows that the safety gate lets pass
generate           command `generate`: continue a prompt
generate_arguments flags of `generate`
help_page          the text of --help and --help-all
main               finds the command; turns errors into one line and an exit code
memory             command `memory`: estimate the memory of a training run
mixing_arguments   --mix and --given, for commands that may mix a model with a context mixer
model_arguments    RUN and --device, for every command that loads a model
output             JSON and tables on standard output
parsing            turns a command's words into its arguments
process            standard streams, log lines and signals of the process
progress           progress bars for bytes
pull               command `pull`: download from a hub
push               command `push`: upload to a hub
quantize           command `quantize`: weights of 8 or 4 bits
review             command `review`: output that the safety gate withheld
runs               command `runs`: list run folders
score              command `score`: bits per byte of a file
serve              command `serve`: the management server
streams            bytes of files and standard streams, text that is safe to print
telemetry          command `telemetry`: metrics of a run or along a file
train              command `train`
warm               command `warm`: the mixer of a run learns files

Modules import only light libraries at their top, so that --help and usage errors are fast. Torch,
numba and everything that needs them are imported inside the functions that use them. The exception
is `continuation`, which `generate` imports once the arguments are checked.
"""
