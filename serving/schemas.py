"""The requests and responses of the HTTP API. Responses are documented by these types and written without them."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from serving import filter_schema

MAX_HISTORY = 10_000
MAX_EXCLUDE = 10_000
MAX_FIELDS = 100
MAX_REQUESTS = 256
MAX_EVENTS = 1000
K = "Items to return, at most `max_k` of GET /v1/bundle; absent: 50, or `max_k` where that is fewer."
MAX_INTEGER = 2**31 - 1
MAX_SECONDS = 2**40

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


Filter = Annotated[dict[str, Any], WithJsonSchema({"$ref": filter_schema.REF})]
JsonFilter = Annotated[Json[dict[str, Any]], WithJsonSchema({"type": "string", "contentMediaType": "application/json"})]


class Request(BaseModel):
    """Refuses unknown keys and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _some(max_length: int, description: str) -> Any:
    """A list that is empty by default. As a default value, pydantic would make a deep copy of it for every request."""
    return Field(
        default_factory=list, max_length=max_length, description=description, json_schema_extra={"default": []}
    )


Which = Annotated[
    Literal["served", "compare"],
    Field(description="Which bundle to ask: the one that is served, or the one of `twotower serve --compare`."),
]


class BundleParams(Request):
    """The query of a request about a bundle."""

    model_config = ConfigDict(extra="forbid", strict=False)

    bundle: Which = "served"


class Asked(Request):
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
    k: int = Field(50, ge=1, le=MAX_INTEGER, description=K)
    exclude_seen: bool = Field(True, description="Leave out the items of the history.")
    exclude: list[Id] = _some(max_length=MAX_EXCLUDE, description="Item ids to leave out.")
    filter: Filter | None = Field(None, description="What the items must fulfil.")
    fields: list[Text] = _some(max_length=MAX_FIELDS, description="Item fields to return with each item.")
    titles: bool = Field(True, description="Return the items' titles; ids and scores alone are half of the bytes.")


class RecommendRequest(Asked):
    """Whom to recommend to, and from which bundle."""

    bundle: Which = "served"


class BatchRequest(Request):
    """Several requests, answered together."""

    bundle: Which = "served"
    requests: list[Asked] = Field(min_length=1, max_length=MAX_REQUESTS)


class SimilarParams(BundleParams):
    """The query of a request for similar items."""

    kind: Literal["embedding", "session", "title"] = Field(
        "embedding",
        description="By what they are near: the vectors of the model, sessions that hold both, or their titles. Of "
        "sessions and titles a bundle lists a few for each item, so fewer than k may pass.",
    )
    k: int = Field(50, ge=1, le=MAX_INTEGER, description=K)
    field: list[Text] = Field([], max_length=MAX_FIELDS, description="An item field to return; may be repeated.")
    exclude: list[Id] = Field([], max_length=MAX_EXCLUDE, description="An item to leave out; may be repeated.")
    filter: JsonFilter | None = Field(None, description="What the items must fulfil: a filter, as JSON text.")


class UserParams(BundleParams):
    """The query of a request for a user."""

    recent: int = Field(20, ge=0, le=1000, description="How many of the most recent items to return.")


class Event(Request):
    """A user's click on an item."""

    user_id: Id
    item_id: Id
    timestamp: Number | None = Field(None, ge=0, le=MAX_SECONDS, description="Unix seconds; absent: now.")


class EventsRequest(Request):
    """What users did since the bundle was made, oldest first."""

    events: list[Event] = Field(min_length=1, max_length=MAX_EVENTS)


class Item(BaseModel):
    """An item in a list. `title` is there unless it was asked not to be, `fields` when fields were asked for."""

    item_id: str
    title: str | None = None
    score: float
    fields: dict[str, Any] | None = None


class RecommendResponse(BaseModel):
    """The best items, best first; fewer than k only when fewer are allowed."""

    bundle: str = Field(description="The run id of the bundle that answered.")
    known_user: bool
    history_length: int = Field(description="Known items taken as history; the tower reads the most recent ones.")
    fresh: int = Field(description="How many of these came by POST /v1/events and are newer than the bundle.")
    ignored: dict[str, list[str]] = Field(description="Ids the bundle does not know, by part of the request.")
    items: list[Item]


class BatchResult(BaseModel):
    """The answer to one request of a batch: `items` and what belongs to them, or `error`."""

    known_user: bool | None = None
    history_length: int | None = None
    fresh: int | None = None
    ignored: dict[str, list[str]] | None = None
    items: list[Item] | None = None
    error: "Error | None" = None


class BatchResponse(BaseModel):
    """The answers in the order of the requests."""

    bundle: str
    results: list[BatchResult]


class SimilarResponse(BaseModel):
    """The items nearest to the item, best first. Scores are cosines, or the number of sessions shared."""

    bundle: str
    item_id: str
    kind: str
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


class Reload(BaseModel):
    """What became of the last attempt to take another bundle into service, by the worker that answered."""

    state: Literal["none", "done", "failed"]
    run: str | None = Field(description="The bundle it was about.")
    error: str | None = Field(description="Why it failed; the bundle before is still served.")


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
    neighbours: list[str] = Field(description="The kinds of similar items that can be asked for.")
    map_items: int = Field(description="Items on the map; 0: there is none.")
    compare: bool = Field(description="Whether there is a second bundle to compare with.")
    max_k: int
    counts: dict[str, Any]
    reload: Reload


class HealthResponse(BaseModel):
    """The process runs."""

    status: Literal["ok"]


class ReadyResponse(BaseModel):
    """The server has a bundle and room for requests."""

    status: Literal["ready"]
    bundle: str


class ReloadResponse(BaseModel):
    """The worker that answered serves this bundle; the others were told to look as well."""

    bundle: str
    changed: bool
    error: str | None = Field(description="Why the published bundle cannot be served; the one before still is.")


class EventsResponse(BaseModel):
    """The events are kept: the next request for these users sees them."""

    accepted: int
    unknown_items: list[str] = Field(description="Items this bundle does not know. They are kept for one that does.")


class Error(BaseModel):
    """What was wrong with the request."""

    code: str
    message: str


class ErrorResponse(BaseModel):
    """Every answer but the good ones."""

    error: Error
