"""Adapters with one planted fault each: does ``pointsman adapters check`` name it?

The same adapters are loaded by PEFT alone, to see which faults nobody would have heard of.
"""

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

from common import report
from peft import PeftModel

from pointsman.adapters.check.check import check_adapter
from pointsman.models.base import load_base
from support.adapter_faults import FAULTS, HANGS, LAYOUTS, make_layout, plant
from support.tiny import make_base


def is_silent(base: Path, folder: Path) -> bool:
    """Whether PEFT loads it without an exception and without a warning that names keys."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            PeftModel.from_pretrained(load_base(str(base)).model, str(folder))
        except Exception:  # whatever it raises, it is not silent
            return False
    return not any("missing adapter keys" in str(warning.message) for warning in heard)


def main() -> None:
    warnings.simplefilter("ignore")
    caught, false_alarms = {}, {}
    with tempfile.TemporaryDirectory() as place:
        folder = make_base(Path(place) / "base")
        base = replace(load_base(str(folder)), id="Qwen/Qwen3-VL-8B-Instruct")
        for number, (fault, (code, *_)) in enumerate(FAULTS.items()):
            adapter = plant(fault, folder, Path(place) / str(number))
            found = {finding.kind for finding in check_adapter(adapter, base).errors}
            caught[fault] = {
                "code": code,
                "caught": found == {code},
                "silent_in_peft": fault != HANGS and is_silent(folder, adapter),
            }
        for trainer in LAYOUTS:
            adapter = make_layout(folder, Path(place) / trainer, trainer)
            found = [str(finding) for finding in check_adapter(adapter, base).errors]
            false_alarms[trainer] = found
    result = {
        "caught": sum(fault["caught"] for fault in caught.values()),
        "of": len(caught),
        "silent_in_peft": sum(fault.get("silent_in_peft", False) for fault in caught.values()),
        "false_alarms": sum(map(len, false_alarms.values())),
        "faults": caught,
        "good_adapters": false_alarms,
    }
    report("adapter_faults", result)
    assert result["caught"] == result["of"]
    assert not result["false_alarms"]


if __name__ == "__main__":
    main()
