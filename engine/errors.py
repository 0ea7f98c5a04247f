"""Every error a user can meet: one table of codes, the classes that carry them, and the text form.

Pure: the scheduler and a cluster's master import this module, so it imports nothing but the standard library.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple


class CodeInfo(NamedTuple):
    """One row of the table: `code` is never reused, `wire` is its name between processes."""

    code: str
    wire: str
    about: str


class Code(enum.Enum):
    """The kinds of error. `docs/errors.md` and `kernelmill error CODE` are made from this table."""

    COLUMN_NOT_FOUND = CodeInfo("KM0101", "COLUMN_NOT_FOUND", "A plan names a column that its input does not have.")
    TYPE_MISMATCH = CodeInfo("KM0102", "TYPE_MISMATCH", "An operation does not take values of this type.")
    DUPLICATE_COLUMN = CodeInfo("KM0103", "DUPLICATE_COLUMN", "Two output columns would have the same name.")
    SCHEMA_REQUIRED = CodeInfo("KM0104", "SCHEMA_REQUIRED", "The schema cannot be known without running; give one.")
    AMBIGUOUS_TRUTH = CodeInfo("KM0105", "AMBIGUOUS_TRUTH", "An expression was used as a Python truth value.")
    UNKNOWN_NAME = CodeInfo("KM0106", "UNKNOWN_NAME", "No method, function or option has this name.")
    BAD_SETTING = CodeInfo("KM0107", "BAD_SETTING", "A setting or argument has a value outside what it allows.")
    INPUT_NOT_FOUND = CodeInfo("KM0201", "INPUT_NOT_FOUND", "An input is missing, unreadable or matches no file.")
    FORMAT = CodeInfo("KM0202", "FORMAT", "An input's bytes are not what its format asks for.")
    INPUT_CHANGED = CodeInfo("KM0203", "INPUT_CHANGED", "An input changed while the job ran.")
    ENCODING = CodeInfo("KM0204", "ENCODING", "Text is not valid in its encoding.")
    TRUNCATED = CodeInfo("KM0205", "TRUNCATED", "A compressed or columnar input ends too early.")
    SCHEMA_CONFLICT = CodeInfo("KM0206", "SCHEMA_CONFLICT", "Files that are read together disagree on a column's type.")
    CAST = CodeInfo("KM0207", "CAST", "A value does not fit the type it is cast to.")
    OVERFLOW = CodeInfo("KM0208", "OVERFLOW", "An integer result does not fit 64 bits.")
    RECORD_TOO_LONG = CodeInfo("KM0209", "RECORD_TOO_LONG", "A line is longer than max_line, or a word than 16 MiB.")
    KEY_REPEATED = CodeInfo("KM0210", "KEY_REPEATED", "A join's validate= forbids a key twice, and one is there twice.")
    FUNCTION_FAILED = CodeInfo("KM0301", "FUNCTION_FAILED", "A user's function raised an exception.")
    INTERPRETED = CodeInfo("KM0302", "INTERPRETED", "A user's function cannot be compiled, and compile='require'.")
    COMBINER_CONTRACT = CodeInfo("KM0303", "COMBINER_CONTRACT", "A combine is not associative and commutative.")
    NONDETERMINISTIC = CodeInfo("KM0304", "NONDETERMINISTIC", "A user's function gave two results for one record.")
    FUNCTION_CRASHED = CodeInfo("KM0307", "FUNCTION_CRASHED", "A user's function ends its process at a record.")
    FUNCTION_HUNG = CodeInfo("KM0308", "FUNCTION_HUNG", "A user's function does not return for a record.")
    VERIFY_DIFFERS = CodeInfo("KM0309", "VERIFY_DIFFERS", "verify() found rows that plain Python does not give.")
    MEMORY_LIMIT = CodeInfo("KM0401", "MEMORY_LIMIT", "The job cannot run in the memory it was given.")
    DISK_FULL = CodeInfo("KM0402", "DISK_FULL", "A disk is full: the output's, or the one used for spilling.")
    FILE_LIMIT = CodeInfo("KM0403", "FILE_LIMIT", "The process may not open more files.")
    OUTPUT_EXISTS = CodeInfo("KM0501", "OUTPUT_EXISTS", "The output is already there and mode='error'.")
    COMMIT = CodeInfo("KM0502", "COMMIT", "The output could not be written or published.")
    REJECT_LIMIT = CodeInfo("KM0503", "REJECT_LIMIT", "More records were rejected than max_rejects allows.")
    OUTPUT_BUSY = CodeInfo("KM0504", "OUTPUT_BUSY", "Another job is writing this output.")
    UNREACHABLE = CodeInfo("KM0601", "UNREACHABLE", "The cluster's master does not answer.")
    REFUSED = CodeInfo("KM0602", "REFUSED", "The cluster does not do what this peer asks.")
    VERSION = CodeInfo("KM0603", "VERSION", "Versions of a cluster's members or of its libraries do not do.")
    NO_WORKERS = CodeInfo("KM0604", "NO_WORKERS", "The cluster has no workers for a job, or lost them all.")
    CORRUPT_BLOCK = CodeInfo("KM0605", "CORRUPT_BLOCK", "A shuffle block's bytes do not match its checksum.")
    JOURNAL_FULL = CodeInfo("KM0606", "JOURNAL_FULL", "The disk of the master's journal is full; jobs wait for space.")
    PROTOCOL = CodeInfo("KM0607", "PROTOCOL", "A peer sent what is no message of this version.")
    CODE_REFUSED = CodeInfo(
        "KM0609", "CODE_REFUSED", "A job's code may not run: its signature, or the worker's list, says no."
    )
    OUTPUT_STUCK = CodeInfo("KM0610", "OUTPUT_STUCK", "The file system of an output does not answer.")
    JOURNAL_CORRUPT = CodeInfo("KM0611", "JOURNAL_CORRUPT", "The master's journal is not as it was written.")
    TASK_LOST = CodeInfo("KM0612", "TASK_LOST", "A task's process died, hung or went away too often.")
    JOURNAL_BUSY = CodeInfo("KM0613", "JOURNAL_BUSY", "Another master has this state folder.")
    JOURNAL_FAILED = CodeInfo("KM0614", "JOURNAL_FAILED", "The journal could not be opened, written or made durable.")
    KEYS = CodeInfo("KM0615", "KEYS", "Files of keys are missing, damaged, or open to others.")
    NO_JOB = CodeInfo("KM0616", "NO_JOB", "The cluster has no such job of this client's.")
    JOB_EXISTS = CodeInfo("KM0617", "JOB_EXISTS", "Another job of the cluster has this id or name.")
    PART_DAMAGED = CodeInfo("KM0618", "PART_DAMAGED", "A part of a job is damaged where the master keeps it.")
    CANCELLED = CodeInfo("KM0701", "CANCELLED", "The job was cancelled.")
    INTERNAL = CodeInfo("KM0901", "INTERNAL", "A bug of kernelmill.")

    @property
    def id(self) -> str:
        """The stable code, such as KM0204."""
        return self.value.code

    def __str__(self) -> str:
        return self.value.code


class KernelmillError(Exception):
    """What went wrong, where, and what to do. Pickled as its code and texts: a pool of processes hands it on.

    `where` is the user's file and line or the input's file and offset, `hint` what to do; both may be empty.
    `reason` is `what` without the values in it, for counting errors of one kind.
    """

    def __init__(self, code: Code, what: str, *, where: str = "", hint: str = "", reason: str = "") -> None:
        super().__init__(code, what, where, hint)
        self.code, self.what, self.where, self.hint, self.reason = code, what, where, hint, reason or what

    def __str__(self) -> str:
        lines = [f"[{self.code}] {self.what}"]
        lines += [f"  at {self.where}"] if self.where else []
        lines += [f"  fix: {self.hint}"] if self.hint else []
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError's, and Exception's for an __init__ with keywords, would call the class with other arguments
        return _remade, (type(self), self.code, self.what, self.where, self.hint), vars(self)


class PlanError(KernelmillError, ValueError):
    """The plan cannot be what the user meant; raised by the verb that is wrong, before anything runs."""


class ColumnNotFoundError(PlanError, KeyError):
    """KM0101."""

    __str__ = KernelmillError.__str__  # KeyError's own would print the repr of the tuple


class TypeMismatchError(PlanError, TypeError):
    """KM0102."""


class DuplicateColumnError(PlanError):
    """KM0103."""


class AmbiguousTruthError(PlanError, TypeError):
    """KM0105."""


class UnknownNameError(PlanError, AttributeError):
    """KM0106."""


class BadSettingError(PlanError):
    """KM0107."""


class InputError(KernelmillError):
    """The input is wrong, not the plan."""


class InputNotFoundError(InputError, FileNotFoundError):
    """KM0201."""

    __str__ = KernelmillError.__str__  # OSError's own would print an errno


class FormatError(InputError, ValueError):
    """KM0202, and KM0205 where the bytes end too early."""


class InputChangedError(InputError):
    """KM0203."""


class EncodingError(InputError, ValueError):
    """KM0204."""


class SchemaConflictError(InputError, TypeError):
    """KM0206."""


class CastError(InputError, ValueError):
    """KM0207."""


class OverflowedError(InputError, OverflowError):
    """KM0208."""


class RecordTooLongError(InputError, ValueError):
    """KM0209."""


class KeyRepeatedError(InputError, ValueError):
    """KM0210."""


class UserCodeError(KernelmillError):
    """The user's own function failed."""


class ResourceError(KernelmillError):
    """The machine has too little of something."""


class MemoryLimitError(ResourceError, MemoryError):
    """KM0401."""


class DiskFullError(ResourceError, OSError):
    """KM0402."""

    __str__ = KernelmillError.__str__


class OutputError(KernelmillError):
    """The output could not be made."""


class OutputExistsError(OutputError, FileExistsError):
    """KM0501."""

    __str__ = KernelmillError.__str__


class OutputBusyError(OutputError):
    """KM0504."""


class CommitError(OutputError, OSError):
    """KM0502."""

    __str__ = KernelmillError.__str__


class RejectLimitError(OutputError):
    """KM0503."""


class ClusterError(KernelmillError):
    """Between the processes of a job something went wrong."""


class UnreachableError(ClusterError, ConnectionError):
    """KM0601: what was asked may have been done all the same."""

    __str__ = KernelmillError.__str__  # OSError's own would print an errno


class RefusedError(ClusterError, PermissionError):
    """KM0602 and KM0617."""

    __str__ = KernelmillError.__str__


class VersionError(ClusterError):
    """KM0603."""


class CodeRefusedError(ClusterError, PermissionError):
    """KM0609: nothing of the job was opened."""

    __str__ = KernelmillError.__str__


class KeyFileError(ClusterError):
    """KM0615."""


class CorruptBlockError(ClusterError):
    """KM0605."""


class ProtocolError(ClusterError, ValueError):
    """KM0607."""


class JournalError(ClusterError):
    """KM0611, KM0613 and KM0614: the master stops, or does not start."""


class JournalFullError(JournalError):
    """KM0606: nothing was written; the same may be tried again."""


class CancelledError(KernelmillError):
    """KM0701."""


class InternalError(KernelmillError):
    """KM0901: not the user's fault; the hint says what to attach to a report."""


_CLASS_OF_CODE: dict[Code, type[KernelmillError]] = {
    Code.COLUMN_NOT_FOUND: ColumnNotFoundError,
    Code.TYPE_MISMATCH: TypeMismatchError,
    Code.DUPLICATE_COLUMN: DuplicateColumnError,
    Code.SCHEMA_REQUIRED: PlanError,
    Code.AMBIGUOUS_TRUTH: AmbiguousTruthError,
    Code.UNKNOWN_NAME: UnknownNameError,
    Code.BAD_SETTING: BadSettingError,
    Code.INPUT_NOT_FOUND: InputNotFoundError,
    Code.FORMAT: FormatError,
    Code.INPUT_CHANGED: InputChangedError,
    Code.ENCODING: EncodingError,
    Code.TRUNCATED: FormatError,
    Code.SCHEMA_CONFLICT: SchemaConflictError,
    Code.CAST: CastError,
    Code.OVERFLOW: OverflowedError,
    Code.RECORD_TOO_LONG: RecordTooLongError,
    Code.KEY_REPEATED: KeyRepeatedError,
    Code.FUNCTION_FAILED: UserCodeError,
    Code.INTERPRETED: UserCodeError,
    Code.COMBINER_CONTRACT: UserCodeError,
    Code.NONDETERMINISTIC: UserCodeError,
    Code.FUNCTION_CRASHED: UserCodeError,
    Code.FUNCTION_HUNG: UserCodeError,
    Code.VERIFY_DIFFERS: UserCodeError,
    Code.MEMORY_LIMIT: MemoryLimitError,
    Code.DISK_FULL: DiskFullError,
    Code.FILE_LIMIT: ResourceError,
    Code.OUTPUT_EXISTS: OutputExistsError,
    Code.COMMIT: CommitError,
    Code.REJECT_LIMIT: RejectLimitError,
    Code.OUTPUT_BUSY: OutputBusyError,
    Code.UNREACHABLE: UnreachableError,
    Code.REFUSED: RefusedError,
    Code.VERSION: VersionError,
    Code.NO_WORKERS: ClusterError,
    Code.CORRUPT_BLOCK: CorruptBlockError,
    Code.JOURNAL_FULL: JournalFullError,
    Code.PROTOCOL: ProtocolError,
    Code.CODE_REFUSED: CodeRefusedError,
    Code.OUTPUT_STUCK: ClusterError,
    Code.JOURNAL_CORRUPT: JournalError,
    Code.TASK_LOST: ClusterError,
    Code.JOURNAL_BUSY: JournalError,
    Code.JOURNAL_FAILED: JournalError,
    Code.KEYS: KeyFileError,
    Code.NO_JOB: ClusterError,
    Code.JOB_EXISTS: RefusedError,
    Code.PART_DAMAGED: ClusterError,
    Code.CANCELLED: CancelledError,
    Code.INTERNAL: InternalError,
}


def article(value: object) -> str:
    """What kind of object it is, for a message: `an int`, `a bytes object`, `a str`."""
    name = type(value).__name__
    if name.endswith("s"):
        name += " object"
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


def error(code: Code, what: str, *, where: str = "", hint: str = "", reason: str = "") -> KernelmillError:
    """Make the exception whose class belongs to `code`: `raise error(Code.CAST, "...", hint="...")`."""
    return _CLASS_OF_CODE[code](code, what, where=where, hint=hint, reason=reason)


def _remade(kind: type[KernelmillError], code: Code, what: str, where: str, hint: str) -> KernelmillError:
    """An unpickled error; its other attributes are set next."""
    return kind(code, what, where=where, hint=hint)
