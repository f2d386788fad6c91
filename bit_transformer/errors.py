"""Every error this project raises on purpose, as one tree.

    BitTransformerError
    ├── UsageError                 the request cannot be meant: exit code 2
    │   ├── ConfigError            a setting outside its limits
    │   ├── UnsupportedCombination two features that do not work together
    │   ├── InvalidBitsError       bits that are not 0/1, or of a wrong shape
    │   ├── ContextLengthError     more bits than the model's context holds
    │   └── MissingExtraError      an optional dependency that is not installed
    ├── DataError                  the data cannot be used: exit code 1
    │   ├── SourceError            missing, unreadable, empty or too short sources
    │   ├── ParityError            a byte whose parity bit is wrong
    │   └── DecodeError            bytes that are not what they claim to be
    ├── CheckpointError            exit code 1
    │   ├── CheckpointNotFoundError
    │   ├── CheckpointCorruptError truncated, tampered with or half a checkpoint
    │   ├── CheckpointMismatchError a checkpoint of another shape
    │   └── CheckpointVersionError written by a newer format
    ├── CodecError                 exit code 1
    │   ├── ContainerError         not a compressed file of ours, or a damaged one
    │   ├── ContainerVersionError  written by a newer format
    │   ├── ModelMismatchError     compressed with a model or bytes that were not given
    │   ├── VerificationError      what was compressed does not decode to itself
    │   ├── MemoryLimitError       more memory than the limit allows
    │   └── ForeignArithmeticError this machine computes otherwise than the format asks for
    ├── HubError                   the hub cannot do what was asked: exit code 1
    │   ├── HubNotFoundError       no such repository or revision; also a CheckpointNotFoundError
    │   ├── HubAccessError         a missing or refused token, or one without the right
    │   └── HubUnreachableError    no answer, after a bounded number of attempts
    ├── StorageError               the disk is full or cannot be written: exit code 1
    ├── TrainingError              exit code 1
    │   ├── NonFiniteLossError     NaN or infinity in loss, gradients or weights
    │   ├── NothingLearnedError    a run whose model is no better than an untrained one
    │   └── CollapseError          a run that goes bad again after every recovery
    ├── SafetyError                exit code 1
    │   ├── GateError              output refused by the safety gate
    │   ├── InvalidPredictionError predictions that are not numbers
    │   └── ReviewError            a review item that is not there, decided already or damaged
    └── ServiceError               a server cannot do what was asked of it: exit code 1
        ├── UnknownNameError       no run, job, file or item of that name
        ├── ConflictError          the name is taken, or what it names is in the wrong state
        ├── BusyError              somebody else writes there; `owner` says who
        ├── QueueFullError         more jobs than the server lets wait
        ├── TooLargeError          more bytes than the server takes
        ├── UnreachableError       no server answers
        └── RefusedError           the server answered with a problem

`Interrupted`, a `KeyboardInterrupt`, stands outside: no `except Exception` may swallow it.

A message names the limit, the value met and the remedy, in one line. `exit_code` is what the
command line returns.
"""

import errno
from pathlib import Path

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space or choose another folder"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), "choose a folder that you may write to, or change its rights"
    ),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE), "close other files, or raise the limit (ulimit -n)"
    ),
    errno.EROFS: "the file system is read-only: choose a folder on another one",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "make the folder first, or choose another",
    errno.ENOTDIR: "a part of its path is a file: choose another folder",
    errno.EISDIR: "it is a folder: name a file in it",
    errno.EFBIG: "the file system or `ulimit -f` allows no larger file: choose another folder, "
    "or raise the limit",
    errno.ENXIO: "nothing reads from it, or no such device is there",
    errno.ELOOP: "its symbolic links lead to each other: choose another name",
    errno.EBUSY: "another program is using it: try again later, or choose another name",
    errno.EIO: "the disk may be failing: choose another one",
}
"""What to do about an error of the operating system."""


class BitTransformerError(Exception):
    """Base of all errors raised on purpose; anything else that escapes is a bug of ours."""

    exit_code = 1


class StoppedError(BitTransformerError):
    """A signal ended the work after all that was worth keeping had been written."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Interrupted(KeyboardInterrupt):
    """SIGTERM or SIGHUP, raised in the main thread so that everything is cleaned up on the way."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


def kind_of(value: object) -> str:
    """What a message calls a value that is not of the kind that is needed: its type, and its shape
    where it has one."""
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return name if shape is None else f"{name} of {dtype} and shape {tuple(shape)}"


class UsageError(BitTransformerError, ValueError):
    """The request contradicts itself or a documented limit."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting lies outside its limits."""


class UnsupportedCombination(UsageError):
    """Two features that do not work together; the message names both and the way out."""


class InvalidBitsError(UsageError):
    """A bit tensor holds something other than 0 and 1, or has the wrong shape."""


class ContextLengthError(UsageError):
    """A sequence is longer than the context of the model."""


class MissingExtraError(UsageError, ImportError):
    """An optional dependency is needed; the message names the extra that installs it."""


class DataError(BitTransformerError):
    """The data cannot be used."""


class SourceError(DataError):
    """A source is missing, unreadable, empty or too short."""


class ParityError(DataError):
    """A parity bit contradicts its byte; `byte_index` is the first such byte."""

    def __init__(self, message: str, byte_index: int) -> None:
        super().__init__(message)
        self.byte_index = byte_index


class DecodeError(DataError):
    """Bytes are not what they claim to be; `byte_index` is the first bad byte."""

    def __init__(self, message: str, byte_index: int) -> None:
        super().__init__(message)
        self.byte_index = byte_index


class CheckpointError(BitTransformerError):
    """A checkpoint cannot be used."""


class CheckpointNotFoundError(CheckpointError):
    """No checkpoint where one was expected."""


class CheckpointCorruptError(CheckpointError):
    """A file of the checkpoint is missing, truncated or not the file that was written."""


class CheckpointMismatchError(CheckpointError):
    """The checkpoint describes another model than the one it is loaded into."""


class CheckpointVersionError(CheckpointError):
    """The checkpoint was written by a newer version of this project."""


class CodecError(BitTransformerError):
    """Compressing or decompressing failed; nothing is left half-written."""


class ContainerError(CodecError):
    """A compressed file is none of ours, or is damaged; the message says where."""


class ContainerVersionError(CodecError):
    """The compressed file was written by a newer version of this project."""


class ModelMismatchError(CodecError):
    """The file was compressed with a model, or bytes given beforehand, that were not given now."""


class VerificationError(CodecError):
    """What was compressed does not decode to what it was."""


class ForeignArithmeticError(CodecError):
    """Compiled code on this machine does not compute what the format asks for."""


class MemoryLimitError(CodecError):
    """The work needs more memory than the limit allows."""


class HubError(BitTransformerError):
    """The model hub cannot do what was asked; no message ever holds a token."""


class HubNotFoundError(HubError, CheckpointNotFoundError):
    """The hub has no such repository, revision or checkpoint, or hides it from this token."""


class HubAccessError(HubError):
    """The hub refused the token, or wants one."""


class HubUnreachableError(HubError):
    """The hub did not answer; what was transferred so far is kept and not sent again."""


class StorageError(BitTransformerError):
    """Writing failed; what was there before is untouched."""


def storage_error(path: Path | str, error: OSError) -> StorageError:
    """The error that names `path`, the reason, and the remedy that fits it."""
    remedy = _REMEDIES.get(error.errno or 0, "choose another folder or name")
    return StorageError(f"cannot write {path}: {error.strerror or error}; {remedy}")


class TrainingError(BitTransformerError):
    """Training cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss, a gradient or a weight became NaN or infinite."""


class NothingLearnedError(TrainingError):
    """A run has ended with a model that is no better than an untrained one."""


class CollapseError(TrainingError):
    """Training went bad more often than recovery is allowed to mend."""


class SafetyError(BitTransformerError):
    """Output is held back."""


class GateError(SafetyError):
    """The gate refused; the message gives the readings and the floors they fell below."""


class InvalidPredictionError(SafetyError):
    """A prediction is NaN, so nothing can be said of it and nothing may be made of it."""


class ReviewError(SafetyError):
    """A review item cannot be shown or decided; nothing was released."""


class ServiceError(BitTransformerError):
    """A server cannot do what was asked of it."""


class UnknownNameError(ServiceError):
    """Nothing of that kind has that name."""


class ConflictError(ServiceError):
    """The name is taken already, or what it names is in a state that forbids this."""


class BusyError(ServiceError):
    """Somebody else writes to it; `owner` is the job or the process that does."""

    def __init__(self, message: str, owner: str) -> None:
        super().__init__(message)
        self.owner = owner


class QueueFullError(ServiceError):
    """As many jobs wait as the server lets wait."""


class TooLargeError(ServiceError):
    """More bytes than the server takes or makes of one request."""


class UnreachableError(ServiceError):
    """No server answers at that address."""


class RefusedError(ServiceError):
    """The server refused; the message is its own."""


def require(holds: bool, name: str, value: object, limit: str) -> None:
    """Raise `ConfigError` unless the setting `name` is within its limit."""
    if not holds:
        raise ConfigError(f"{name} must be {limit}, got {value}")
