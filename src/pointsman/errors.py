"""Everything Pointsman raises on purpose.

::

    PointsmanError
    ├── LabelError           a label map, an adapter name or a label that cannot be right
    ├── SampleError          a sample, a dataset or an image that cannot be used
    │   └── ImageError
    ├── RequestError         a request that cannot be answered as it was made
    │   └── AbstainedError   no adapter is for it, and the fallback is "error"
    ├── EngineStateError     the engine cannot take a request now
    │   ├── QueueFullError   too many requests are waiting
    │   └── EngineClosedError
    ├── ArtefactError        a file or folder of ours that is missing, broken or of the wrong kind
    ├── MismatchError        two artefacts that do not belong together
    ├── ConfigError          a setting, an option or a project file
    └── MissingDependency    an optional package that this step needs

Every message is one line that names the offending value and its fix. The command line prints that
line and exits with status 1; anything else that escapes is a bug. A server maps ``LabelError``,
``SampleError`` and ``RequestError`` to 4xx, ``QueueFullError`` to 429, ``EngineClosedError`` to
503, and the others to 500.
"""


class PointsmanError(Exception):
    """Base class: catch this to catch whatever Pointsman refuses."""


class LabelError(PointsmanError):
    """A label map, an adapter name or a label that cannot be right."""


class SampleError(PointsmanError):
    """A sample or a dataset that cannot be used."""


class ImageError(SampleError):
    """An image that is missing, unreadable or of an impossible size."""


class RequestError(PointsmanError):
    """A request that cannot be answered as it was made: one of its options is out of range."""


class AbstainedError(RequestError):
    """A request on which the router abstained, with ``fallback = "error"``."""


class EngineStateError(PointsmanError):
    """The engine cannot take a request now, whatever the request is."""


class QueueFullError(EngineStateError):
    """There are as many requests as ``EngineOptions`` allow at once; try again later."""


class EngineClosedError(EngineStateError):
    """The engine was closed, its thread has died, or it belongs to a parent process."""


class ArtefactError(PointsmanError):
    """A file or folder that is missing, truncated, or not what it should be."""


class MismatchError(PointsmanError):
    """Two artefacts that do not belong together (label order, base, recipe)."""


class ConfigError(PointsmanError):
    """A setting, a command-line option or a project file that cannot be right."""


class MissingDependency(PointsmanError):
    """An optional package that this step needs is not installed."""
