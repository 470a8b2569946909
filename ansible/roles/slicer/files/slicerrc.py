"""Run by 3D Slicer at every start, by SLICERRC: points the module MONAILabel at the server of this session.

Whatever is wrong with what the session says, Slicer starts, with the server that the image was baked with.
"""


# Slicer runs this in the globals of its console: all is in one function, whose name is taken away again.
def _kiln():
    import json
    import logging
    import os
    from pathlib import Path
    from urllib.parse import urlsplit

    import slicer

    log = logging.getLogger("kiln")
    appstream = "APPSTREAM_SESSION_CONTEXT"
    longest = 65536
    remembered = 10

    def address(said):
        """Return an address as the module takes it."""
        text = said.strip()
        parts = urlsplit(text)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or "@" in parts.netloc
            or any(char in ';,"\\' or not char.isprintable() or char.isspace() for char in text)
        ):
            raise ValueError(f"{text[:200]!r} is no address of a server")
        parts.port  # noqa: B018  (raises where it is no number)
        return text.rstrip("/")

    def named(text):
        """Return the address in a text: itself, or server_url of a JSON object."""
        if text.lstrip().startswith("{"):
            return address(json.loads(text)["server_url"])
        return address(text)

    def context_file():
        path = Path(baked["file"])
        if not path.is_file():
            return ""
        with path.open(encoding="utf-8") as file:
            text = file.read(longest)
        if not text.lstrip().startswith("{"):
            raise ValueError("it is no JSON object")
        return text

    def session_context():
        # It is everybody's: what is no JSON object with a server is meant for another program.
        text = os.environ.get(appstream, "")
        return text if text.lstrip().startswith("{") and "server_url" in text else ""

    sources = {
        "the environment": lambda: os.environ.get(baked["variable"], ""),
        "the session's context": session_context,
        "the session's file": context_file,
        "the image": lambda: baked["server_url"],
    }
    baked = json.loads((Path(os.environ["SLICERRC"]).parent / "server.json").read_text(encoding="utf-8"))
    for source, said in sources.items():
        try:
            text = said()
            server = named(text) if text.strip() else ""
        except Exception as error:
            log.warning("kiln: %s names no server: %s", source, error)
            continue
        if server:
            break
    else:
        return
    settings = slicer.app.settings()
    known = settings.value("MONAILabel/serverUrlHistory")
    known = known.split(";") if isinstance(known, str) else []
    history = dict.fromkeys([server, baked["server_url"], *baked["history"], *filter(None, known)])
    settings.setValue("MONAILabel/serverUrl", server)
    settings.setValue("MONAILabel/serverUrlHistory", ";".join(list(history)[:remembered]))
    log.info("kiln: %s names the server %s", source, server)


try:
    _kiln()
except Exception as error:
    print(f"kiln: the settings stay as they are: {error!r}")
finally:
    del _kiln
