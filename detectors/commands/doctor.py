"""`python -m detectors doctor`: what of this project works on this machine, one line each.

What is broken takes the doctor not down with it: it is a line like the others.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from typing import Callable, List, NamedTuple, Optional

from detectors.commands.screen import explain, torchvision_for, versions

__all__ = ["Finding", "examine", "main"]


class Finding(NamedTuple):
    """One line."""

    what: str
    """Its name."""
    fine: bool
    """Whether everything that is promised works."""
    text: str
    """What was found, and what would do where it is not fine."""


def main(words: Optional[List[str]] = None) -> int:
    """Print the findings; 1 if any is not fine."""
    if words:
        print("usage: python -m detectors doctor", file=sys.stderr)
        return 2
    findings = examine()
    for finding in findings:
        print(f"{'ok' if finding.fine else '!!'}  {finding.what:12} {finding.text}")
    return 0 if all(finding.fine for finding in findings) else 1


def examine() -> List[Finding]:
    """All findings; a check that raises is one that is not fine."""
    checks = (
        ("python", python),
        ("torch", torch_version),
        ("torchvision", torchvision),
        ("device", device),
        ("operators", operators),
        ("PopTorch", sdk),
        ("ranks", ranks),
        ("weights", weights_cache),
    )
    return [guarded_check(what, check) for what, check in checks]


def guarded_check(what: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # the doctor reports what would stop others
        return Finding(what, False, explain(error).replace("\n", "; "))


def python() -> Finding:
    fine = sys.version_info >= (3, 8)
    text = f"{platform.python_version()} at {sys.executable}"
    return Finding("python", fine, text if fine else f"{text}: 3.8 or newer is needed")


def torch_version() -> Finding:
    torch = importlib.import_module("torch")
    return Finding("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")


def torchvision() -> Finding:
    """Of the same release as torch; not being there is fine, nothing of ours needs it to run."""
    found = versions("torch", "torchvision")
    if found["torchvision"] == "not installed":
        return Finding("torchvision", True, "not installed, and not needed")
    wanted = torchvision_for(found["torch"])
    if wanted is not None and not found["torchvision"].startswith(wanted + "."):
        return Finding(
            "torchvision",
            False,
            f"{found['torchvision']} does not fit torch {found['torch']}:"
            f' pip install "torchvision=={wanted}.*" from the index that torch is from',
        )
    importlib.import_module("torchvision")
    return Finding("torchvision", True, f"{found['torchvision']}, of torch's release")


def device() -> Finding:
    torch = importlib.import_module("torch")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not torch.cuda.is_available():
        return Finding("device", True, f"cpu, {cores} cores; no CUDA device")
    name = torch.cuda.get_device_name(0)
    return Finding(
        "device", True, f"cuda: {name}; {torch.cuda.device_count()} in all, {cores} cores"
    )


def operators() -> Finding:
    """Which implementation of NMS and top-k runs."""
    backend = importlib.import_module("poplar_ops").backend()
    compiled = not backend.startswith("torch")
    slower = (
        "" if compiled else ": not built, plain torch is used and NMS is slower; pip install -e ."
    )
    return Finding("operators", True, backend + slower)


def sdk() -> Finding:
    """The Poplar SDK, or what stands in for it."""
    if importlib.util.find_spec("poptorch") is None:
        return Finding("PopTorch", True, "Poplar SDK not found: programs run on poptorch_host")
    poptorch = importlib.import_module("poplar_ops.runtime").poptorch
    if poptorch.__name__ == "poptorch_host":
        return Finding("PopTorch", True, "the SDK is there; DETECTORS_POPTORCH=host turns it off")
    version = getattr(poptorch, "__version__", "of unknown version")
    available = poptorch.ipuHardwareIsAvailable()
    text = f"SDK's PopTorch {version}, {'IPU found' if available else 'no IPU found'}"
    return Finding("PopTorch", bool(available), text)


def ranks() -> Finding:
    """Whether the stages of a model can be processes of their own."""
    runtime = importlib.import_module("poplar_ops.runtime")
    if not runtime.IS_HOST:
        return Finding("ranks", True, "none: on IPUs one process has all stages")
    try:
        runtime.poptorch.host.check_pipelining()
    except runtime.poptorch.Error:
        text = "none with this torch: the stages of a model take turns in one process"
        return Finding("ranks", True, text)
    return Finding("ranks", True, "torchrun --nproc-per-node N train.py puts a stage on each")


def weights_cache() -> Finding:
    folder = importlib.import_module("detectors.weights.download").cache_folder()
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    count = sum(path.suffix in (".pth", ".gz", ".safetensors") for path in files)
    return Finding("weights", True, f"{count} checkpoints in {folder} (DETECTORS_CACHE)")
