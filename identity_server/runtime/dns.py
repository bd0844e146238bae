"""SRV records from the DNS."""

from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

from identity_server.matrix.discovery import SrvRecord

_TIMEOUT_SECONDS = 5.0
_MAX_CACHED = 10_000


class Dns:
    """A stub resolver that keeps what it learns for as long as the records live.

    ``nameserver``: an address and a port to ask instead of those that the system is configured with.
    """

    def __init__(self, nameserver: tuple[str, int] | None = None) -> None:
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=nameserver is None)
        except dns.resolver.NoResolverConfiguration:
            # Names may still be found in the hosts file; SRV records then there are none.
            self._resolver = dns.asyncresolver.Resolver(configure=False)
        if nameserver is not None:
            address, self._resolver.port = nameserver
            self._resolver.nameservers = [address]
        self._resolver.cache = dns.resolver.LRUCache(_MAX_CACHED)
        self._resolver.lifetime = _TIMEOUT_SECONDS

    async def srv(self, name: str) -> Sequence[SrvRecord]:
        """The SRV records of ``name``, in no order; none too if the DNS does not answer properly.

        That leads to the port that is tried without a record, on a server whose certificate is checked the same.
        """
        try:
            answer = await self._resolver.resolve(f"{name.removesuffix('.')}.", dns.rdatatype.SRV)
        except (dns.exception.DNSException, UnicodeError, OSError):
            return ()
        return [
            SrvRecord(record.priority, record.weight, record.port, record.target.to_text(omit_final_dot=True))
            for record in answer
        ]
