"""Where tensors would live on an IPU: stored, without effect on a host."""

from __future__ import annotations

from typing import Any, Dict, Optional

from .options_dict import OptionsDict


class TensorLocationSettings(OptionsDict):
    """Placement of one kind of tensor; every method returns the settings."""

    def minElementsForOffChip(self, min_elements: int) -> TensorLocationSettings:
        """Smaller tensors stay on the chip."""
        assert min_elements >= 0, f"minElementsForOffChip must not be negative, got {min_elements}"
        return self.createOrSet(minElementsForOffChip=min_elements)

    def minElementsForReplicatedTensorSharding(self, min_elements: int) -> TensorLocationSettings:
        """Smaller tensors are not sharded over replicas."""
        assert min_elements >= 0, (
            f"minElementsForReplicatedTensorSharding must not be negative, got {min_elements}"
        )
        return self.createOrSet(minElementsForReplicatedTensorSharding=min_elements)

    def useOnChipStorage(self, use: bool = True) -> TensorLocationSettings:
        """Keep the tensors on the chip, else in streaming memory."""
        return self.createOrSet(onChip=_flag("useOnChipStorage", use))

    def useReplicatedTensorSharding(self, use: bool = True) -> TensorLocationSettings:
        """Shard the tensors over replicas."""
        value = _flag("useReplicatedTensorSharding", use)
        return self.createOrSet(useReplicatedTensorSharding=value)

    def useIOTilesToLoad(self, use: bool = True) -> TensorLocationSettings:
        """Load over IO tiles, else over compute tiles."""
        return self.createOrSet(useIOTilesToLoad=_flag("useIOTilesToLoad", use))

    def useIOTilesToStore(self, use: bool = True) -> TensorLocationSettings:
        """Store over IO tiles, else over compute tiles."""
        return self.createOrSet(useIOTilesToStore=_flag("useIOTilesToStore", use))


class _TensorLocationOptions(OptionsDict):
    """`options.TensorLocations`."""

    def __init__(self) -> None:
        super().__init__()
        self._num_io_tiles: Optional[int] = None
        self._locations: Dict[str, Dict[str, Any]] = {}

    def numIOTiles(self, num_tiles: int) -> _TensorLocationOptions:
        """Set tiles of each IPU aside for transfers.

        Raises:
            AssertionError: not an even number between 32 and 192.
        """
        assert isinstance(num_tiles, int) and 32 <= num_tiles <= 192 and num_tiles % 2 == 0, (
            f"numIOTiles must be an even number between 32 and 192. Got {num_tiles}"
        )
        self._num_io_tiles = num_tiles
        return self

    def setActivationLocation(self, location: TensorLocationSettings) -> _TensorLocationOptions:
        """Where activations live."""
        return self._locate("location_activation", location)

    def setWeightLocation(self, location: TensorLocationSettings) -> _TensorLocationOptions:
        """Where weights live."""
        return self._locate("location_weight", location)

    def setOptimizerLocation(self, location: TensorLocationSettings) -> _TensorLocationOptions:
        """Where the optimizer's state lives."""
        return self._locate("location_optimizer", location)

    def setAccumulatorLocation(self, location: TensorLocationSettings) -> _TensorLocationOptions:
        """Where gradient accumulators live."""
        return self._locate("location_accumulator", location)

    def toDict(self) -> Dict[str, Any]:
        """Only what was set."""
        values: Dict[str, Any] = {name: dict(one) for name, one in self._locations.items()}
        if self._num_io_tiles is not None:
            values["numIOTiles"] = self._num_io_tiles
        return values

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.toDict()})"

    def _locate(self, name: str, location: TensorLocationSettings) -> _TensorLocationOptions:
        self._check_not_frozen()
        assert isinstance(location, TensorLocationSettings), (
            f"Expected a poptorch.TensorLocationSettings, got {type(location)}"
        )
        self._locations = {**self._locations, name: location.toDict()}
        return self


def _flag(name: str, value: bool) -> bool:
    assert isinstance(value, bool), f"{name} expects a bool, got {type(value)}"
    return value
