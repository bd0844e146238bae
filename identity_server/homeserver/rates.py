"""How often one may ask, beside what ``[rate_limits]`` says for the identity server."""

from identity_server.settings import RateLimitSettings


class HomeserverRates(RateLimitSettings):
    """A person who forgot a password meets none of these; somebody who guesses passwords meets them at once."""

    login_per_user: str = "20/10minutes; 200/day"
    login_per_source: str = "120/10minutes; 2000/day"
    registration_per_source: str = "60/10minutes; 1000/day"
    onbind_per_source: str = "600/minute"


def homeserver_rates(settings: RateLimitSettings) -> HomeserverRates:
    return HomeserverRates(enabled=settings.enabled, storage=settings.storage)
