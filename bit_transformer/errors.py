"""Every error this project raises on purpose, as one tree.

    BitTransformerError
    ├── UsageError                 the request is invalid: exit code 2
    │   ├── ConfigError            a setting is outside its limits
    │   ├── UnsupportedCombination two features do not work together
    │   ├── InvalidBitsError       bits are not 0/1, or have a wrong shape
    │   ├── ContextLengthError     a sequence is longer than the model's context
    │   └── MissingExtraError      an optional library is not installed
    ├── DataError                  the data cannot be used: exit code 1
    │   ├── SourceError            a source is missing, unreadable, empty or too short
    │   ├── ParityError            a parity bit is wrong
    │   └── DecodeError            bytes are not valid in the expected encoding
    ├── CheckpointError            exit code 1
    │   ├── CheckpointNotFoundError
    │   ├── CheckpointCorruptError a file is missing, truncated or altered
    │   ├── CheckpointMismatchError the weights do not fit the model
    │   └── CheckpointVersionError the format is newer than this version
    ├── CodecError                 exit code 1
    │   ├── ContainerError         not a BitTransformer container, or a damaged one
    │   ├── ContainerVersionError  the format is newer than this version
    │   ├── ModelMismatchError     another model or dictionary is needed to decompress
    │   ├── VerificationError      compressed data does not decode to the original
    │   ├── MixerFileError         a saved mixer is damaged, or of another version
    │   ├── MemoryLimitError       the work needs more memory than the limit allows
    │   └── ForeignArithmeticError this machine's arithmetic differs from the format's
    ├── HubError                   a request to the hub failed: exit code 1
    │   ├── HubNotFoundError       no such repository or revision; also a CheckpointNotFoundError
    │   ├── HubAccessError         the token is missing, refused or without the right
    │   └── HubUnreachableError    no answer after a bounded number of attempts
    ├── StorageError               the disk is full or not writable: exit code 1
    ├── TrainingError              exit code 1
    │   ├── NonFiniteLossError     NaN or infinity in the loss, a gradient or a weight
    │   ├── NothingLearnedError    the trained model is no better than an untrained one
    │   └── CollapseError          training failed again after every recovery
    ├── SafetyError                exit code 1
    │   ├── GateError              the safety gate refused output
    │   ├── InvalidPredictionError a prediction is NaN
    │   └── ReviewError            a review item is missing, already decided or damaged
    └── ServiceError               a request to a server failed: exit code 1
        ├── UnknownNameError       no run, job, file or item has that name
        ├── ConflictError          the name is taken, or its state forbids the request
        ├── BusyError              another job or process is writing; `owner` names it
        ├── QueueFullError         the queue holds the maximum number of jobs
        ├── TooLargeError          the request exceeds the server's size limit
        ├── UnreachableError       no server answers
        └── RefusedError           the server refused the request

`Interrupted` is a `KeyboardInterrupt` outside the tree, so that no `except Exception` catches it.

A message names the limit, the value and the remedy in one line. `exit_code` is the exit code of the
command line.
"""

import errno
from pathlib import Path

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space or choose another folder"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM),
        "choose a folder that you may write to, or change its permissions",
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
    errno.ENXIO: "no process reads from it, or the device does not exist",
    errno.ELOOP: "its symbolic links form a loop: choose another name",
    errno.EBUSY: "another program is using it: try again later, or choose another name",
    errno.EIO: "the disk may be failing: choose another one",
}
"""Remedies for errors of the operating system."""


class BitTransformerError(Exception):
    """Base of all errors raised on purpose. Any other error that escapes is a bug."""

    exit_code = 1


class StoppedError(BitTransformerError):
    """A signal stopped the work. All results up to that point were saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Interrupted(KeyboardInterrupt):
    """SIGTERM or SIGHUP, raised in the main thread so that cleanup code runs."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


def kind_of(value: object) -> str:
    """Describe a value of a wrong type for an error message: its type, and its dtype and shape if
    it has them."""
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return name if shape is None else f"{name} of {dtype} and shape {tuple(shape)}"


class UsageError(BitTransformerError, ValueError):
    """The request contradicts itself or a documented limit."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is outside its limits."""


class UnsupportedCombination(UsageError):
    """Two features do not work together; the message names both and an alternative."""


class InvalidBitsError(UsageError):
    """A bit tensor holds something other than 0 and 1, or has the wrong shape."""


class ContextLengthError(UsageError):
    """A sequence is longer than the context of the model."""


class MissingExtraError(UsageError, ImportError):
    """An optional library is not installed; the message names the extra that installs it."""


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
    """Bytes are not valid in the expected encoding; `byte_index` is the first bad byte."""

    def __init__(self, message: str, byte_index: int) -> None:
        super().__init__(message)
        self.byte_index = byte_index


class CheckpointError(BitTransformerError):
    """A checkpoint cannot be used."""


class CheckpointNotFoundError(CheckpointError):
    """There is no checkpoint at the expected place."""


class CheckpointCorruptError(CheckpointError):
    """A file of the checkpoint is missing, truncated or altered."""


class CheckpointMismatchError(CheckpointError):
    """The weights of the checkpoint do not fit the model that loads them."""


class CheckpointVersionError(CheckpointError):
    """The checkpoint was written by a newer version of this project."""


class CodecError(BitTransformerError):
    """Compressing or decompressing failed; no partial file is left behind."""


class ContainerError(CodecError):
    """The file is not a BitTransformer container, or is damaged; the message says where."""


class ContainerVersionError(CodecError):
    """The compressed file was written by a newer version of this project."""


class ModelMismatchError(CodecError):
    """Decompressing needs the model or dictionary that the file was compressed with."""


class MixerFileError(CodecError):
    """A file is not a saved mixer, is damaged, or was written by another version."""


class VerificationError(CodecError):
    """Compressed data does not decode to the original."""


class ForeignArithmeticError(CodecError):
    """Compiled code computes other results on this machine than the format requires."""


class MemoryLimitError(CodecError):
    """The work needs more memory than the limit allows."""


class HubError(BitTransformerError):
    """A request to the model hub failed. No message ever contains a token."""


class HubNotFoundError(HubError, CheckpointNotFoundError):
    """The hub has no such repository, revision or checkpoint that this token may see."""


class HubAccessError(HubError):
    """The hub refused the token, or requires one."""


class HubUnreachableError(HubError):
    """The hub did not answer. Data transferred so far is kept and not sent again."""


class StorageError(BitTransformerError):
    """Writing failed; the file that was there before is untouched."""


def storage_error(path: Path | str, error: OSError) -> StorageError:
    """Return the error for a failed write. It names the path, the reason and a remedy."""
    remedy = _REMEDIES.get(error.errno or 0, "choose another folder or name")
    return StorageError(f"cannot write {path}: {error.strerror or error}; {remedy}")


class TrainingError(BitTransformerError):
    """Training cannot continue."""


class NonFiniteLossError(TrainingError):
    """The loss, a gradient or a weight became NaN or infinite."""


class NothingLearnedError(TrainingError):
    """A run ended with a model that is no better than an untrained one."""


class CollapseError(TrainingError):
    """Training failed more often than recovery may retry."""


class SafetyError(BitTransformerError):
    """Output was held back."""


class GateError(SafetyError):
    """The gate refused output; the message gives the metrics and the floors they fell below."""


class InvalidPredictionError(SafetyError):
    """A prediction is NaN, so it can be neither judged by the gate nor sampled from."""


class ReviewError(SafetyError):
    """A review item cannot be shown or decided. No output was released."""


class ServiceError(BitTransformerError):
    """A request to a server failed."""


class UnknownNameError(ServiceError):
    """No object of that kind has that name."""


class ConflictError(ServiceError):
    """The name is taken, or the state of the named object forbids the request."""


class BusyError(ServiceError):
    """Another job or process is writing to the object; `owner` names it."""

    def __init__(self, message: str, owner: str) -> None:
        super().__init__(message)
        self.owner = owner


class QueueFullError(ServiceError):
    """The queue already holds the maximum number of jobs."""


class TooLargeError(ServiceError):
    """A request or its result exceeds the server's size limit."""


class UnreachableError(ServiceError):
    """No server answers at the address."""


class RefusedError(ServiceError):
    """The server refused the request; the message is the server's."""


def require(holds: bool, name: str, value: object, limit: str) -> None:
    """Raise `ConfigError` unless the setting `name` is within its limit."""
    if not holds:
        raise ConfigError(f"{name} must be {limit}, got {value}")
