import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unpaddedbase64 import decode_base64

from identity_server.identity.associations import merkle, store
from identity_server.identity.associations.merkle import KEPT_LEVELS, Node, Peaks, leaf_hash, node_hash
from identity_server.identity.associations.statement import Statement, entry_nonce, log_entry
from identity_server.identity.associations.tree import consistency_proof, inclusion_proof
from identity_server.matrix.canonical_json import canonical_json
from identity_server.matrix.threepid import Threepid
from tests.identity.test_transfer import LINES, imported
from tests.world import IdentityServer

# RFC 6962's reference leaves and the roots of the trees that they make, as other implementations have them.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def mth(entries: list[bytes]) -> bytes:
    """MTH, word for word (RFC 6962, section 2.1)."""
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return leaf_hash(entries[0])
    half = 1 << ((len(entries) - 1).bit_length() - 1)
    return node_hash(mth(entries[:half]), mth(entries[half:]))


class InMemory:
    """The subtrees of a list, for the proofs to read."""

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries

    async def range_root(self, start: int, end: int) -> bytes:
        return mth(self.entries[start:end])


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_reference_leaves(size: int) -> None:
    assert Peaks().extended(LEAVES[:size])[0].root.hex() == ROOTS[size - 1]


@given(st.lists(st.binary(max_size=8), max_size=600), st.integers(1, 50))
def test_a_tree_that_grew_in_any_steps_has_the_root_of_the_definition(entries: list[bytes], step: int) -> None:
    peaks, nodes = Peaks(), list[Node]()
    for start in range(0, len(entries), step):
        peaks, completed = peaks.extended(entries[start : start + step])
        nodes += completed
    assert (peaks.size, peaks.root) == (len(entries), mth(entries))
    assert Peaks.from_bytes(peaks.size, peaks.to_bytes()) == peaks
    for node in nodes:
        assert node.level in KEPT_LEVELS
        assert node.hash == mth(entries[node.number << node.level : (node.number + 1) << node.level])


def root_by_inclusion(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The verifier's side (RFC 9162, section 2.1.3.2)."""
    fn, sn, root = index, size - 1, leaf
    for hash_ in path:
        assert sn > 0
        if fn & 1 or fn == sn:
            root = node_hash(hash_, root)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            root = node_hash(root, hash_)
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    return root


@given(
    st.binary(max_size=40),
    st.integers(0, 2**53 - 1),
    st.sampled_from([None, "@a:hs.test", '@ü"\\\x01:hs.test']),
    st.text(max_size=20),
)
def test_an_entry_is_made_as_the_protocol_says(secret: bytes, number: int, user_id: str | None, address: str) -> None:
    """However quickly: canonical JSON, and a nonce by HMAC."""
    said = Statement(Threepid("email", address), user_id, number, None if user_id is None else number, -number)
    nonce = hmac.digest(secret, number.to_bytes(8), hashlib.sha256)[:16]
    assert entry_nonce(secret, number) == nonce
    statement = canonical_json({**said.as_json(), "origin": "is.test", "position": number})
    assert log_entry("is.test", number, said, nonce) == hashlib.sha256(nonce + statement).digest()


@given(st.integers(1, 60), st.data())
async def test_proofs_convince_whoever_checks_them(size: int, data: st.DataObject) -> None:
    entries = [bytes([number]) for number in range(size)]
    index, first = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    path = await inclusion_proof(InMemory(entries), index, size)
    assert root_by_inclusion(leaf_hash(entries[index]), index, size, path) == mth(entries)
    path = await consistency_proof(InMemory(entries), first, size)
    assert merkle.is_consistent(first, size, mth(entries[:first]), mth(entries), path)


@given(st.integers(1, 40), st.data())
async def test_a_proof_that_was_changed_convinces_nobody(size: int, data: st.DataObject) -> None:
    entries = [bytes([number]) for number in range(size)]
    first = data.draw(st.integers(1, size))
    proof = await consistency_proof(InMemory(entries), first, size)
    old, new = mth(entries[:first]), mth(entries)
    assert merkle.is_consistent(first, size, old, new, proof)
    other = [*entries[: first - 1], b"another", *entries[first:]]
    assert not merkle.is_consistent(first, size, mth(other[:first]), new, proof)
    assert not merkle.is_consistent(first, size, old, mth([*other, b"more"]), proof)
    assert not merkle.is_consistent(first, size, old, new, [*proof, bytes(32)])
    if proof:
        spoiled = data.draw(st.integers(0, len(proof) - 1))
        assert not merkle.is_consistent(first, size, old, new, proof[:spoiled] + proof[spoiled + 1 :])
        assert not merkle.is_consistent(first, size, old, new, [*proof[:spoiled], bytes(32), *proof[spoiled + 1 :]])


async def test_the_server_proves_its_log_from_what_it_stores(server: IdentityServer) -> None:
    await imported(server, LINES)
    url = "/_matrix/identity/io.identity_server/replication"
    head = (await server.client.get(f"{url}/head")).json()
    size = head["tree_size"]
    async with server.database.reading() as session:
        secret = (await store.head(session)).secret
        rows = await store.log_page(session, after=0, limit=size)
    entries = [log_entry("is.test", row.position, row.statement, entry_nonce(secret, row.position)) for row in rows]
    assert decode_base64(head["root_hash"]) == mth(entries)
    for position in (1, 256, 257, 400, size):
        params = {"position": position, "tree_size": size}
        path = (await server.client.get(f"{url}/proof/inclusion", params=params)).json()["path"]
        leaf = leaf_hash(entries[position - 1])
        assert root_by_inclusion(leaf, position - 1, size, [decode_base64(step) for step in path]) == mth(entries)
    for first in (1, 255, 256, 300, size):
        params = {"first": first, "second": size}
        path = (await server.client.get(f"{url}/proof/consistency", params=params)).json()["path"]
        proof = [decode_base64(step) for step in path]
        assert merkle.is_consistent(first, size, mth(entries[:first]), mth(entries), proof)
    answer = await server.client.get(f"{url}/proof/inclusion", params={"position": size + 1, "tree_size": size + 1})
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_INVALID_PARAM")
