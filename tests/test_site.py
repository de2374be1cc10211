"""The documentation as a site: it builds without a warning, from the repository's own pages, and loads nothing else."""

import os
import re
import subprocess
import sys

import cli
import pytest

PAGES = [cli.ROOT / "README.md", *sorted(cli.ROOT.glob("docs/**/*.md")), *sorted(cli.ROOT.glob("benchmarks/*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder


def build(folder):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/site/mkdocs.yml", "--site-dir", folder],
        cwd=cli.ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def html(site, page):
    """The file of a page."""
    place = page.relative_to(cli.ROOT).with_suffix("")
    return site / (place.parent if place.name == "README" else place) / "index.html"


@pytest.mark.program
def test_every_page_of_the_repository_is_a_page_of_the_site_with_its_pictures(site):
    assert len(PAGES) > 12
    shown = 0
    for page in PAGES:
        text = html(site, page).read_text()
        pictures = re.findall(r'<img [^>]*src="([^"]+)"', text)
        assert len(pictures) == len(re.findall(r"!\[", page.read_text())), page
        assert all((html(site, page).parent / picture).is_file() for picture in pictures), page
        shown += len(pictures)
    assert shown > 6


@pytest.mark.program
def test_the_site_loads_nothing_from_other_hosts(site):
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > len(PAGES)
    for path in files:
        # What a browser fetches by itself; a link to follow is an <a>.
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="?([^">]+)|<link [^>]*href="?([^">]+)', path.read_text())
        loaded = [first or second for first, second in loaded] + re.findall(r"url\(([^)]+)\)", path.read_text())
        assert not [url for url in loaded if re.match(r"['\"]?(?:https?:)?//", url)], path
