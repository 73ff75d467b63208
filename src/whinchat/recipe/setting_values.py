"""Check the value of a single recipe key, outside a recipe."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from whinchat.errors import nearest


def checked_value(sections: Mapping[str, type[BaseModel]], key: str, value: Any) -> Any:
    """Return ``value`` in the type of a recipe key, such as 0.0002 for "2e-4".

    Args:
        sections: the sections of a recipe by name.
        key: the dotted key, such as ``train.learning_rate``.
        value: the value as it stands in a YAML file.

    Raises:
        ValueError: there is no such key, or the value does not fit it.
    """
    section, _, name = key.partition(".")
    fields = sections[section].model_fields if section in sections else {}
    if name not in fields:
        keys = [f"{section}.{name}" for section, model in sections.items() for name in model.model_fields]
        raise ValueError(f"{key}: not a key of a recipe{nearest(key, keys)}")
    kind: Any = Annotated[fields[name].annotation, fields[name]]
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ValueError(f"{key}: {reason[0].lower()}{reason[1:]}; found {value!r}") from None
