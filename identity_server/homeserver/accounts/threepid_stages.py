"""Stages that prove an address through an identity server ("Email-based", "Phone number/MSISDN-based")."""

from pydantic import ValidationError

from identity_server.homeserver.accounts.interactive import Attempt, Stage
from identity_server.homeserver.validation.own_account import OwnAccount
from identity_server.homeserver.validation.proven import Credentials, ProvenThreepid, proven
from identity_server.matrix.errors import InvalidParam, MissingParam, ThreepidAuthFailed, Unauthorized
from identity_server.matrix.threepid import EMAIL, MSISDN

EMAIL_IDENTITY = "m.login.email.identity"
MSISDN_IDENTITY = "m.login.msisdn"
STAGE_OF = {EMAIL: EMAIL_IDENTITY, MSISDN: MSISDN_IDENTITY}


def threepid_stage(own: OwnAccount, medium: str) -> Stage:
    """Passed by a session at a trusted identity server that has proven an address of ``medium``."""

    async def pass_stage(attempt: Attempt) -> ProvenThreepid:
        told = attempt.also("threepid_creds") or attempt.also("threepidCreds")  # as older clients spell it
        if told is None:
            raise MissingParam("auth.threepid_creds is missing")
        try:
            credentials = Credentials.model_validate(told)
        except ValidationError as error:
            raise InvalidParam("auth.threepid_creds are not the credentials of a session") from error
        try:
            found = await proven(own, credentials)
        except ThreepidAuthFailed as error:
            # What clients that wait for the link to be opened expect to hear meanwhile.
            raise Unauthorized("The address has not been proven yet") from error
        if found.threepid.medium != medium:
            raise Unauthorized("The session proves an address of another medium")
        return found

    return pass_stage
