"""An account that has accepted every policy: what most endpoints ask for."""

from typing import Annotated

from fastapi import Depends

from identity_server.identity.access.current import Account, AnyAccount
from identity_server.identity.terms import store
from identity_server.identity.terms.policies import unsigned
from identity_server.matrix.errors import TermsNotSigned
from identity_server.runtime.dependencies import OpenResources


async def require_terms(account: AnyAccount, resources: OpenResources) -> Account:
    terms = resources.settings.terms
    if terms.policies:
        async with resources.database.reading() as session:
            accepted = await store.accepted_urls(session, account.user_id)
        if unsigned(terms, accepted):
            raise TermsNotSigned("Please accept our updated terms of service before continuing")
    return account


SignedAccount = Annotated[Account, Depends(require_terms)]
