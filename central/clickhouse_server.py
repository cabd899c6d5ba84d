"""ClickHouse's own HTTP server out of the chdb-core wheel: `python -m central.clickhouse_server DIR`.

The wheel holds all of clickhouse-local, whose `SYSTEM START LISTEN HTTP` opens the real HTTP handler. The last query
blocks on stdin, so the server lives as long as its parent holds the pipe. The port is written to `DIR/port`. The entry
point `_chdb.query` is private to the wheel: the version is pinned, and tests/central holds it.
"""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

_CONFIG = "<clickhouse><http_port>0</http_port><listen_host>127.0.0.1</listen_host></clickhouse>"


def main(folder: Path) -> None:
    """Serve until stdin ends."""
    root = folder.resolve()
    (root / "data").mkdir(parents=True, exist_ok=True)
    (root / "config.xml").write_text(_CONFIG, encoding="utf-8")
    library = next(path for entry in sys.path if (path := Path(entry, "chdb", "_chdb.abi3.so")).exists())
    # Loaded by file: `import chdb` would open an engine of its own in this process.
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_LOCAL | getattr(os, "RTLD_DEEPBIND", 0))
    loader = importlib.machinery.ExtensionFileLoader("_chdb", str(library))
    spec = importlib.util.spec_from_loader("_chdb", loader)
    assert spec is not None
    engine = importlib.util.module_from_spec(spec)
    loader.exec_module(engine)
    os.chdir(root)  # it reads ./config.xml
    script = (
        "SYSTEM START LISTEN HTTP;"
        f"SELECT getServerPort('http_port') INTO OUTFILE '{root}/port' TRUNCATE FORMAT TSV;"
        "SELECT count() FROM file('/dev/stdin', 'LineAsString', 'line String') FORMAT Null;"
        "SYSTEM STOP LISTEN HTTP"
    )
    engine.query(script, "TSV", path=str(root / "data"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
