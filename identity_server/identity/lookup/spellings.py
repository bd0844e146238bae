"""Which strings of an address clients hash."""


def spellings(address: str, spelling: str | None) -> tuple[str, ...]:
    """Every way in which clients write the address before they hash it: case-folded, and only lower-cased."""
    return (address,) if spelling is None else (address, spelling)
