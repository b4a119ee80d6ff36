"""Matrix products on a CPU."""

import subprocess
import sys

import pytest

from pointsman.models import cpu_kernels

LENGTHS = """
from pathlib import Path
import torch
from torch import nn
from pointsman.models import cpu_kernels
from pointsman.models.cpu_kernels import use_onednn_linears
cpu_kernels._PREFERS_ONEDNN = True  # on any processor

def megabytes():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024

model = nn.Sequential(nn.Linear(256, 1280), nn.Linear(1280, 256), nn.Linear(256, 512))
use_onednn_linears(model)
with torch.inference_mode():
    model(torch.ones(400, 256))
    before = megabytes()
    for length in range(1, 400):
        model(torch.ones(length, 256))
print(megabytes() - before)
"""


@pytest.mark.skipif(not cpu_kernels.HAS_ONEDNN, reason="this PyTorch has no oneDNN")
def test_products_of_every_length_need_little_memory() -> None:
    """PyTorch by itself would keep code for each: 700 MB here."""
    found = subprocess.run(
        [sys.executable, "-c", LENGTHS], capture_output=True, text=True, check=True
    )
    assert float(found.stdout) < 400
