"""Settings: every field described once; ``.env.example`` and the README table are printed from here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytz
from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from appliance.errors import StartupError

SERVING_FILE = "serving.json"  # in the data folder: address and token of the appliance that serves it


class Config(BaseSettings):
    """Everything an operator may set, from the environment or ``.env``."""

    model_config = SettingsConfigDict(env_prefix="POSTFINDER_", env_file=".env", extra="ignore", frozen=True)

    data_dir: Annotated[Path, Field(description="Folder of the index, the ledger and the journal.")] = Path("data")
    key_file: Annotated[
        str,
        Field(description="Master key of the sealed data; empty is `<data folder>-keys/master.key`, beside the data."),
    ] = ""
    weights_dir: Annotated[Path, Field(description="Folder of model weights; never holds personal data.")] = Path(
        "weights"
    )
    host: Annotated[str, Field(description="Address the web door listens on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port of the web door; 0 takes a free one.")] = 8080
    threads: Annotated[int, Field(ge=0, description="Threads for the embedder; 0 takes all cores, 4 at most.")] = 0
    embedder: Annotated[str, Field(description="Model card of the embedder (`models/cards`).")] = (
        "multilingual-e5-small"
    )
    embedder_url: Annotated[
        str,
        Field(
            description="Base URL of a server that runs that card, e.g. http://embedder:8001/v1; empty runs it here."
        ),
    ] = ""
    reranker: Annotated[
        str,
        Field(
            description="Model card of a reranker that reads the first 20 posts found and orders them anew, e.g. "
            "bge-reranker-v2-m3; empty for none."
        ),
    ] = ""
    reranker_deadline_s: Annotated[
        float, Field(gt=0, description="Seconds a search waits for the reranker; then its order is as found.")
    ] = 2.0
    generator_url: Annotated[
        str, Field(description="OpenAI-compatible base URL of vLLM, e.g. http://vllm:8000/v1; empty quotes the posts.")
    ] = ""
    generator_model: Annotated[
        str, Field(description="Model name asked of the generator; empty takes the first it serves.")
    ] = ""
    generator_context_tokens: Annotated[
        int,
        Field(
            ge=1024,
            description="Most tokens of prompt and answer, or fewer if the generator has fewer; posts are cut to fit.",
        ),
    ] = 8192
    answer_above: Annotated[
        float,
        Field(ge=0, le=1, description="Probability that the posts answer, under which the answer is “not found”."),
    ] = 0.5
    answer_deadline_s: Annotated[
        float, Field(gt=0, description="Seconds the generator has for a whole answer; then the posts are quoted.")
    ] = 30.0
    telegram_token: Annotated[
        SecretStr,
        Field(
            validation_alias=AliasChoices("TELEGRAM_BOT_TOKEN", "POSTFINDER_TELEGRAM_TOKEN"),
            description="Bot token from @BotFather; empty leaves the bot off.",
        ),
    ] = SecretStr("")
    telegram_token_file: Annotated[
        str, Field(description="File that holds the bot token, read where the token itself is not set.")
    ] = ""
    telegram_api: Annotated[str, Field(description="Base URL of the Bot API server; empty takes Telegram's own.")] = ""
    telegram_webhook_url: Annotated[
        str,
        Field(
            description="Public https address that Telegram posts updates to, led to `/telegram/webhook` of the web "
            "door; empty fetches them."
        ),
    ] = ""
    telegram_webhook_secret: Annotated[
        SecretStr,
        Field(description="Secret that every posted update must carry: 16 to 256 letters, digits, `_` and `-`."),
    ] = SecretStr("")
    timezone: Annotated[
        str, Field(description="Time zone of the community: where “yesterday” and “last week” begin and end.")
    ] = "Europe/Moscow"
    approve_channels_of_admins: Annotated[
        bool,
        Field(description="Whether a channel to which an owner or admin adds the bot needs no further approval."),
    ] = True
    read_previews: Annotated[
        bool,
        Field(
            description="Read public channels from their preview pages (t.me/s) where the bot is no admin. Telegram's "
            "terms forbid scraping for data sets: only with the channel owner's consent."
        ),
    ] = False
    read_feeds: Annotated[
        bool, Field(description="Read channels from RSS or Atom feeds; the terms of whoever runs the feed hold.")
    ] = False
    read_every_minutes: Annotated[
        float, Field(ge=5, description="Minutes between two visits to a preview page or a feed.")
    ] = 30.0
    log: Annotated[Literal["auto", "json", "plain"], Field(description="Log lines as JSON, plain, or by terminal.")] = (
        "auto"
    )
    max_question_chars: Annotated[int, Field(ge=16, description="Longest question accepted, in characters.")] = 2000
    max_body_bytes: Annotated[int, Field(ge=1024, description="Largest HTTP body accepted, in bytes.")] = 65536
    remembered_answers: Annotated[
        int, Field(ge=0, description="Answers remembered in RAM for the same question asked again; 0 for none.")
    ] = 1000
    chunks_in_ram: Annotated[
        int, Field(ge=0, description="Chunks searched in RAM, about 4 KB each; LanceDB's index searches more of them.")
    ] = 200_000
    remembered_searches: Annotated[
        int, Field(ge=0, description="Search results remembered in RAM, about 4 KB each; 0 for none.")
    ] = 4000
    max_questions_at_once: Annotated[
        int, Field(ge=1, description="Questions answered at one time; the next is asked to come back in a second.")
    ] = 64
    plans: Annotated[bool, Field(description="Quotas and paid plans; off, everyone asks without a limit.")] = False
    free_per_day: Annotated[int, Field(ge=0, description="With plans: free questions a day; 0 for no limit.")] = 0
    free_per_month: Annotated[int, Field(ge=0, description="With plans: free questions a month; 0 for no limit.")] = 0
    payment_support: Annotated[
        str, Field(description="Whom a member asks about a payment, e.g. @owner; shown by /paysupport and /terms.")
    ] = ""
    guests: Annotated[
        bool,
        Field(
            description="Whether people who never wrote to the bot may ask open channels: inline, and as guests in "
            "chats where the bot is not."
        ),
    ] = False
    alerts_per_person: Annotated[
        int, Field(ge=0, description="Alerts (“tell me when somebody writes about …”) a person may have.")
    ] = 20
    quiet_hours: Annotated[
        str,
        Field(
            pattern=r"^(\d{1,2}-\d{1,2})?$",
            description="Hours, by the community's clock, in which alerts wait where a person chose no others; "
            "empty for none.",
        ),
    ] = "23-8"
    public_url: Annotated[
        str,
        Field(
            description="Address at which people reach the web door, e.g. https://ask.example.org; empty is its own."
        ),
    ] = ""
    admission: Annotated[
        Literal["open", "whitelist", "approval"],
        Field(description="Who may ask: everyone, the invited, or those approved; what an administrator chose counts."),
    ] = "open"
    antifraud: Annotated[
        Literal["off", "shadow", "on"],
        Field(description="Protection from abuse: off, only watching, or on; what an administrator chose counts."),
    ] = "shadow"
    keep_questions_days: Annotated[
        int, Field(ge=0, description="Days questions, answers and ratings are kept; 0 for ever.")
    ] = 365
    keep_events_days: Annotated[int, Field(ge=0, description="Days the audit log is kept; 0 for ever.")] = 730
    keep_quiet_people_days: Annotated[
        int, Field(ge=0, description="Days after which people who were not seen are erased; 0 never.")
    ] = 730
    backup_every_hours: Annotated[
        float, Field(ge=0, description="Hours between scheduled backups, each verified by restoring it; 0 for none.")
    ] = 24.0
    backup_dir: Annotated[
        str, Field(description="Folder of backups, best on another disk; empty is `<data folder>-backups`.")
    ] = ""
    backup_keep: Annotated[int, Field(ge=1, description="Scheduled backups kept; the oldest go.")] = 7
    keyring_copy_dir: Annotated[
        str, Field(description="Folder, best on another disk, for an up-to-date copy of the keyring; empty for none.")
    ] = ""

    def zone(self) -> ZoneInfo:
        """Return the community's time zone.

        Returns
        -------
        zoneinfo.ZoneInfo

        Raises
        ------
        StartupError
            There is no such zone.
        """
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
        try:
            with pytz.open_resource(self.timezone) as file:  # a system without zones of its own
                return ZoneInfo.from_file(file, key=self.timezone)
        except (ValueError, OSError):
            raise StartupError(
                f"There is no time zone {self.timezone}.",
                cure="Set POSTFINDER_TIMEZONE to a name such as Europe/Moscow or Asia/Yekaterinburg.",
            ) from None

    def backups(self) -> Path:
        """Return the folder of scheduled backups.

        Returns
        -------
        Path
        """
        folder = self.data_dir.absolute()
        return Path(self.backup_dir) if self.backup_dir else folder.with_name(f"{folder.name}-backups")

    def bot_token(self) -> str:
        """Return the bot's token, from its setting or its file; empty leaves the bot off.

        Returns
        -------
        str

        Raises
        ------
        StartupError
            If the file cannot be read.
        """
        token = self.telegram_token.get_secret_value()
        if token or not self.telegram_token_file:
            return token
        try:
            return Path(self.telegram_token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StartupError(
                f"The bot's token cannot be read from {self.telegram_token_file} ({type(error).__name__}).",
                cure="Let this user read it, or leave POSTFINDER_TELEGRAM_TOKEN_FILE empty.",
            ) from None

    def master_key(self) -> Path:
        """Return where the master key lies.

        Returns
        -------
        Path
        """
        folder = self.data_dir.absolute()
        return Path(self.key_file) if self.key_file else folder.with_name(f"{folder.name}-keys") / "master.key"
