"""Everything Pointsman raises on purpose.

::

    PointsmanError
    ├── LabelError           a label map, an adapter name or a label that cannot be right
    ├── SampleError          a sample, a dataset or an image that cannot be used
    │   └── ImageError
    ├── ArtefactError        a file or folder of ours that is missing, broken or of the wrong kind
    ├── MismatchError        two artefacts that do not belong together
    ├── AbstainedError       a request that no adapter is for, where nobody is to answer those
    ├── ConfigError          a setting, an option or a project file
    └── MissingDependency    an optional package that this step needs

Every message is one line that names the offending value and says how to mend it. The command line
prints that line and exits with status 1; anything else that escapes is a bug.
"""


class PointsmanError(Exception):
    """Base class: catch this to catch whatever Pointsman refuses."""


class LabelError(PointsmanError):
    """A label map, an adapter name or a label that cannot be right."""


class SampleError(PointsmanError):
    """A sample or a dataset that cannot be used."""


class ImageError(SampleError):
    """An image that is missing, unreadable or of an impossible size."""


class ArtefactError(PointsmanError):
    """A file or folder that is missing, truncated, or not what it should be."""


class MismatchError(PointsmanError):
    """Two artefacts that do not belong together (label order, base, recipe)."""


class AbstainedError(PointsmanError):
    """A request on which the router abstained, with ``fallback = "error"``."""


class ConfigError(PointsmanError):
    """A setting, a command-line option or a project file that cannot be right."""


class MissingDependency(PointsmanError):
    """An optional package that this step needs is not installed."""
