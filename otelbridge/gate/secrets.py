"""What passwords, tokens and keys look like in a command line: the built-in patterns.

Every pattern takes time in proportion to the text, whatever an attacker writes: no quantifier stands inside another,
and a run that can be long starts only where the run before it has ended. The tests time them on texts made to hurt.
"""

from __future__ import annotations

from typing import NamedTuple

# A name that says that a secret follows. `pwd` alone is the working directory.
_NAME = (
    r"(?:pass(?:word|wd|phrase)|passwd|(?<=[_-])pwd|(?<=[_-])pass|secret|token|credentials?"
    r"|api[_-]?key|access[_-]?key(?:[_-]?id)?|secret[_-]?key|private[_-]?key|encryption[_-]?key|auth[_-]?key|account[_-]?key)"
)


class SecretPattern(NamedTuple):
    """One kind of secret."""

    name: str
    hints: tuple[str, ...]
    """One of these is in the text, in lower case, or the pattern need not be tried."""
    pattern: str
    """The group `secret` is what is blacked out; without it, all that matches."""
    needs: str = ""
    """A pattern that must be found in the text too, such as the name of a program."""


SECRET_PATTERNS: tuple[SecretPattern, ...] = (
    SecretPattern(
        "flag",
        ("pass", "pwd", "secret", "token", "credential", "key"),
        rf"(?i)(?<!\S)--?[\w-]{{0,64}}?{_NAME}(?:=|\s{{1,4}})(?P<secret>(?!-|pass:)\S+)",
    ),
    SecretPattern(
        "assignment",
        ("pass", "pwd", "secret", "token", "credential", "key"),
        rf"(?i){_NAME}[\"']?\s{{0,4}}[=:]\s{{0,4}}[\"']?(?P<secret>[^\s\"'&;,]+)",
    ),
    SecretPattern(
        "authorization",
        ("authorization",),
        r"(?i)authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:(?:bearer|basic|token|digest|negotiate)\s{1,4})?"
        r"(?P<secret>[^\s\"']+)",
    ),
    SecretPattern("bearer", ("bearer",), r"(?i)(?<![\w-])bearer\s{1,4}(?P<secret>[\w.~+/=-]{8,})"),
    SecretPattern("url_password", ("://",), r"(?i)://[^\s/:@]{0,256}:(?P<secret>[^\s/@]{1,1024})@"),
    SecretPattern("basic_auth", ("-u", "--user"), r"(?<!\S)(?:-u|--user)(?:=|\s{0,4})[^\s:]{1,256}:(?P<secret>\S+)"),
    SecretPattern("mysql_password", ("mysql", "mariadb"), r"(?<!\S)-p(?P<secret>\S+)", needs=r"(?i)(?:mysql|mariadb)"),
    SecretPattern("sshpass", ("sshpass",), r"(?<!\S)-p\s{0,4}(?P<secret>\S+)"),
    SecretPattern("redis_password", ("redis-cli",), r"(?<!\S)-a\s{1,4}(?P<secret>\S+)"),
    SecretPattern("login_password", (" login ",), r"(?<!\S)-p\s{0,4}(?P<secret>\S+)"),
    SecretPattern("openssl_password", ("pass:",), r"(?<![\w])pass:(?P<secret>\S+)"),
    SecretPattern("aws_access_key", ("akia", "asia"), r"(?<![0-9A-Za-z])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"),
    SecretPattern("github_token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"(?<!\w)gh[pousr]_\w{20,}"),
    SecretPattern("github_pat", ("github_pat_",), r"(?<!\w)github_pat_\w{20,}"),
    SecretPattern("gitlab_token", ("glpat-",), r"(?<![\w-])glpat-[\w-]{16,}"),
    SecretPattern("slack_token", ("xox",), r"(?<![\w-])xox[abeoprs]-[\w-]{10,}"),
    SecretPattern("jwt", ("eyj",), r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"),
    SecretPattern(
        "private_key", ("private key-----",), r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----(?P<secret>[^-]{1,16384})"
    ),
)


def secrets_markdown() -> str:
    """The built-in patterns for the documentation."""
    lines = ["| kind | pattern |", "|---|---|"]
    lines += [f"| `{kind.name}` | `{kind.pattern.replace('|', chr(92) + '|')}` |" for kind in SECRET_PATTERNS]
    return "\n".join(lines) + "\n"
