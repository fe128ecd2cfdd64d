"""The base of every part of the configuration."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration; refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", validate_default=True, coerce_numbers_to_str=True)
