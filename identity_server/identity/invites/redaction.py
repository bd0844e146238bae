"""What a room may see of an invitee's address (Identity Service API, POST /store-invite: "does not leak")."""

from identity_server.matrix.threepid import EMAIL, Threepid


def redacted(threepid: Threepid) -> str:
    """`f...@b...` of an email address, `+44...01` of a phone number."""
    if threepid.medium == EMAIL:
        local_part, _, domain = threepid.address.partition("@")
        return f"{local_part[:1]}...@{domain[:1]}..."
    return f"+{threepid.address[:2]}...{threepid.address[-2:]}"
