"""What is one address, however it is written."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_server.matrix.errors import InvalidEmail
from identity_server.matrix.threepid import Threepid, canonical_email, mailbox

ALICE = "alice@example.org"


@pytest.mark.parametrize(
    "typed", ["alice@ｅxample.org", "alice@EXAMPLE.ｏrg", "alice@exam\u00adple.org", "alice@ⅇxample.org"]
)
def test_a_domain_that_is_another_one_to_the_mail_server_is_that_one(typed: str) -> None:
    assert canonical_email(typed) == ALICE


@pytest.mark.parametrize(
    "address", ["a@bücher.de", "a@ταΐζω.gr".casefold(), "a@डाटामेल.भारत", "ä@例え.テスト", "a@xn--bcher-kva.de"]
)
def test_a_proper_domain_stays_as_it_is_folded(address: str) -> None:
    assert canonical_email(address) == canonical_email(address.upper()) == address


@pytest.mark.parametrize(
    "typed",
    [
        "a@٣.org",
        "a@☃.org",
        "a@bü_cher.de",
        "a@-ü.de",
        "a@ü..de",
        "a@ü.de.",
        "a@ü／b.de",
        "a@\u00ad",
        f"a@{'ü' * 63}.de",
    ],
)
def test_what_has_no_domain_that_mail_is_delivered_to_is_no_address(typed: str) -> None:
    with pytest.raises(InvalidEmail):
        canonical_email(typed)


def test_the_names_of_a_domain_in_any_script_and_in_ascii_are_of_one_mailbox() -> None:
    boxes = {mailbox(Threepid("email", canonical_email(f"a@{domain}"))) for domain in ("bücher.de", "xn--bcher-kva.de")}
    assert boxes == {"email a@xn--bcher-kva.de"}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5))
def test_folding_an_address_again_changes_nothing(label: str) -> None:
    with suppress(InvalidEmail):
        address = canonical_email(f"a@{label}b.org")
        assert canonical_email(address) == canonical_email(f"a@{label}b.org".lower()) == address.casefold() == address
