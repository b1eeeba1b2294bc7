"""A hook of the site's build: pages link to files of the repository, which the site does not hold."""

import re
from typing import Any

OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\((?:\.\./)+([^)\s#]+)(?:#[^)]*)?\)")
"""A Markdown link that leaves docs/: its text, and the path from the repository's root."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Such a link becomes its text and the path, so that no page has a dead link."""
    return OUTSIDE.sub(lambda m: f"`{m[2]}`" if m[1].strip("`") == m[2] else f"{m[1]} (`{m[2]}`)", markdown)
