"""Serve a registered version on this machine, and open the studio in a browser."""

from __future__ import annotations

import webbrowser

from components.config import Config
from deploy.api.studio import require_built
from workflows import serve


def run(config: Config, model: str | None = None, browser: bool = True) -> None:
    """Serve ``model`` (a URI; by default the version of `registry.alias`) until SIGINT or SIGTERM.

    Args:
        browser: open the studio in this machine's browser; otherwise only print its address.

    Raises:
        ConfigError: the studio is not built.
    """
    require_built()

    def ready(url: str) -> None:
        page = f"{url}/studio/"
        print(f"the studio is at {page} until you press Ctrl-C", flush=True)
        if browser:
            webbrowser.open(page)

    serve.run(config, model, ready)


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
