"""The requests and responses of the HTTP API. Responses are documented by these types and written without them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

MAX_HISTORY = 10_000
MAX_EXCLUDE = 10_000
MAX_FIELDS = 100

Id = Annotated[str, Field(min_length=1, max_length=2048)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=2048)]


def _one_message(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """One sentence for a value that fits no member of the union, in place of one for each member."""
    try:
        return validate(value)
    except ValidationError:
        expected = "Input should be a string, a finite number, a list of strings or null"
        raise PydanticCustomError("feature_value", expected) from None


Value = Annotated[
    Text | int | Number | Annotated[list[Text], Field(max_length=1000)] | None, WrapValidator(_one_message)
]


class Request(BaseModel):
    """Refuses unknown keys and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RecommendRequest(Request):
    """Whom to recommend to: a known user, or anybody by history and features, or both."""

    user_id: Id | None = Field(None, description="A user; an unknown one needs `history` or `features` beside it.")
    history: Annotated[list[Id], Field(max_length=MAX_HISTORY)] | None = Field(
        None,
        description="Item ids, oldest first, appended to the known user's own. Unknown ids are ignored and reported. "
        "An empty list is a cold user.",
    )
    features: dict[Text, Value] | None = Field(
        None, description="Values by user field; they replace the known user's own. Absent or null: missing."
    )
    k: int = Field(50, ge=1, description="Items to return, at most `max_k` of GET /v1/bundle.")
    exclude_seen: bool = Field(True, description="Leave out the items of the history.")
    exclude: list[Id] = Field([], max_length=MAX_EXCLUDE, description="Item ids to leave out.")
    fields: list[Text] = Field([], max_length=MAX_FIELDS, description="Item fields to return with each item.")


class Item(BaseModel):
    """An item in a list. `fields` is there when fields were asked for."""

    item_id: str
    title: str | None
    score: float
    fields: dict[str, Any] | None = None


class RecommendResponse(BaseModel):
    """The best items, best first; fewer than k only when fewer are allowed."""

    bundle: str = Field(description="The run id of the bundle that answered.")
    known_user: bool
    history_length: int = Field(description="Known items taken as history; the tower reads the most recent ones.")
    ignored: dict[str, list[str]] = Field(description="Ids the bundle does not know, by part of the request.")
    items: list[Item]


class SimilarResponse(BaseModel):
    """The items of highest cosine with the item, best first."""

    bundle: str
    item_id: str
    items: list[Item]


class ItemResponse(BaseModel):
    """All that the bundle knows of an item."""

    item_id: str
    title: str | None
    fields: dict[str, Any]
    train_events: int
    indexed: bool = Field(description="Whether it can be retrieved.")


class SeenItem(BaseModel):
    """An item of a history."""

    item_id: str
    title: str | None


class UserResponse(BaseModel):
    """All that the bundle knows of a user."""

    user_id: str
    fields: dict[str, Any]
    history_length: int
    recent: list[SeenItem] = Field(description="The most recent items, oldest first.")


class BundleResponse(BaseModel):
    """What the bundle is."""

    run: str
    created: str
    code: str
    items: int
    indexed_items: int
    users: int
    history_length: int
    user_features: dict[str, str] = Field(description="The user fields the tower reads, and their kinds.")
    item_fields: list[str]
    max_k: int
    counts: dict[str, Any]


class HealthResponse(BaseModel):
    """The server runs and has a bundle."""

    status: str
    bundle: str


class Error(BaseModel):
    """What was wrong with the request."""

    code: str
    message: str


class ErrorResponse(BaseModel):
    """Every 4xx answer."""

    error: Error
