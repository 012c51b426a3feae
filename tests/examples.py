"""How many examples a property test draws: in `make test` few and the same each time, in `make explore` many others."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

REPEATABLE = "repeatable"
EXAMPLES = 100  # of a property that asks for no other number
EXPLORED = 20  # times as many, of every property

# How long an example takes says something about the machine and what else it does, so nothing here depends on it.
settings.register_profile(
    REPEATABLE,
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    database=None,
)
settings.register_profile(
    "explore",
    max_examples=EXAMPLES * EXPLORED,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=False,  # which Hypothesis would choose by itself where the environment says CI
    print_blob=True,
)


def examples(count: int, *allowed: HealthCheck) -> settings:
    """The settings of a property that draws another number of examples than most.

    Args:
        count: In `make test`; `make explore` multiplies it like everybody's.
        allowed: Health checks that do not apply to it.
    """
    profile = settings()
    return settings(
        max_examples=count * profile.max_examples // EXAMPLES,
        suppress_health_check=[*profile.suppress_health_check, *allowed],
    )
