"""A user's push rules as a value: the predefined ones, and what the user has made of them ("Push Rules")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from identity_server.homeserver.push.default_rules import (
    MASTER,
    Rule,
    default_override_rules,
    default_underride_rules,
)
from identity_server.matrix.errors import InvalidParam, MatrixError, NotFound

KINDS = ("override", "content", "room", "sender", "underride")
"""In the order in which they are checked."""

_CONDITIONAL = frozenset({"override", "underride"})
_MOST_RULES = 1_000


class UnknownRule(MatrixError):
    """The rule that another one is to stand before or after (400)."""


@dataclass(frozen=True)
class Customised:
    """``defined``: the user's own rules by kind, the most important first.

    ``enabled`` and ``actions``: by rule ID, what is otherwise with predefined rules.
    """

    defined: Mapping[str, Sequence[Rule]] = field(default_factory=dict)
    enabled: Mapping[str, bool] = field(default_factory=dict)
    actions: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"defined": dict(self.defined), "enabled": dict(self.enabled), "actions": dict(self.actions)}

    def of(self, kind: str) -> list[Rule]:
        return list(self.defined.get(kind, ()))

    def put(self, kind: str, rule: Rule, *, before: str | None = None, after: str | None = None) -> "Customised":
        """With ``rule`` added, or changed; a new one is the most important unless its place is given.

        Raises ``UnknownRule`` if there is no rule ``before`` or ``after``.
        """
        rules = self.of(kind)
        known = next((at for at, other in enumerate(rules) if other["rule_id"] == rule["rule_id"]), None)
        if known is not None:
            rule = {**rule, "enabled": rules[known]["enabled"]}
            del rules[known]
        elif len(rules) >= _MOST_RULES:
            raise InvalidParam("There are too many rules")
        if before is not None:
            place = _place(rules, before)
        elif after is not None:
            place = _place(rules, after) + 1
        else:
            place = known or 0
        return self._with(kind, [*rules[:place], rule, *rules[place:]])

    def remove(self, kind: str, rule_id: str) -> "Customised":
        """Raises ``NotFound``."""
        rules = self.of(kind)
        left = [rule for rule in rules if rule["rule_id"] != rule_id]
        if len(left) == len(rules):
            raise NotFound("The push rule was not found")
        return self._with(kind, left)

    def change(self, kind: str, rule_id: str, user_id: str, name: str, value: Any) -> "Customised":
        """With ``enabled`` or ``actions`` (``name``) of any rule set to ``value``. Raises ``NotFound``."""
        find_rule(self, user_id, kind, rule_id)
        if rule_id.startswith("."):
            if name == "enabled":
                return replace(self, enabled={**self.enabled, rule_id: value})
            return replace(self, actions={**self.actions, rule_id: value})
        changed = [{**rule, name: value} if rule["rule_id"] == rule_id else rule for rule in self.of(kind)]
        return self._with(kind, changed)

    def _with(self, kind: str, rules: Sequence[Rule]) -> "Customised":
        return replace(self, defined={**self.defined, kind: rules})


def ruleset(customised: Customised, user_id: str) -> dict[str, list[Rule]]:
    """All rules by kind, the most important first: the global ruleset that clients are shown."""
    master, *overrides = (_customise(rule, customised) for rule in default_override_rules(user_id))
    underrides = [_customise(rule, customised) for rule in default_underride_rules()]
    rules = {kind: customised.of(kind) for kind in KINDS}
    rules["override"] = [master, *rules["override"], *overrides]
    rules["underride"] += underrides
    assert master["rule_id"] == MASTER
    return rules


def find_rule(customised: Customised, user_id: str, kind: str, rule_id: str) -> Rule:
    """Raises ``NotFound``."""
    for rule in ruleset(customised, user_id).get(kind, ()):
        if rule["rule_id"] == rule_id:
            return rule
    raise NotFound("The push rule was not found")


def new_rule(kind: str, rule_id: str, actions: Sequence[Any], conditions: Any, pattern: str | None) -> Rule:
    """A rule of the user's own, enabled. Raises ``InvalidParam``."""
    if rule_id.startswith(".") or "/" in rule_id or "\\" in rule_id or not rule_id:
        raise InvalidParam("rule_id begins with no dot and contains no slashes")
    # A room rule is called as the room; one that is not, such as by an alias, matches nothing and harms nobody.
    if kind == "sender" and not rule_id.startswith("@"):
        raise InvalidParam("A sender rule is called as the user")
    rule: dict[str, Any] = {"rule_id": rule_id, "default": False, "enabled": True, "actions": list(actions)}
    if kind in _CONDITIONAL:
        rule["conditions"] = conditions or []
    if kind == "content":
        if pattern is None:
            raise InvalidParam("A content rule has a pattern")
        rule["pattern"] = pattern
    return rule


def check_actions(actions: Any) -> list[Any]:
    """Raises ``InvalidParam``. What means nothing any more ("Historical Actions") is kept as it came, and does nothing:
    clients compare what they set with what they get."""
    if not isinstance(actions, list):
        raise InvalidParam("actions is a list")
    for action in actions:
        is_tweak = isinstance(action, dict) and isinstance(action.get("set_tweak"), str)
        if not is_tweak and action not in ("notify", "dont_notify", "coalesce"):
            raise InvalidParam("There is no such action")
    return actions


def check_conditions(conditions: Any) -> list[Any]:
    """Raises ``InvalidParam``. Conditions of an unknown kind may be kept; they match nothing."""
    if not isinstance(conditions, list) or not all(
        isinstance(condition, dict) and isinstance(condition.get("kind"), str) for condition in conditions
    ):
        raise InvalidParam("conditions is a list of objects that have a kind")
    return conditions


def _customise(rule: Rule, customised: Customised) -> Rule:
    rule_id = rule["rule_id"]
    return {
        **rule,
        "enabled": customised.enabled.get(rule_id, rule["enabled"]),
        "actions": list(customised.actions.get(rule_id, rule["actions"])),
    }


def _place(rules: Sequence[Rule], rule_id: str) -> int:
    for place, rule in enumerate(rules):
        if rule["rule_id"] == rule_id:
            return place
    raise UnknownRule(f"before/after rule not found: {rule_id}")
