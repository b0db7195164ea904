"""The peers: programs that do a part of what microblog-rt does, measured beside it with the same load.

    process.py       starts a peer's process and stops it
    push.py          the push servers: Centrifuge, nchan and python-socketio
    centrifuge/, nchan.conf, socketio_app.py   their programs and configuration
    tutorial.py      starts the Flask peer and signs its users in
    flask_app.py     the Flask peer: the three routes of the tutorial that the benchmarks use

See also: ``.ci/tools``, which installs those that are Debian packages, and the extra ``bench``.
"""
