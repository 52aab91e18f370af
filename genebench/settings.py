"""Where things are and how work runs: from the environment (`GENEBENCH_*`) or `genebench.toml`."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from genebench.errors import WrongSettings
from genebench.registry.yaml_reader import mistakes_of

FILE = "genebench.toml"
Precision = Literal["auto", "float32", "bfloat16", "int8"]


class Settings(BaseSettings):
    """All settings. The environment wins over the file `genebench.toml` in the working folder."""

    model_config = SettingsConfigDict(
        env_prefix="GENEBENCH_", toml_file=FILE, extra="forbid", frozen=True
    )

    lake: str = Field(default="./lake", description="folder or S3 URL of the lake")
    storage_options: dict[str, str] = Field(
        default_factory=dict, description="credentials and endpoint of an object store"
    )
    sources: str | None = Field(
        default=None, description="folder or mirror that source files come from, not their URLs"
    )
    versions: dict[str, str] = Field(
        default_factory=dict,
        description="source (hpa) or source file to the version wanted; the last fetched otherwise",
    )
    own_tasks: list[Path] = Field(
        default_factory=list, description="folders and YAML files with tasks of your own"
    )
    shared: Path = Field(
        default=Path("../shared"), description="folder with real source data, for the tests"
    )
    profile: str = Field(default="embedded", description="embedded or paper")
    protocol: str = Field(default="standard", description="standard or paper")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1, description="threads of the probes; all cores")
    memory_gb: float = Field(default=4.0, gt=0, description="memory the probe engine may plan with")
    precision: Precision = Field(
        default="auto", description="of products that only steer the probe engine"
    )
    weights: Path = Field(
        default=Path("./weights"), description="folder with the checkpoints of the encoders"
    )
    runner: Literal["threads", "dask"] = "threads"
    dask_address: str | None = Field(
        default=None, description="address of a Dask scheduler; a cluster of its own by default"
    )
    workers: int = Field(default=1, ge=1, description="encoders at work at once in one place")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What was passed, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


@lru_cache
def get_settings() -> Settings:
    """Read the settings once a process.

    Raises:
        WrongSettings: One is unknown or has a value that it cannot have; lists every mistake.
    """
    try:
        return Settings()
    except ValidationError as error:
        mistakes = list(mistakes_of(Settings, error))
    except (SettingsError, tomllib.TOMLDecodeError) as error:
        mistakes = [str(error)]
    # Chained to nothing: what pydantic raised shows values, credentials among them.
    raise WrongSettings(
        f"the settings (GENEBENCH_* in the environment, or {FILE}) cannot be read:\n"
        + "\n".join(f"  {mistake}" for mistake in mistakes)
    )
