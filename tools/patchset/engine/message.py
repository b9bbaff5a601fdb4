"""From a patch's header to a commit: author, date and message, as `git am` reads them.

Mail headers: RFC 5322; a quilt patch's free text or DEP-3 fields are taken as they are.
"""

from __future__ import annotations

import re

from patchset.model.patch import Patch
from patchset.store.objects import Signature

UNKNOWN = Signature("patchset", "patchset@localhost", "0 +0000")
_PREFIX = re.compile(r"^(?:\s*\[[^\]]*\])+\s*")
_FIELD = re.compile(r"^(?:From |[A-Za-z][A-Za-z-]*:)")


def author_and_message(patch: Patch) -> tuple[Signature, str]:
    """Return the commit's author and message; both depend on the patch's bytes alone."""
    # Imported here: a run with nothing to do makes no commit.
    from email import message_from_string
    from email.policy import default
    from email.utils import parseaddr, parsedate_to_datetime

    header = patch.header.removeprefix("\ufeff").replace("\r\n", "\n")
    text = re.split(r"^---\s*$", header, maxsplit=1, flags=re.MULTILINE)[0].strip("\n")
    if not _FIELD.match(text):
        return UNKNOWN, _message(patch.name, text)
    mail = message_from_string(text, policy=default)
    subject = _PREFIX.sub("", str(mail.get("Subject") or mail.get("Description") or "")).strip()
    body = str(mail.get_payload() or "")
    name, email = parseaddr(str(mail.get("From") or mail.get("Author") or ""))
    when = UNKNOWN.when
    if date := mail.get("Date"):
        try:
            parsed = parsedate_to_datetime(str(date))
            when = f"{int(parsed.timestamp())} {parsed.strftime('%z') or '+0000'}"
        except (ValueError, TypeError):
            when = UNKNOWN.when
    author = Signature(_plain(name) or UNKNOWN.name, _plain(email) or UNKNOWN.email, when)
    return author, _message(subject or patch.name, body)


def _message(subject: str, body: str) -> str:
    subject = " ".join(subject.split())
    body = "\n".join(line.rstrip() for line in body.strip().split("\n"))
    return f"{subject}\n\n{body}\n" if body else f"{subject}\n"


def _plain(text: str) -> str:
    # Git forbids these in an identity (ident.c, `crud`).
    return re.sub(r"[<>\n\0]", "", text).strip()
