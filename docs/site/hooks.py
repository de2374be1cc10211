"""A hook of MkDocs: the pages of the site are the repository's own, at the paths that they have there.

So nothing is stored twice, and a link that works in the repository works on the site.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ("README.md", "docs/*.md", "docs/images/*", "docs/tutorials/**/*", "benchmarks/*.md", "benchmarks/results/*")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages, their pictures and the result files."""
    for path in sorted(path for pattern in PAGES for path in ROOT.glob(pattern) if path.is_file()):
        name = path.relative_to(ROOT).as_posix()
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files
