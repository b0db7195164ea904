"""``src/microblog_rt/openapi.json``, which the server serves, made from ``docs/openapi.yaml``.

``python -m tests.openapi_document`` writes it.
"""

import json

import schemathesis

from microblog_rt import files


def document() -> str:
    """The content of the file."""
    schema = schemathesis.openapi.from_path(str(files.CHECKOUT / "docs" / "openapi.yaml"))
    return json.dumps(schema.raw_schema, ensure_ascii=False, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    files.OPENAPI.write_text(document())
