"""Every setting of `cnnclf tune`."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from cnnclf.config.sections import CommandConfig


class TuneConfig(CommandConfig):
    """How settings are searched; what is trained is in the space and in --fix."""

    command: ClassVar[str] = "tune"

    minutes: float = Field(30.0, gt=0, le=100_000, description="Minutes that the search may take.")
    trials: Annotated[
        Annotated[int, Field(ge=2, le=100_000)] | None,
        BeforeValidator(lambda value: None if value == "auto" else value),
    ] = Field(
        None,
        description="Number of configurations; no more are tried even if there is time.",
        json_schema_extra={"unset": "as many as fit"},
    )
    sampler: Literal["evolution", "random", "tpe", "gp", "cmaes"] = Field(
        "evolution",
        description="What chooses configurations: quasi-random points, then changes of the best "
        "ones; random points; or a sampler of Optuna (extra tune).",
    )
    seeds: int = Field(
        3, ge=1, le=20, description="Seeds that the best configurations are trained with."
    )
    jobs: Annotated[
        Annotated[int, Field(ge=1, le=1000)] | None,
        BeforeValidator(lambda value: None if value == "auto" else value),
    ] = Field(
        None,
        description="Trials that are trained side by side, by Ray (extra ray).",
        json_schema_extra={"unset": "1; with --gpus one per GPU, with --ray one per node"},
    )
    gpus: bool = Field(False, description="Give each trial that is trained side by side one GPU.")
    seed: int = Field(0, ge=0, lt=2**31, description="Random seed of the search and the trials.")
