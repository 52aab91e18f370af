"""Settings, read from environment variables (`GENEBENCH_*`) and the file `genebench.toml`."""

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

from genebench.errors import InvalidSettings
from genebench.registry.yaml_reader import validation_messages

FILE = "genebench.toml"


class Settings(BaseSettings):
    """All settings; the environment takes precedence over the file `genebench.toml`."""

    model_config = SettingsConfigDict(
        env_prefix="GENEBENCH_", toml_file=FILE, extra="forbid", frozen=True
    )

    lake: str = Field(default="./lake", description="folder or S3 URL of the lake")
    storage_options: dict[str, str] = Field(
        default_factory=dict, description="credentials and endpoint of an object store"
    )
    sources: str | None = Field(
        default=None, description="folder or mirror to read source files from, not their URLs"
    )
    versions: dict[str, str] = Field(
        default_factory=dict,
        description="source (hpa) or source file to its version; by default the last one fetched",
    )
    own_tasks: list[Path] = Field(
        default_factory=list, description="folders and YAML files with user tasks"
    )
    shared: Path = Field(
        default=Path("../shared"), description="folder with real source data, for the tests"
    )
    profile: str = Field(default="embedded", description="embedded or paper")
    protocol: str = Field(default="standard", description="standard or paper")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(
        default=None, ge=1, description="threads of the probes; by default one for each core"
    )
    memory_gb: float = Field(default=4.0, gt=0, description="memory budget of the linear solver")
    weights: Path = Field(
        default=Path("./weights"), description="folder with the checkpoints of the encoders"
    )
    cache: Path | None = Field(
        default=None,
        description="folder with the results of `genebench evaluate`; by default the user's cache",
    )
    runner: Literal["threads", "dask"] = "threads"
    dask_address: str | None = Field(
        default=None, description="address of a Dask scheduler; by default a local cluster"
    )
    workers: int = Field(
        default=1, ge=1, description="encoders that run at the same time on one machine"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings by precedence: arguments, environment, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


@lru_cache
def get_settings() -> Settings:
    """Read the settings, once per process.

    Raises:
        InvalidSettings: A setting is unknown or its value is invalid; lists every mistake.
    """
    try:
        return Settings()
    except ValidationError as error:
        mistakes = list(validation_messages(Settings, error))
    except (SettingsError, tomllib.TOMLDecodeError) as error:
        mistakes = [str(error)]
    # Not chained: pydantic's error shows the values, which may be credentials.
    raise InvalidSettings(
        f"the settings (GENEBENCH_* in the environment, or {FILE}) cannot be read:\n"
        + "\n".join(f"  {mistake}" for mistake in mistakes)
    )
