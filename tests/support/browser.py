"""A real browser for tests, where Debian's Chromium is installed: what a page becomes when it is shown.

browser.rendered(path)      the DOM after loading, as HTML; scripts had their chance
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_SECONDS = 60


def rendered(path: Path) -> str:
    """The page's DOM once it is loaded; nothing is fetched from anywhere.

    Raises:
        RuntimeError: the browser failed; with what it said.
    """
    with tempfile.TemporaryDirectory(prefix="assay-browser-") as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-extensions", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
                 "--hide-scrollbars", f"--user-data-dir={profile}", "--window-size=1000,900",
                 "--virtual-time-budget=2000", "--dump-dom"]  # fmt: skip
        done = subprocess.run(
            [str(CHROMIUM), *flags, path.as_uri()], capture_output=True, timeout=_SECONDS, check=False,
            env={**os.environ, "HOME": profile},
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-2000:])
    return done.stdout.decode()
