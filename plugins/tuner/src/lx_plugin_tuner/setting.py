"""A setting of the model or the data, wherever it is held."""

from typing import Any


class Setting:
    """What a module and its data module hold under one name, each as an attribute, as a hyperparameter or as both; false if nobody does."""

    def __init__(self, name: str, module: Any, datamodule: Any) -> None:
        self.name = name
        owners = [owner for owner in (module, datamodule) if owner is not None]
        self._attributes = [owner for owner in owners if hasattr(owner, name)]
        self._hparams = [owner.hparams for owner in owners if name in owner.hparams]

    def __bool__(self) -> bool:
        return bool(self._attributes or self._hparams)

    @property
    def value(self) -> Any:
        """What the first holder has: the module before the data module, an attribute before a hyperparameter."""
        return getattr(self._attributes[0], self.name) if self._attributes else self._hparams[0][self.name]

    def set(self, value: Any) -> None:
        """Writes it to every holder."""
        for owner in self._attributes:
            setattr(owner, self.name, value)
        for hparams in self._hparams:
            hparams[self.name] = value
