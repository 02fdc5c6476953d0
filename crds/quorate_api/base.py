"""What every kind of the API shares: the model base, object metadata, conditions.

Reading is lenient (unknown fields are ignored: an older controller must survive a newer object); strictness for people
comes from the API server's structural schema and `fieldValidation: Strict`.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "quorate.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "quorate"


class Column(NamedTuple):
    """One printer column of `kubectl get`; `wide` columns show with `-o wide` only."""

    name: str
    type: Literal["string", "integer", "boolean", "date"]
    path: str
    description: str
    wide: bool = False


AGE = Column("Age", "date", ".metadata.creationTimestamp", "Time since creation.")


def rule(expression: str, message: str, *, field: str | None = None) -> dict[str, Any]:
    """One CEL rule as `json_schema_extra` of a field or model; a refusal points at `field` (a path below the place of the rule)."""
    validation = {"rule": expression, "message": message, "reason": "FieldValueInvalid"}
    if field is not None:
        validation["fieldPath"] = field
    return {"x-kubernetes-validations": [validation]}


def rules(*each: dict[str, Any]) -> dict[str, Any]:
    """Several rules as one `json_schema_extra`."""
    return {"x-kubernetes-validations": [validation for one in each for validation in one["x-kubernetes-validations"]]}


class ApiModel(BaseModel):
    """Base of every API object: camelCase outside, snake_case inside, frozen."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", use_enum_values=False)

    def to_json(self) -> dict[str, Any]:
        """JSON as the API server stores it: camelCase, unset fields left out, times in RFC 3339."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OwnerReference(ApiModel):
    """The part of an owner reference that Quorate reads and writes."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(ApiModel):
    """The part of object metadata that Quorate reads."""

    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: list[OwnerReference] = Field(default_factory=list)
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


class Condition(ApiModel):
    """A standard Kubernetes condition."""

    type: Annotated[str, Field(max_length=64, description="Name of the condition, CamelCase.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="Whether it holds.")]
    reason: Annotated[str, Field(max_length=128, description="One CamelCase word that says why.")]
    message: Annotated[str, Field(max_length=4096, description="One sentence for people, with numbers.")] = ""
    last_transition_time: Annotated[datetime, Field(description="When the status last changed.")]
    observed_generation: Annotated[int | None, Field(ge=0, description="The generation of the object this was decided on.")] = None


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        description="Standard conditions, one of each type.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class LabelSelectorRequirement(ApiModel):
    """One requirement of a label selector."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "In and NotIn need values; Exists and DoesNotExist take none",
            field=".values",
        )
    )

    key: Annotated[str, Field(min_length=1, max_length=317, description="Label key.")]
    operator: Annotated[Literal["In", "NotIn", "Exists", "DoesNotExist"], Field(description="How key and values relate.")]
    values: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=64, description="Values for In and NotIn.")] = Field(
        default_factory=list
    )


class LabelSelector(ApiModel):
    """A standard label selector."""

    match_labels: Annotated[dict[str, str], Field(max_length=64, description="Labels that must be present with these values.")] = Field(
        default_factory=dict
    )
    match_expressions: Annotated[
        list[LabelSelectorRequirement], Field(max_length=32, description="Further requirements; all must hold.")
    ] = Field(default_factory=list)

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether an object with these labels is selected (an empty selector selects everything)."""
        if any(labels.get(k) != v for k, v in self.match_labels.items()):
            return False
        for req in self.match_expressions:
            present = req.key in labels
            holds = {
                "In": present and labels.get(req.key) in req.values,
                "NotIn": not present or labels.get(req.key) not in req.values,
                "Exists": present,
                "DoesNotExist": not present,
            }[req.operator]
            if not holds:
                return False
        return True
