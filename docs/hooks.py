"""Hooks of mkdocs.

The page of the changelog is the file of the repository, options in tables stay in one piece, and the header has a link
to the repository once pyproject.toml has its address.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

CODE_IN_CELL = re.compile(r"(?<=<code>)[^<]*-[^<]*(?=</code>)")


def on_config(config: Any) -> Any:
    path = Path(config["config_file_path"]).with_name("pyproject.toml")
    urls = tomllib.loads(path.read_text(encoding="utf-8"))["project"].get("urls", {})
    config["repo_url"] = urls.get("Source")
    config["repo_name"] = config["site_name"] if config["repo_url"] else None
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    if page.file.src_uri != "changelog.md":
        return markdown
    changelog = Path(config["config_file_path"]).with_name("CHANGELOG.md").read_text(encoding="utf-8")
    return changelog.replace("](docs/", "](")


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Browsers break lines after a hyphen, also in `--seed`. Words with a hyphen are therefore marked for the style."""
    return re.sub(r"<td.*?</td>", lambda cell: CODE_IN_CELL.sub(with_whole_words, cell[0]), html, flags=re.DOTALL)


def with_whole_words(code: re.Match[str]) -> str:
    return re.sub(r"\S*-\S*", r'<span class="whole">\g<0></span>', code[0])
