"""Which strings of an address clients hash."""

from identity_server.matrix.threepid import Threepid


def spellings(threepid: Threepid, spelling: str | None) -> tuple[str, ...]:
    """Every way in which clients write the address before they hash it: case-folded, and only lower-cased."""
    return (threepid.address,) if spelling is None else (threepid.address, spelling)
