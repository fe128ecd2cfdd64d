"""The requests and responses of what the explorer page looks up; see serving/schemas.py for the others."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from serving.browse import MAX_VALUES, MOST
from serving.schemas import BundleParams, Text


class SearchParams(BundleParams):
    """The query of a search."""

    q: Annotated[str, Field(max_length=200)] = Field("", description="What to look for; empty: a few to begin with.")
    limit: int = Field(10, ge=1, le=MOST, description="How many to return.")


class MapParams(BundleParams):
    """The query of a request for the map."""

    field: Text = Field("", description="An item field whose values to return with the points; empty: none.")


class FoundItem(BaseModel):
    """An item that matches."""

    item_id: str
    title: str | None
    train_events: int


class ItemsResponse(BaseModel):
    """Items that match, best first."""

    bundle: str
    items: list[FoundItem]


class FoundUser(BaseModel):
    """A user whose id matches."""

    user_id: str
    history_length: int


class UsersResponse(BaseModel):
    """Users whose ids match, shorter ids first."""

    bundle: str
    users: list[FoundUser]


class CountedValue(BaseModel):
    """A value and how many items have it."""

    value: str
    items: int


class FieldSummary(BaseModel):
    """What there is to filter by in one item field."""

    kind: Literal["categorical", "multi", "numeric"]
    missing: int = Field(description="Items without a value.")
    values: list[CountedValue] | None = Field(
        None, description=f"Of strings: those of most items first, at most {MAX_VALUES}."
    )
    distinct: int | None = Field(None, description="Of strings: how many different values there are.")
    low: float | None = Field(None, description="Of numbers: the least.")
    high: float | None = Field(None, description="Of numbers: the greatest.")


class FieldsResponse(BaseModel):
    """The item fields by name."""

    bundle: str
    fields: dict[str, FieldSummary]


class MapResponse(BaseModel):
    """A sample of the items in two dimensions, column by column; near points have near vectors."""

    bundle: str
    method: str
    item_id: list[str]
    title: list[str | None]
    x: list[float] = Field(description="-1 .. 1")
    y: list[float] = Field(description="-1 .. 1")
    value: list[Any] | None = Field(description="The values of the field that was asked for.")
