"""Every setting of `cnnclf tune`."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from cnnclf.config.sections import CommandConfig, setting

_AUTO = BeforeValidator(lambda value: None if value == "auto" else value)


class TuneConfig(CommandConfig):
    """How settings are searched; what is trained is in the space and in --fix."""

    command: ClassVar[str] = "tune"

    minutes: float = setting(30.0, "Minutes that the search may take.", gt=0, le=100_000)
    trials: Annotated[Annotated[int, Field(ge=2, le=100_000)] | None, _AUTO] = setting(
        None,
        "Number of configurations; no more are tried even if there is time.",
        unset="as many as fit",
    )
    sampler: Literal["evolution", "random", "tpe", "gp", "cmaes"] = setting(
        "evolution",
        "What chooses configurations: quasi-random points, then changes of the best "
        "ones; random points; or a sampler of Optuna (extra tune).",
    )
    seeds: int = setting(3, "Seeds that the best configurations are trained with.", ge=1, le=20)
    jobs: Annotated[Annotated[int, Field(ge=1, le=1000)] | None, _AUTO] = setting(
        None,
        "Trials that are trained side by side, by Ray (extra ray).",
        unset="1; with --gpus one per GPU, with --ray one per node",
    )
    gpus: bool = setting(False, "Give each trial that is trained side by side one GPU.")
    seed: int = setting(0, "Random seed of the search and the trials.", ge=0, lt=2**31)
