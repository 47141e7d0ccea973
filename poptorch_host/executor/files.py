"""Executors in files: `save`, `compileAndExport` and `loadExecutable`."""

from __future__ import annotations

from typing import Any, Callable, List, Optional

import torch

from ..errors import createPoptorchError
from ..executable.executable import Executable, PathLike
from .compiled import NOT_COMPILED
from .random_numbers import RandomNumbers


class Files(RandomNumbers):
    """The part of `PoplarExecutor` that writes its executable and takes one from a file."""

    _training: bool
    compile: Callable[..., None]
    _adopt: Callable[[Executable, Optional[List[int]]], None]

    def save(
        self,
        filename: PathLike,
        export_model: bool = True,
        save_rng_state: bool = True,
    ) -> None:
        """Write the executable, by default with the model: all that `poptorch.load` needs.

        Args:
            filename: a file, or a directory that gets `model.poptorch`.
        """
        if self._executable is None:
            raise createPoptorchError(NOT_COMPILED + " Compile it before save()")
        self._executable.save(
            filename,
            self._options,
            self._user_model,
            list(self._rng) if save_rng_state else None,
            export_model=export_model,
            optimizer=self._optimizer_to_save(),
        )

    def _optimizer_to_save(self) -> Optional[torch.optim.Optimizer]:
        return None

    def compileAndExport(
        self,
        filename: PathLike,
        *args: Any,
        export_model: bool = True,
        **kwargs: Any,
    ) -> None:
        """Compile for inputs like these and `save`; also without a device."""
        if not self.isCompiled():
            self.compile(*args, **kwargs)
        self.save(filename, export_model=export_model)

    def loadExecutable(self, filename: PathLike) -> None:
        """Take an executable of the same model and options instead of compiling.

        Raises:
            poptorch.Error: the file is unreadable, or made for another model or other options.
        """
        executable, rng_state = Executable.load_for(filename, self._model, self._options)
        if (executable.program.loss is not None) != self._training:
            raise createPoptorchError(
                f"Invalid file {filename}: it was compiled for"
                f" {'inference' if self._training else 'training'}, this executor is for"
                f" {'training' if self._training else 'inference'}"
            )
        self._adopt(executable, rng_state)
