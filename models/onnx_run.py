"""Opens exported graphs: written beside the weights where they are missing, stale or unchecked; run by ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from models.errors import WeightsError
from models.fetch import MANIFEST, read_manifest, renew_manifest

if TYPE_CHECKING:
    import onnxruntime as ort

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def graph_beside(folder: Path, name: str, export: Callable[[Path], None]) -> Path:
    """Return a model's exported graph, written first where it cannot be trusted.

    Parameters
    ----------
    folder : Path
        The checkpoint.
    name : str
        The graph's file name.
    export : callable
        Writes the graph to the path it is given.

    Returns
    -------
    Path
        In the folder's manifest, where that has one.

    Raises
    ------
    WeightsError
        If the checkpoint is missing or damaged.
    """
    graph = folder / name
    weights = [path for path in (folder / one for one in WEIGHTS) if path.is_file()]
    has_manifest = (folder / MANIFEST).is_file()
    is_unknown = has_manifest and name not in read_manifest(folder)["files"]  # not checked with the weights
    if not graph.is_file() or is_unknown or any(p.stat().st_mtime > graph.stat().st_mtime for p in weights):
        export(graph)
        renew_manifest(folder)
    return graph


def open_session(graph: Path, *, threads: int = 0) -> ort.InferenceSession:
    """Open a graph on the CPU.

    Parameters
    ----------
    graph : Path
    threads : int, optional
        Threads of one call; 0 takes all cores, 4 at most.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    WeightsError
        If the file is missing or damaged.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or min(len(os.sched_getaffinity(0)), 4)
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.x64quantprecision", "1")  # without VNNI, int8 sums overflow 16 bits
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base of their own
        raise WeightsError(
            f"{graph.name} cannot be run: {type(error).__name__}.", cure="Remove the model and pull it again."
        ) from error


def read_tokenizer(path: Path) -> Tokenizer:
    """Read ``tokenizer.json``, set to pad nothing.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Tokenizer

    Raises
    ------
    WeightsError
        If it is missing or damaged.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises the bare Exception
        raise WeightsError(f"{path} is not a readable tokenizer.", cure="Pull the model again.") from error
    tokenizer.no_padding()
    return tokenizer
