"""The training set of one adapter, as samples to train it on."""

from pathlib import Path

from pointsman.data.readers import read_source
from pointsman.data.scan import Faults, check_owner
from pointsman.dialects.values import Image
from pointsman.errors import SampleError
from pointsman.files import digest_bytes, write_bytes
from pointsman.sample import RoutingSample, parse_sample


def read_training_set(path: str, adapter: str, folder: Path) -> list[RoutingSample]:
    """Reads all that ``generate_dataset`` takes as a source.

    Args:
        path: what ``read_source`` reads.
        adapter: the adapter that the set is for; a sample that names another one is refused.
        folder: where embedded images are written.

    Raises:
        SampleError: the set is missing or empty, or a line per reason that makes samples unusable.
        MissingDependency: ``path`` needs an optional package.
    """
    faults = Faults()
    samples = []
    for where, record, start in read_source(path):

        def store(image: Image, start: Path = start) -> str:
            return str(start / image) if isinstance(image, str) else _written(image, folder)

        try:
            sample = parse_sample(record, None, where, store)
            check_owner(where, record, adapter)
            samples.append(sample)
        except SampleError as error:
            faults.samples.append(str(error))
    faults.raise_if_any(skip_bad=False)
    if not samples:
        raise SampleError(f"{path}: holds no samples")
    return samples


def _written(content: bytes, folder: Path) -> str:
    file = folder / digest_bytes(content)
    if not file.is_file():
        write_bytes(file, content)
    return str(file)
