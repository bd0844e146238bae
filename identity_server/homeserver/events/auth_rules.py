"""The authorisation rules ("Authorisation rules" of the room versions).

Comments and errors give the numbers of room version 12. Before, there is no rule 2, so that its rule 3 is their rule 2
and so on; until version 9 there are no 10.1 and 10.2, until version 7 no 5.2.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from identity_server.homeserver.events.event import CREATE, JOIN_RULES, POWER_LEVELS, Event, StateKey, member
from identity_server.homeserver.events.format import is_user_id
from identity_server.homeserver.events.power_levels import PowerLevels, creators
from identity_server.homeserver.events.power_rules import check_power_levels
from identity_server.homeserver.events.refusal import NotAllowed, require
from identity_server.homeserver.events.signatures import AUTHORISED_VIA, is_signed_by_any
from identity_server.homeserver.events.versions import VERSIONS, RoomVersion
from identity_server.matrix.identifiers import domain_of

__all__ = ["NotAllowed", "auth_keys", "authorise", "check_auth_events"]

State = Mapping[StateKey, Event]


def auth_keys(
    event_type: str, sender: str, state_key: str | None, content: Mapping[str, Any], version: RoomVersion
) -> set[StateKey]:
    """Which of the state belongs into ``auth_events`` (Server-Server API, "Auth events selection")."""
    if event_type == "m.room.create":
        return set()
    keys = {POWER_LEVELS, member(sender)}
    if not version.room_id_is_create_event_id:
        keys.add(CREATE)
    if event_type == "m.room.member" and state_key is not None:
        keys.add(member(state_key))
        keys.update(_membership_keys(content, version))
    return keys


def _membership_keys(content: Mapping[str, Any], version: RoomVersion) -> Iterator[StateKey]:
    membership = content.get("membership")
    if membership in ("join", "invite", "knock"):
        yield JOIN_RULES
    if membership == "invite":
        token = _signed(content.get("third_party_invite")).get("token")
        if isinstance(token, str):
            yield ("m.room.third_party_invite", token)
    authoriser = content.get(AUTHORISED_VIA)
    if membership == "join" and version.restricted_joins and isinstance(authoriser, str):
        yield member(authoriser)


def check_auth_events(event: Event, auth_events: Sequence[Event], rejected: Container[str] = ()) -> None:
    """Rule 3: ``auth_events`` are all those that ``event`` cites, ``rejected`` holds IDs. Raises ``NotAllowed``."""
    if event.type == "m.room.create":
        return
    permitted = auth_keys(event.type, event.sender, event.state_key, event.content, event.version)
    seen: set[StateKey] = set()
    for auth_event in auth_events:
        require("3.2", auth_event.is_state and auth_event.key in permitted, "it cites an event that has no say")
        require("3.1", auth_event.key not in seen, "it cites two events of the same key")
        seen.add(auth_event.key)
        is_rejected = auth_event.rejected or auth_event.event_id in rejected
        require("3.3", not is_rejected, "it cites an event that was rejected")
        require("3.5", auth_event.room_id == event.room_id, "it cites an event of another room")
    require("3.4", event.version.room_id_is_create_event_id or CREATE in seen, "it does not cite m.room.create")


def authorise(event: Event, state: State) -> None:
    """All rules but the third, against the state before the event, of which it may lack what ``auth_keys`` leaves out.

    ``m.room.create`` has to be in the state in any room version. Raises ``NotAllowed``.
    """
    if event.type == "m.room.create":
        return _check_create(event)  # 1
    create = state.get(CREATE)
    if create is None:
        raise NotAllowed("3.4", "the room has no m.room.create")
    require("2", create.room_id == event.room_id and not create.rejected, "the room is not m.room.create's")
    if create.content.get("m.federate") is False:
        require("4", event.sender_server == create.sender_server, "the room is not federated")
    levels = PowerLevels(create, state.get(POWER_LEVELS))
    if event.type == "m.room.member":
        return _check_membership(event, state, create, levels)  # 5
    require("6", _membership(state, event.sender) == "join", "the sender is not in the room")
    power = levels.of(event.sender)
    if event.type == "m.room.third_party_invite":
        return require("7", power >= levels.invite, "the sender may not invite")
    needed = levels.needed_for(event.type, event.is_state)
    require("8", power >= needed, f"{event.type} requires a power level of {needed}")
    of_another = (event.state_key or "").startswith("@") and event.state_key != event.sender
    require("9", not of_another, "the state is another user's")
    if event.type == "m.room.power_levels":
        check_power_levels(event, create, state.get(POWER_LEVELS), power)  # 10
    return None  # 11


def _check_create(event: Event) -> None:
    require("1.1", not event.prev_events, "m.room.create has predecessors")
    if event.version.room_id_is_create_event_id:
        require("1.2", "room_id" not in event.pdu, "m.room.create bears a room ID")
    else:
        require("1.2", _domain(event.room_id) == event.sender_server, "the room ID is of another server's domain")
    stated = event.content.get("room_version", event.version.identifier)
    require("1.3", isinstance(stated, str) and stated in VERSIONS, "the room version is not supported")
    if event.version.privileged_creators:
        additional = event.content.get("additional_creators", [])
        all_users = isinstance(additional, list) and all(is_user_id(user_id) for user_id in additional)
        require("1.4", all_users, "additional_creators are no list of user IDs")
    elif event.version.creator_in_content:
        require("1.4", "creator" in event.content, "m.room.create names no creator")


def _check_membership(event: Event, state: State, create: Event, levels: PowerLevels) -> None:
    target = event.state_key
    if target is None or event.membership is None:
        raise NotAllowed("5.1", "it has no state key or no membership")
    if event.version.restricted_joins and AUTHORISED_VIA in event.content:
        # Whether the signature holds is checked where keys are known: `required_signers` names the server.
        authoriser = event.content[AUTHORISED_VIA]
        signed = is_user_id(authoriser) and bool(event.pdu["signatures"].get(domain_of(authoriser)))
        require("5.2", signed, "the authorising server has not signed it")
    match event.membership:
        case "join":
            _check_join(event, target, state, create, levels)  # 5.3
        case "invite" if "third_party_invite" in event.content:
            _check_third_party_invite(event, target, state)  # 5.4.1
        case "invite":
            _check_invite(event, target, state, levels)  # 5.4
        case "leave":
            _check_leave(event, target, state, levels)  # 5.5
        case "ban":
            _check_ban(event, target, state, levels)  # 5.6
        case "knock" if event.version.knocking:
            _check_knock(event, target, state)  # 5.7
        case _:
            raise NotAllowed("5.8", "the membership is unknown")


def _check_join(event: Event, target: str, state: State, create: Event, levels: PowerLevels) -> None:
    first = event.prev_events == (create.event_id,)
    if first and target in (creators(create) if event.version.creator_in_content else {create.sender}):
        return  # 5.3.1
    require("5.3.2", event.sender == target, "users join only by themselves")
    membership = _membership(state, target)
    require("5.3.3", membership != "ban", "the user is banned from the room")
    join_rule = _join_rule(state)
    if join_rule == "public":
        return  # 5.3.6
    restricted = _is(join_rule, "restricted", event.version.restricted_joins) or _is(
        join_rule, "knock_restricted", event.version.knock_restricted_joins
    )
    if join_rule == "invite" or _is(join_rule, "knock", event.version.knocking):
        require("5.3.4", membership in ("invite", "join"), "the user is not invited to the room")
    elif restricted and membership not in ("invite", "join"):
        authoriser = event.content.get(AUTHORISED_VIA)
        if not isinstance(authoriser, str) or _membership(state, authoriser) != "join":
            raise NotAllowed("5.3.5.2", "nobody in the room has let the user in")
        require("5.3.5.2", levels.of(authoriser) >= levels.invite, "who let the user in may not invite")
    else:
        require("5.3.7", restricted, "the join rule lets nobody in")


def _check_third_party_invite(event: Event, target: str, state: State) -> None:
    require("5.4.1.1", _membership(state, target) != "ban", "the user is banned from the room")
    third_party_invite = event.content["third_party_invite"]
    has_signed = isinstance(third_party_invite, Mapping) and isinstance(third_party_invite.get("signed"), Mapping)
    require("5.4.1.2", has_signed, "the invitation of a third party is not signed")
    signed = _signed(third_party_invite)
    token = signed.get("token")
    if "mxid" not in signed or not isinstance(token, str):
        raise NotAllowed("5.4.1.3", "the invitation lacks mxid or token")
    require("5.4.1.4", signed["mxid"] == target, "the invitation is for another user")
    invite = state.get(("m.room.third_party_invite", token))
    if invite is None:
        raise NotAllowed("5.4.1.5", "the room knows of no such invitation")
    require("5.4.1.6", event.sender == invite.sender, "the sender is not who invited")
    require("5.4.1.7", is_signed_by_any(signed, _public_keys(invite)), "no signature on the invitation holds")


def _check_invite(event: Event, target: str, state: State, levels: PowerLevels) -> None:
    require("5.4.2", _membership(state, event.sender) == "join", "the sender is not in the room")
    membership = _membership(state, target)
    require("5.4.3", membership not in ("join", "ban"), "the user is in the room, or banned from it")
    require("5.4.5", levels.of(event.sender) >= levels.invite, "the sender may not invite")


def _check_leave(event: Event, target: str, state: State, levels: PowerLevels) -> None:
    membership = _membership(state, target)
    if event.sender == target:
        may_leave = membership in ("invite", "join") or _is(membership, "knock", event.version.knocking)
        return require("5.5.1", may_leave, "the user is not in the room")
    require("5.5.2", _membership(state, event.sender) == "join", "the sender is not in the room")
    power = levels.of(event.sender)
    require("5.5.3", membership != "ban" or power >= levels.ban, "the sender may not unban")
    return require("5.5.5", power >= levels.kick and levels.of(target) < power, "the sender may not kick the user")


def _check_ban(event: Event, target: str, state: State, levels: PowerLevels) -> None:
    require("5.6.1", _membership(state, event.sender) == "join", "the sender is not in the room")
    power = levels.of(event.sender)
    require("5.6.3", power >= levels.ban and levels.of(target) < power, "the sender may not ban the user")


def _check_knock(event: Event, target: str, state: State) -> None:
    join_rule = _join_rule(state)
    may_knock = join_rule == "knock" or _is(join_rule, "knock_restricted", event.version.knock_restricted_joins)
    require("5.7.1", may_knock, "the join rule does not let users knock")
    require("5.7.2", event.sender == target, "users knock only by themselves")
    membership = _membership(state, target)
    require("5.7.4", membership not in ("ban", "invite", "join"), "the user is in the room, invited or banned")


def _membership(state: State, user_id: str) -> str:
    event = state.get(member(user_id))
    return (event.membership if event else None) or "leave"


def _join_rule(state: State) -> Any:
    event = state.get(JOIN_RULES)
    return event.content.get("join_rule", "invite") if event else "invite"


def _is(value: Any, name: str, exists: bool) -> bool:
    """Whether ``value`` is ``name``, if the room version has such a thing at all."""
    return exists and bool(value == name)


def _signed(third_party_invite: Any) -> Mapping[str, Any]:
    signed = third_party_invite.get("signed") if isinstance(third_party_invite, Mapping) else None
    return signed if isinstance(signed, Mapping) else {}


def _public_keys(invite: Event) -> Iterator[Any]:
    yield invite.content.get("public_key")
    several = invite.content.get("public_keys")
    for named in several if isinstance(several, list) else ():
        if isinstance(named, Mapping):
            yield named.get("public_key")


def _domain(identifier: str) -> str | None:
    return identifier.partition(":")[2] or None
