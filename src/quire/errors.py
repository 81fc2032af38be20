"""The errors raised on bad input: each names the object, the bad value and what is legal."""


class QuireError(ValueError):
    """Bad input, described for whoever gave it; the command line prints no traceback."""


class FormatError(QuireError):
    """A number format, or a tensor given to one, is not legal."""


class CaptureError(QuireError):
    """A model cannot be captured as a graph."""


class FixedBatchError(CaptureError):
    """A model fixes its batch size: each size has a graph of its own."""


class PlanError(QuireError):
    """A plan does not fit the graph, or is not a plan."""


class TaskError(QuireError):
    """A task is incomplete, or what its functions return is not usable."""


class StudyError(QuireError):
    """A search is asked for something that it cannot do."""


class CheckpointError(QuireError):
    """A checkpoint is damaged, or belongs to another model or plan."""


class HardwareError(QuireError):
    """A network, a plan or a tool cannot do what a design needs."""


class KernelError(QuireError):
    """A GPU kernel cannot be built, or cannot run what it is given."""


class CompileError(QuireError):
    """A model cannot be compiled as asked."""
